//! The headers that keep a browser from doing more with an answer than it should. Every answer carries them.
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

/// Scripts, styles and calls only to and from this origin; no frames, no plugins, no foreign forms.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     frame-ancestors 'none'; form-action 'self'; style-src 'self'; script-src 'self'; connect-src 'self'";

/// The console uses none of a device's senses.
const PERMISSIONS_POLICY: &str = "camera=(), geolocation=(), microphone=(), payment=(), usb=()";

/// Addresses may hold one-time tokens (`/setup?token=…`), so no page passes its own on.
const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), PERMISSIONS_POLICY),
];

/// Nothing is kept by caches unless its handler says otherwise: answers depend on who asks.
const CACHE_CONTROL: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

/// The middleware that adds the headers, also to answers that a middleware or a panic gave. What a handler set stays.
///
/// # Errors
/// What came from below, with the headers added.
pub async fn secure(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match next.call(request).await {
        Ok(response) => {
            let mut response = response.map_into_boxed_body();
            add(response.headers_mut());
            Ok(response)
        }
        Err(error) => {
            let mut response = HttpResponse::from_error(error);
            add(response.headers_mut());
            Err(InternalError::from_response("refused before a route was reached", response).into())
        }
    }
}

fn add(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS.into_iter().chain([CACHE_CONTROL]) {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::describe::describe;
    use actix_web::http::StatusCode;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service, try_call_service};
    use actix_web::{App, web};
    use rstest::rstest;

    fn routes(config: &mut web::ServiceConfig) {
        config
            .route("/api/v1/agents", web::get().to(async || "[]"))
            .route("/panic", web::get().to(async || -> String { panic!("a bug") }))
            .route(
                "/asset",
                web::get().to(async || HttpResponse::Ok().insert_header(("cache-control", "public")).body("")),
            );
    }

    async fn headers_of(path: &str) -> (StatusCode, HeaderMap) {
        let app = App::new().wrap(from_fn(describe)).wrap(from_fn(secure)).configure(routes);
        let app = init_service(app).await;
        match try_call_service(&app, TestRequest::get().uri(path).to_request()).await {
            Ok(response) => (response.status(), response.headers().clone()),
            Err(error) => {
                let response = error.error_response();
                (response.status(), response.headers().clone())
            }
        }
    }

    #[rstest]
    #[case::answer("/api/v1/agents", 200)]
    #[case::problem("/api/v1/nothing", 404)]
    #[case::panic("/panic", 500)]
    #[actix_web::test]
    async fn every_answer_carries_the_security_headers(#[case] path: &str, #[case] expected: u16) {
        let (status, headers) = headers_of(path).await;
        assert_eq!(status.as_u16(), expected);
        for (name, value) in SECURITY_HEADERS {
            assert_eq!(headers.get(&name).unwrap(), value);
        }
        assert_eq!(headers.get(header::CACHE_CONTROL).unwrap(), "no-store");
    }

    #[test]
    fn no_policy_lets_inline_code_or_foreign_origins_in() {
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe") && !CONTENT_SECURITY_POLICY.contains("http"));
        for directive in ["object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "script-src 'self'"] {
            assert!(CONTENT_SECURITY_POLICY.split("; ").any(|part| part == directive), "{directive}");
        }
    }

    #[actix_web::test]
    async fn what_a_handler_set_stays() {
        assert_eq!(headers_of("/asset").await.1.get(header::CACHE_CONTROL).unwrap(), "public");
    }
}
