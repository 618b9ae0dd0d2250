//! Why a request was refused, as an RFC 9457 problem document.
//!
//! `type` is a stable relative URI, `/problems/<kind>`; `title` and `status` follow from it alone. Handlers say what is
//! wrong; the middleware in [`super::describe`] adds where it happened.
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde::Serialize;

use super::trace::TraceId;
use crate::error::FieldError;

/// The media type of every problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a caller may try again when the server is briefly unable: long enough for a restart of a part.
pub const RETRY_AFTER_S: u32 = 1;

/// What a caller without valid credentials is told to bring (RFC 6750, section 3).
const CHALLENGE: &str = r#"Bearer realm="marvin""#;

/// Why a request was refused. Built by handlers and extractors, written out by [`super::describe`].
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: Option<Box<str>>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What one kind of refusal always says: its status, the last segment of its `type`, and its title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind(StatusCode, &'static str, &'static str);

impl Kind {
    const MALFORMED: Self = Self(StatusCode::BAD_REQUEST, "malformed", "The request is malformed");
    const UNAUTHENTICATED: Self = Self(StatusCode::UNAUTHORIZED, "unauthenticated", "Sign in first");
    const FORBIDDEN: Self = Self(StatusCode::FORBIDDEN, "forbidden", "Not permitted");
    const NOT_FOUND: Self = Self(StatusCode::NOT_FOUND, "not-found", "Not found");
    const NO_METHOD: Self = Self(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed");
    const CONFLICT: Self = Self(StatusCode::CONFLICT, "conflict", "Someone else was first");
    const LATE: Self = Self(StatusCode::CONFLICT, "late-result", "This no longer counts");
    const CANCELLED: Self = Self(StatusCode::CONFLICT, "cancelled", "The task was cancelled");
    const STALE: Self = Self(StatusCode::PRECONDITION_FAILED, "precondition-failed", "Changed since it was read");
    const TOO_LARGE: Self = Self(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large");
    const MEDIA_TYPE: Self =
        Self(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type");
    const REFUSED: Self = Self(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", "A value or rule was refused");
    const THROTTLED: Self = Self(StatusCode::TOO_MANY_REQUESTS, "throttled", "Too many requests");
    const INTERNAL: Self = Self(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error");
    const UNAVAILABLE: Self = Self(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable");
}

/// The constructors say when a problem applies; `detail` is shown to the caller and must hold nothing secret.
impl Problem {
    fn new(kind: Kind, detail: Option<String>) -> Self {
        Self { kind, detail: detail.map(String::into_boxed_str), errors: Vec::new(), headers: Vec::new(), cause: None }
    }

    /// 400: the request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Kind::MALFORMED, Some(detail.into()))
    }

    /// 401: no valid credentials; carries `WWW-Authenticate`.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(Kind::UNAUTHENTICATED, Some(detail.into()))
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE))
    }

    /// 403: the caller is known and lacks the permission or the CSRF token.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(Kind::FORBIDDEN, Some(detail.into()))
    }

    /// 404: absent, or not the caller's to see. The two are alike on purpose.
    pub fn not_found() -> Self {
        Self::new(Kind::NOT_FOUND, Some("There is nothing here, or it is not yours to see.".to_owned()))
    }

    /// 405: `allowed` are the methods that the path answers.
    pub fn method_not_allowed(allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let value = HeaderValue::try_from(&allowed).expect("method names are valid header text");
        Self::new(Kind::NO_METHOD, Some(format!("This path answers {allowed}."))).with_header(header::ALLOW, value)
    }

    /// 409: a lost race or a late result. Reload and decide again.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::CONFLICT, Some(detail.into()))
    }

    /// 409: what a worker says of an attempt that is not theirs any more. Stop working on it.
    pub fn late_result(detail: impl Into<String>) -> Self {
        Self::new(Kind::LATE, Some(detail.into()))
    }

    /// 409: the task that a worker is at work on was cancelled. Stop working on it.
    pub fn cancelled(detail: impl Into<String>) -> Self {
        Self::new(Kind::CANCELLED, Some(detail.into()))
    }

    /// 412: `If-Match` names a sequence that has passed.
    pub fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(Kind::STALE, Some(detail.into()))
    }

    /// 413: the body is longer than `bytes_max` bytes.
    pub fn too_large(bytes_max: usize) -> Self {
        Self::new(Kind::TOO_LARGE, Some(format!("A body here has at most {bytes_max} bytes.")))
    }

    /// 415: `detail` names the media type that is understood here.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(Kind::MEDIA_TYPE, Some(detail.into()))
    }

    /// 422: the request is well formed and a value or a rule is refused.
    pub fn unprocessable(detail: impl Into<String>, errors: Vec<FieldError>) -> Self {
        Self::new(Kind::REFUSED, Some(detail.into())).with_errors(errors)
    }

    /// 429: try again after `retry_after_s` seconds.
    pub fn throttled(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(Kind::THROTTLED, Some(detail.into())).with_header(header::RETRY_AFTER, retry_after_s.into())
    }

    /// 503: something the answer needs cannot be reached; try again after `retry_after_s` seconds.
    pub fn unavailable(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(Kind::UNAVAILABLE, Some(detail.into())).with_header(header::RETRY_AFTER, retry_after_s.into())
    }

    /// Tells the log, and nobody else, what caused it.
    #[must_use]
    pub fn because(self, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self { cause: Some(Arc::new(cause)), ..self }
    }

    /// 500: the caller learns the trace id only; [`super::describe`] logs `cause` under it.
    pub fn internal(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self { cause: Some(Arc::new(cause)), ..Self::new(Kind::INTERNAL, None) }
    }

    /// Names the values that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn status(&self) -> StatusCode {
        self.kind.0
    }

    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The headers that belong to this problem, such as `Allow`.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// What went wrong inside, outermost first: for the log, never for the caller.
    pub fn causes(&self) -> Vec<String> {
        let first = self.cause.as_deref().map(|cause| cause as &dyn StdError);
        std::iter::successors(first, |cause: &&dyn StdError| StdError::source(*cause))
            .map(ToString::to_string)
            .collect()
    }

    /// The problem that an answer with `status` from outside our handlers stands for.
    pub(super) fn foreign(status: StatusCode, cause: Option<String>) -> Self {
        let named = [Kind::FORBIDDEN, Kind::NO_METHOD, Kind::CONFLICT, Kind::STALE, Kind::TOO_LARGE, Kind::MEDIA_TYPE];
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::UNAUTHORIZED => Self::unauthenticated("This call needs valid credentials."),
            StatusCode::SERVICE_UNAVAILABLE => Self::unavailable("The server cannot answer right now.", RETRY_AFTER_S),
            _ if status.is_server_error() => {
                Self::internal(Foreign(cause.unwrap_or_else(|| "no cause given".to_owned())))
            }
            _ => {
                let kind = named.into_iter().find(|kind| kind.0 == status);
                let kind = kind.unwrap_or(Kind(status, "malformed", status.canonical_reason().unwrap_or("Refused")));
                Self::new(kind, Some("The request was refused before it reached its handler.".to_owned()))
            }
        }
    }

    /// The document's bytes, with where the problem happened once that is known.
    pub(super) fn document(&self, place: Option<&Place>) -> Vec<u8> {
        let Kind(status, kind, title) = self.kind;
        let document = Document {
            r#type: format!("/problems/{kind}"),
            title,
            status: status.as_u16(),
            detail: self.detail.as_deref(),
            instance: place.map(|place| place.instance.as_str()),
            trace_id: place.map(|place| place.trace_id.as_str()),
            errors: &self.errors,
        };
        serde_json::to_vec(&document).expect("a document of strings and numbers is valid JSON")
    }
}

/// Where a problem happened: the path without its query, which may hold a token, and the trace.
#[derive(Debug)]
pub(super) struct Place {
    pub instance: String,
    pub trace_id: TraceId,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Foreign(String);

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail.as_deref().unwrap_or(self.kind.2))
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status());
        for (name, value) in &self.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.set_body(BoxBody::new(self.document(None)))
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::from_error(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use rstest::rstest;

    #[rstest]
    #[case(Problem::malformed("d"), 400, "/problems/malformed")]
    #[case(Problem::unauthenticated("d"), 401, "/problems/unauthenticated")]
    #[case(Problem::forbidden("d"), 403, "/problems/forbidden")]
    #[case(Problem::not_found(), 404, "/problems/not-found")]
    #[case(Problem::method_not_allowed(&[Method::GET]), 405, "/problems/method-not-allowed")]
    #[case(Problem::conflict("d"), 409, "/problems/conflict")]
    #[case(Problem::late_result("d"), 409, "/problems/late-result")]
    #[case(Problem::cancelled("d"), 409, "/problems/cancelled")]
    #[case(Problem::precondition_failed("d"), 412, "/problems/precondition-failed")]
    #[case(Problem::too_large(1), 413, "/problems/too-large")]
    #[case(Problem::unsupported_media_type("d"), 415, "/problems/unsupported-media-type")]
    #[case(Problem::unprocessable("d", vec![]), 422, "/problems/unprocessable")]
    #[case(Problem::throttled("d", 7), 429, "/problems/throttled")]
    #[case(Problem::internal(Foreign("d".into())), 500, "/problems/internal")]
    #[case(Problem::unavailable("d", 7), 503, "/problems/unavailable")]
    #[actix_web::test]
    async fn each_problem_has_its_status_and_type(#[case] problem: Problem, #[case] status: u16, #[case] kind: &str) {
        let response = problem.error_response();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), PROBLEM_JSON);
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
        assert_eq!(body["type"], kind);
        assert_eq!(body["status"], status);
        assert_eq!(body["detail"].is_null(), status == 500, "only an internal error hides its detail");
    }

    #[rstest]
    #[case(Problem::unauthenticated("d"), "www-authenticate", "Bearer realm=\"marvin\"")]
    #[case(Problem::method_not_allowed(&[Method::GET, Method::POST]), "allow", "GET, POST")]
    #[case(Problem::throttled("d", 7), "retry-after", "7")]
    #[case(Problem::unavailable("d", 8), "retry-after", "8")]
    fn the_headers_that_a_status_requires_are_set(#[case] problem: Problem, #[case] name: &str, #[case] value: &str) {
        assert_eq!(problem.error_response().headers().get(name).unwrap(), value);
    }

    #[test]
    fn an_internal_problem_keeps_its_cause_for_the_log_only() {
        let problem = Problem::internal(Foreign("password is hunter2".into()));
        assert_eq!(problem.causes(), ["password is hunter2"]);
        assert!(!String::from_utf8(problem.document(None)).unwrap().contains("hunter2"));
    }

    #[test]
    fn a_problem_document_reads_as_documented() {
        let place = Place { instance: "/api/v1/agents".into(), trace_id: TraceId::from_headers(&parent()) };
        let errors = vec![FieldError::new("/name", "is empty")];
        let document = Problem::unprocessable("One value was refused.", errors).document(Some(&place));
        insta::assert_snapshot!(String::from_utf8(document).unwrap(), @r#"{"type":"/problems/unprocessable","title":"A value or rule was refused","status":422,"detail":"One value was refused.","instance":"/api/v1/agents","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","errors":[{"pointer":"/name","detail":"is empty"}]}"#);
    }

    fn parent() -> header::HeaderMap {
        let parent = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        header::HeaderMap::from_iter([(HeaderName::from_static("traceparent"), parent)])
    }
}
