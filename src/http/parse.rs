//! Parses JSON strictly: UTF-8, bounded in depth, one document, with every fault named by a JSON Pointer (RFC 6901).
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::problem::Problem;
use crate::error::FieldError;

/// Levels of nested arrays and objects. Half of what the parser's own recursion bears, so the stack is never at stake.
pub const JSON_DEPTH_MAX: usize = 64;

/// Parses `raw` as one JSON text of at most [`JSON_DEPTH_MAX`] levels.
///
/// # Errors
/// 400 with a pointer to what is wrong and, in words, its line and column.
pub fn parse<T: DeserializeOwned>(raw: &[u8]) -> Result<T, Problem> {
    if raw.is_empty() {
        return Err(Problem::malformed("The body is empty; a JSON document was expected."));
    }
    let text = std::str::from_utf8(raw)
        .map_err(|error| Problem::malformed(format!("The body is not UTF-8 from byte {} on.", error.valid_up_to())))?;
    if is_too_deep(raw) {
        return Err(Problem::malformed(format!("The body nests deeper than {JSON_DEPTH_MAX} levels.")));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| unreadable(pointer(error.path().iter()), error.inner()))?;
    deserializer.end().map_err(|error| unreadable(String::new(), &error))?;
    Ok(value)
}

/// Counts brackets outside strings before the parser sees them, so that depth is refused at a known limit.
fn is_too_deep(raw: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in raw {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return true;
        }
    }
    false
}

fn unreadable(pointer: String, error: &serde_json::Error) -> Problem {
    let detail = if error.is_data() { "The body has not the form that is expected." } else { "The body is not JSON." };
    Problem::malformed(detail).with_errors(vec![FieldError::new(pointer, error.to_string())])
}

/// The 422 that a failed validation answers.
pub(super) fn invalid(report: &garde::Report) -> Problem {
    Problem::unprocessable("A value was refused.", field_errors(report))
}

/// What a validation found, each fault with the pointer to its value.
pub fn field_errors(report: &garde::Report) -> Vec<FieldError> {
    let pointer = |path: &garde::Path| path.__iter().rev().map(|(_, key)| escaped(key)).collect::<String>();
    report.iter().map(|(path, error)| FieldError::new(pointer(path), error.message())).collect()
}

/// The RFC 6901 pointer to where parsing stopped; it ends early where the parser lost track.
pub(super) fn pointer<'a>(segments: impl Iterator<Item = &'a Segment>) -> String {
    let token = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } | Segment::Enum { variant: key } => Some(escaped(key)),
        Segment::Unknown => None,
    };
    segments.map_while(token).collect()
}

fn escaped(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::StatusCode;
    use rstest::rstest;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the reading of it is tested")]
    #[serde(deny_unknown_fields)]
    struct Order {
        name: String,
        #[serde(default)]
        lines: Vec<Line>,
        #[serde(default)]
        tags: std::collections::BTreeMap<String, u8>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the reading of it is tested")]
    #[serde(deny_unknown_fields)]
    struct Line {
        count: u32,
    }

    #[rstest]
    #[case::empty("", "")]
    #[case::blank("  \n", "")]
    #[case::not_json("name=tea", "")]
    #[case::cut_off("{\"name\": \"te", "/name")]
    #[case::trailing_garbage("{\"name\": \"tea\"} x", "")]
    #[case::two_documents("{\"name\": \"tea\"}{}", "")]
    #[case::wrong_type("{\"name\": 5}", "/name")]
    #[case::deep_wrong_type("{\"name\": \"a\", \"lines\": [{\"count\": 1}, {\"count\": \"x\"}]}", "/lines/1/count")]
    #[case::escaped_key("{\"name\": \"a\", \"tags\": {\"a/b~c\": \"x\"}}", "/tags/a~1b~0c")]
    #[case::negative("{\"name\": \"a\", \"lines\": [{\"count\": -1}]}", "/lines/0/count")]
    #[case::huge_number("{\"name\": \"a\", \"lines\": [{\"count\": 1e999}]}", "/lines/0/count")]
    #[case::unknown_field("{\"name\": \"a\", \"nmae\": 1}", "/nmae")]
    #[case::missing_field("{}", "")]
    #[case::duplicate_field("{\"name\": \"a\", \"name\": \"b\"}", "")]
    #[case::array("[]", "")]
    #[case::null("null", "")]
    #[case::lone_surrogate("{\"name\": \"\\ud800\"}", "/name")]
    #[case::control_character("{\"name\": \"a\u{1}\"}", "/name")]
    fn a_body_of_another_form_is_400_with_its_pointer(#[case] body: &str, #[case] pointer: &str) {
        let refused = parse::<Order>(body.as_bytes()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{refused:?}");
        if let [error] = refused.errors() {
            assert_eq!(error.pointer, pointer);
            assert!(error.detail.contains(" at line 1 column ") || body.contains('\n'), "{error:?}");
        } else {
            assert_eq!(body, "", "only an empty body has nothing to point to");
        }
    }

    #[test]
    fn invalid_utf8_is_400() {
        let refused = parse::<Order>(b"{\"name\": \"\xff\"}").unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert_eq!(refused.detail(), Some("The body is not UTF-8 from byte 10 on."));
    }

    #[rstest]
    #[case::arrays("[", "]")]
    #[case::objects("{\"a\":", "}")]
    #[case::behind_a_string("{\"\\\"]]]]\":", "}")]
    fn sixty_four_levels_are_read_and_the_sixty_fifth_is_400(#[case] open: &str, #[case] close: &str) {
        let nested = |levels: usize| format!("{}0{}", open.repeat(levels), close.repeat(levels));
        assert!(parse::<serde_json::Value>(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        let refused = parse::<serde_json::Value>(nested(JSON_DEPTH_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(refused.detail(), Some("The body nests deeper than 64 levels."));
    }

    #[test]
    fn brackets_in_strings_and_side_by_side_are_not_depth() {
        let text = format!("[\"{}\", \"\\\"{}\"]", "[".repeat(200), "{".repeat(200));
        assert!(parse::<serde_json::Value>(text.as_bytes()).is_ok());
        assert!(parse::<serde_json::Value>(format!("[{}0]", "[],".repeat(200)).as_bytes()).is_ok());
    }
}
