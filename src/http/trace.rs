//! Names each request, so that an answer, a log line and a caller's trace can be brought together.
use std::fmt;

use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{HttpMessage, HttpRequest};

/// Carries the trace id of every answer, failed or not.
pub const MARVIN_TRACE_ID: HeaderName = HeaderName::from_static("marvin-trace-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A trace id is 16 bytes, written as 32 lowercase hexadecimal digits (W3C Trace Context, section 3.2.2.3).
const TRACE_ID_BYTES: usize = 16;

/// The `version-trace-parent-flags` part of a `traceparent` in characters; a later version may append to it.
const TRACEPARENT_CHARS: usize = 55;

/// The trace that a request belongs to: the caller's, when it names a valid one, else a random one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceId(String);

impl TraceId {
    /// The trace that `headers` continue, or a new one.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut parents = headers.get_all(TRACEPARENT);
        match (parents.next().and_then(|value| value.to_str().ok()), parents.next()) {
            (Some(parent), None) => parse_traceparent(parent).unwrap_or_else(Self::random),
            _ => Self::random(),
        }
    }

    /// The trace id that the error middleware gave to `request`; a new one when that middleware is not in place.
    pub fn of(request: &HttpRequest) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(Self::random)
    }

    fn random() -> Self {
        let mut bytes = [0_u8; TRACE_ID_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system provides randomness");
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads `00-<trace>-<parent>-<flags>`. Any defect means a new trace, as the standard asks; it is no reason to refuse.
fn parse_traceparent(text: &str) -> Option<TraceId> {
    let (head, tail) = text.split_at_checked(TRACEPARENT_CHARS)?;
    let fields: Vec<&str> = head.split('-').collect();
    let [version, trace, parent, flags] = fields[..] else { return None };
    let widths_fit = version.len() == 2 && trace.len() == 2 * TRACE_ID_BYTES && parent.len() == 16 && flags.len() == 2;
    let is_lower_hex = |text: &&str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let tail_fits = tail.is_empty() || (version != "00" && tail.starts_with('-'));
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let valid = widths_fit && tail_fits && fields.iter().all(is_lower_hex) && version != "ff";
    (valid && !is_zero(trace) && !is_zero(parent)).then(|| TraceId(trace.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        headers
    }

    #[rstest]
    #[case::current("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case::later_version("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more")]
    fn a_valid_traceparent_is_continued(#[case] parent: &str) {
        assert_eq!(TraceId::from_headers(&headers(&[parent])).as_str(), TRACE);
    }

    #[rstest]
    #[case::absent(&[])]
    #[case::empty(&[""])]
    #[case::upper_case(&["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"])]
    #[case::zero_trace(&["00-00000000000000000000000000000000-00f067aa0ba902b7-01"])]
    #[case::zero_parent(&["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"])]
    #[case::forbidden_version(&["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])]
    #[case::longer_than_its_version(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"])]
    #[case::short(&["00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"])]
    #[case::shifted(&["00-4bf92f3577b34da6a3ce929d0e0e4736a-0f067aa0ba902b7-01"])]
    #[case::twice(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; 2])]
    fn any_other_traceparent_starts_a_new_trace(#[case] parents: &[&str]) {
        let first = TraceId::from_headers(&headers(parents));
        assert_eq!(first.as_str().len(), 32);
        assert_ne!(first.as_str(), TRACE);
        assert_ne!(first, TraceId::from_headers(&headers(parents)), "each new trace is its own");
    }
}
