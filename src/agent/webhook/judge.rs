//! What a receiver's answer comes to: taken on, an output, or a failure with a stable code.
use serde_json::Value;

use crate::{
    agent::TaskFailure,
    egress::{Answer, EgressError},
};

/// Levels of an output, as of every JSON text that comes in over the API.
const DEPTH_MAX: usize = 64;

/// Why a call came to no answer.
pub fn failure(error: EgressError) -> TaskFailure {
    let message = error.to_string();
    match error {
        EgressError::Blocked | EgressError::Url(_) => TaskFailure::lasting("webhook_blocked", message),
        EgressError::RequestTooLarge => TaskFailure::lasting("webhook_request_too_large", message),
        EgressError::AnswerTooLarge(_) => TaskFailure::lasting("webhook_answer_too_large", message),
        EgressError::Compressed => TaskFailure::lasting("webhook_answer_not_json", message),
        EgressError::TimedOut => TaskFailure::passing("webhook_timeout", message),
        EgressError::Unreachable(_) => TaskFailure::passing("webhook_unreachable", message),
    }
}

/// The answer, if its status says that the call was taken on.
pub fn accepted(answer: Answer) -> Result<Answer, TaskFailure> {
    let message = format!("the receiver answered with status {}", answer.status);
    match answer.status {
        200..=299 => Ok(answer),
        300..=399 => Err(TaskFailure::lasting("webhook_redirected", format!("{message}; redirects are not followed"))),
        408 | 425 | 429 => Err(TaskFailure::passing("webhook_busy", message).after(answer.retry_after)),
        400..=499 => Err(TaskFailure::lasting("webhook_refused", message)),
        _ => Err(TaskFailure::passing("webhook_failed", message).after(answer.retry_after)),
    }
}

/// The output that an answer holds: its JSON, or null where it has no body.
pub fn output(answer: &Answer) -> Result<Value, TaskFailure> {
    let refused = |message: &str| TaskFailure::lasting("webhook_answer_not_json", message);
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    if !is_json(&answer.media_type) {
        return Err(refused("the answer is not of the type application/json"));
    }
    let output: Value = serde_json::from_slice(&answer.body).map_err(|_| refused("the answer is not JSON"))?;
    if depth(&output) > DEPTH_MAX {
        return Err(refused("the answer nests deeper than 64 levels"));
    }
    Ok(output)
}

/// `application/json`, and what is built on it.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

/// The parser goes 128 levels deep at most, so this may.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rstest::rstest;
    use serde_json::json;
    use std::time::Duration;

    fn answer(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let retry_after = Some(Duration::from_secs(7));
        Answer { status, media_type: media_type.into(), retry_after, body: Bytes::from(body.into()) }
    }

    #[rstest]
    #[case(200, None)]
    #[case(204, None)]
    #[case(299, None)]
    #[case(302, Some(("webhook_redirected", false)))]
    #[case(308, Some(("webhook_redirected", false)))]
    #[case(400, Some(("webhook_refused", false)))]
    #[case(401, Some(("webhook_refused", false)))]
    #[case(404, Some(("webhook_refused", false)))]
    #[case(410, Some(("webhook_refused", false)))]
    #[case(408, Some(("webhook_busy", true)))]
    #[case(425, Some(("webhook_busy", true)))]
    #[case(429, Some(("webhook_busy", true)))]
    #[case(500, Some(("webhook_failed", true)))]
    #[case(503, Some(("webhook_failed", true)))]
    #[case(599, Some(("webhook_failed", true)))]
    #[case(101, Some(("webhook_failed", true)))]
    fn a_status_says_whether_another_attempt_may_help(#[case] status: u16, #[case] expected: Option<(&str, bool)>) {
        let judged = accepted(answer(status, "", "")).err();
        assert_eq!(judged.as_ref().map(|failure| (&*failure.code, failure.retry)), expected);
        let waits = judged.filter(|failure| failure.retry).map(|failure| failure.retry_after);
        assert!(waits.is_none_or(|after| after == Some(Duration::from_secs(7))));
    }

    #[rstest]
    #[case("application/json", "{\"a\": [1, null]}", Some(json!({ "a": [1, null] })))]
    #[case("Application/JSON; charset=utf-8", "7", Some(json!(7)))]
    #[case("application/problem+json", "[]", Some(json!([])))]
    #[case("", "", Some(Value::Null))]
    #[case("text/html", "", Some(Value::Null))]
    #[case("text/html", "{}", None)]
    #[case("", "{}", None)]
    #[case("application/jsonp", "{}", None)]
    #[case("application/json", "{", None)]
    #[case("application/json", "{} {}", None)]
    #[case("application/json", "<html>", None)]
    #[case("application/json", "1e999", None)]
    #[case("application/json", "\"\u{1}\"", None)]
    fn only_json_is_an_output(#[case] media_type: &str, #[case] body: &str, #[case] expected: Option<Value>) {
        let judged = output(&answer(200, media_type, body));
        assert_eq!(judged.as_ref().ok(), expected.as_ref());
        assert!(judged.err().is_none_or(|failure| failure.code == "webhook_answer_not_json" && !failure.retry));
    }

    #[test]
    fn an_output_is_no_deeper_than_what_comes_in_elsewhere() {
        for (levels, taken) in [(64, true), (65, false), (127, false), (100_000, false)] {
            let body = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            assert_eq!(output(&answer(200, "application/json", body)).is_ok(), taken, "{levels}");
        }
        assert!(output(&answer(200, "application/json", b"\"\xff\"".as_slice())).is_err());
    }
}
