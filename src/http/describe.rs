//! Makes every error answer a problem document, whoever refused: a handler, an extractor or the framework itself.
use std::panic::AssertUnwindSafe;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse};
use futures_util::FutureExt;

use super::problem::{PROBLEM_JSON, Place, Problem};
use super::trace::{MARVIN_TRACE_ID, TraceId};

/// The middleware that fills in `instance` and `trace_id` of every problem and names the trace on every answer.
///
/// An error answer that already has a structured body of its own (OAuth prescribes one) keeps it. A panic in a handler
/// becomes a 500: the caller gets a trace id rather than a cut connection.
///
/// # Errors
/// Only what no longer has its request: a panic, or an error from a middleware below. It carries the finished document.
pub async fn describe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let trace_id = TraceId::from_headers(request.headers());
    request.extensions_mut().insert(trace_id.clone());
    let place = Place { instance: request.path().to_owned(), trace_id };
    let error = match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => {
            let (request, response) = response.map_into_boxed_body().into_parts();
            return Ok(ServiceResponse::new(request, finish(response, &place)));
        }
        Ok(Err(error)) => error,
        Err(_) => Problem::internal(Panicked).into(),
    };
    let response = finish(HttpResponse::from_error(error), &place);
    Err(InternalError::from_response("refused before a route was reached", response).into())
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked")]
struct Panicked;

fn finish(response: HttpResponse, place: &Place) -> HttpResponse {
    let mut response = match problem_of(&response) {
        Some(problem) => written(response, &problem, place),
        None => response,
    };
    let trace_id = HeaderValue::try_from(place.trace_id.as_str()).expect("hexadecimal digits are valid header text");
    response.headers_mut().insert(MARVIN_TRACE_ID, trace_id);
    response
}

/// The problem that `response` stands for, or none when it succeeded or speaks a format of its own.
///
/// The framework's own texts are dropped: they name types and parsers, not what a caller can do.
fn problem_of(response: &HttpResponse) -> Option<Problem> {
    if let Some(problem) = response.error().and_then(|error| error.as_error::<Problem>()) {
        return Some(problem.clone());
    }
    let status = response.status();
    let is_plain = |value: &HeaderValue| value.as_bytes().starts_with(b"text/plain");
    let is_ours_to_write = response.headers().get(header::CONTENT_TYPE).is_none_or(is_plain);
    let refused = status.is_client_error() || status.is_server_error();
    (refused && is_ours_to_write).then(|| Problem::foreign(status, response.error().map(ToString::to_string)))
}

fn written(response: HttpResponse, problem: &Problem, place: &Place) -> HttpResponse {
    if problem.status().is_server_error() {
        log(problem, place);
    }
    let mut response = response.set_body(BoxBody::new(problem.document(Some(place))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.remove(header::CONTENT_LENGTH);
    add_missing(headers, problem.headers());
    response
}

fn add_missing(headers: &mut HeaderMap, wanted: &[(HeaderName, HeaderValue)]) {
    for (name, value) in wanted {
        if !headers.contains_key(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn log(problem: &Problem, place: &Place) {
    let cause = problem.causes().join(": ");
    let status = problem.status().as_u16();
    tracing::error!(trace_id = %place.trace_id, http.status = status, cause, "a request failed: {problem}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::StatusCode;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json, try_call_service};
    use actix_web::{App, HttpRequest, web};
    use rstest::rstest;
    use serde_json::Value;

    const PARENT: (&str, &str) = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn routes(config: &mut web::ServiceConfig) {
        config
            .route("/conflict", web::get().to(async || Problem::conflict("A result came too late.")))
            .route("/failed", web::get().to(async || Err::<String, _>(Problem::malformed("No."))))
            .route("/io", web::get().to(async || Err::<String, _>(std::io::Error::other("disk sda1 is on fire"))))
            .route("/typed/{number}", web::get().to(async |number: web::Path<u8>| number.to_string()))
            .route("/plain", web::get().to(async || HttpResponse::Unauthorized().body("who?")))
            .route("/busy", web::get().to(async || HttpResponse::ServiceUnavailable().finish()))
            .route("/oauth", web::get().to(async || HttpResponse::BadRequest().json(serde_json::json!({"error": "x"}))))
            .route("/panic", web::get().to(async || -> String { panic!("a bug") }))
            .service(web::resource("/only-get").get(async || "got"))
            .route("/trace", web::get().to(async |request: HttpRequest| TraceId::of(&request).to_string()));
    }

    #[rstest]
    #[case::responder("/conflict", 409, "/problems/conflict")]
    #[case::error("/failed", 400, "/problems/malformed")]
    #[case::foreign_error("/io", 500, "/problems/internal")]
    #[case::path("/typed/300", 404, "/problems/not-found")]
    #[case::plain_text("/plain", 401, "/problems/unauthenticated")]
    #[case::empty("/busy", 503, "/problems/unavailable")]
    #[case::unknown("/nowhere", 404, "/problems/not-found")]
    #[actix_web::test]
    async fn every_error_answer_is_a_problem(#[case] path: &str, #[case] status: u16, #[case] kind: &str) {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(routes)).await;
        let uri = format!("{path}?ticket=secret");
        let response = call_service(&app, TestRequest::get().uri(&uri).insert_header(PARENT).to_request()).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), PROBLEM_JSON);
        assert_eq!(response.headers().get(MARVIN_TRACE_ID).unwrap(), TRACE);
        let body: Value = read_body_json(response).await;
        assert_eq!(body["type"], kind);
        assert_eq!(body["status"], status);
        assert_eq!(body["instance"], path, "the query may hold a ticket and stays out");
        assert_eq!(body["trace_id"], TRACE);
        assert!(!body.to_string().contains("sda1"), "causes stay inside");
    }

    #[actix_web::test]
    async fn headers_that_the_framework_set_survive_and_missing_ones_are_added() {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(routes)).await;
        let wrong_method = call_service(&app, TestRequest::delete().uri("/only-get").to_request()).await;
        assert_eq!(wrong_method.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(wrong_method.headers().get(header::ALLOW).unwrap(), "GET");
        let plain = call_service(&app, TestRequest::get().uri("/plain").to_request()).await;
        assert!(plain.headers().contains_key(header::WWW_AUTHENTICATE));
        let busy = call_service(&app, TestRequest::get().uri("/busy").to_request()).await;
        assert_eq!(busy.headers().get(header::RETRY_AFTER).unwrap(), "1");
    }

    #[actix_web::test]
    async fn an_error_in_a_prescribed_format_keeps_it() {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(routes)).await;
        let response = call_service(&app, TestRequest::get().uri("/oauth").to_request()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(read_body_json::<Value, _>(response).await, serde_json::json!({"error": "x"}));
    }

    #[actix_web::test]
    async fn a_panic_answers_500_with_a_trace_id() {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(routes)).await;
        let request = TestRequest::get().uri("/panic").insert_header(PARENT).to_request();
        let response = try_call_service(&app, request).await.unwrap_err().error_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["trace_id"], TRACE);
    }

    #[actix_web::test]
    async fn handlers_see_the_trace_that_the_answer_names() {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(routes)).await;
        let response = call_service(&app, TestRequest::get().uri("/trace").to_request()).await;
        let named = response.headers().get(MARVIN_TRACE_ID).unwrap().to_str().unwrap().to_owned();
        assert_eq!(actix_web::test::read_body(response).await, named);
    }
}
