//! Reads a JSON body: bounded, parsed strictly, validated, with every fault named by a JSON Pointer.
//!
//! The checks come in the order in which they are cheap: media type (415), length (413), encoding and depth, form (all
//! 400), then the values themselves (422).
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use garde::Validate;
use serde::de::DeserializeOwned;

use super::parse::{invalid, parse};
use super::problem::Problem;

/// Bytes of a body: enough for any agent's configuration, small enough to hold one per connection.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a submitted task: its input may be a series of 100 000 numbers.
pub const TASK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A JSON body of at most `BYTES_MAX` bytes. `T` should deny unknown fields: they are refused as malformed.
#[derive(Debug)]
pub struct Json<T, const BYTES_MAX: usize = BODY_BYTES_MAX> {
    value: T,
    raw: Bytes,
}

/// The body of a task submission.
pub type TaskJson<T> = Json<T, TASK_BYTES_MAX>;

impl<T, const BYTES_MAX: usize> Json<T, BYTES_MAX> {
    pub fn into_inner(self) -> T {
        self.value
    }

    /// The body as it was sent, byte for byte: what a request digest is taken of.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    pub fn into_parts(self) -> (T, Bytes) {
        (self.value, self.raw)
    }
}

impl<T, const BYTES_MAX: usize> Deref for Json<T, BYTES_MAX> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, const BYTES_MAX: usize> FromRequest for Json<T, BYTES_MAX>
where
    T: DeserializeOwned + Validate<Context = ()> + 'static,
{
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let admitted = check_headers(request.headers(), BYTES_MAX);
        let payload = payload.take();
        Box::pin(async move {
            admitted?;
            let raw = read(payload, BYTES_MAX).await?;
            let value: T = parse(&raw)?;
            value.validate().map_err(|report| invalid(&report))?;
            Ok(Self { value, raw })
        })
    }
}

fn check_headers(headers: &HeaderMap, bytes_max: usize) -> Result<(), Problem> {
    let unsupported = || Problem::unsupported_media_type("Send the body as application/json in UTF-8, not compressed.");
    let mut types = headers.get_all(header::CONTENT_TYPE);
    let (Some(media_type), None) = (types.next(), types.next()) else { return Err(unsupported()) };
    if !media_type.to_str().is_ok_and(is_json) || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported());
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(Problem::too_large(bytes_max));
    }
    Ok(())
}

fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    essence
        && parts.all(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

/// Collects the body, however it is framed, and gives up at the first byte too many.
async fn read(mut payload: Payload, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::malformed("The body broke off before its end."))?;
        if body.len() + chunk.len() > bytes_max {
            return Err(Problem::too_large(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::error::PayloadError;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;
    use actix_web::{App, HttpServer, web};
    use futures_util::Stream;
    use rstest::rstest;
    use serde::Deserialize;
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[garde(length(chars, min = 1, max = 5))]
        name: String,
        #[serde(default)]
        #[garde(dive)]
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[garde(range(max = 9))]
        count: u32,
    }

    async fn read_order(media_type: &str, body: impl Into<Bytes>) -> Result<Json<Order, 100>, Problem> {
        let request = TestRequest::post().insert_header((header::CONTENT_TYPE, media_type)).set_payload(body);
        let (request, mut payload) = request.to_http_parts();
        Json::from_request(&request, &mut payload).await
    }

    #[rstest]
    #[case("application/json")]
    #[case("Application/JSON ; Charset=\"UTF-8\"")]
    #[case("application/json; profile=x")]
    #[actix_web::test]
    async fn a_valid_body_is_read_and_kept_as_sent(#[case] media_type: &str) {
        let sent = "{ \"name\": \"tea\",\n \"lines\": [{\"count\": 9}] }";
        let order = read_order(media_type, sent).await.unwrap();
        assert_eq!(order.raw(), sent);
        assert_eq!((order.name.as_str(), order.lines[0].count), ("tea", 9));
    }

    #[rstest]
    #[case("text/plain")]
    #[case("application/jsonp")]
    #[case("application/json; charset=utf-16")]
    #[case("application/x-www-form-urlencoded")]
    #[case("")]
    #[actix_web::test]
    async fn another_media_type_is_415(#[case] media_type: &str) {
        let refused = read_order(media_type, "{\"name\": \"tea\"}").await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[actix_web::test]
    async fn a_compressed_body_is_415() {
        let request = TestRequest::post()
            .insert_header(header::ContentType::json())
            .insert_header((header::CONTENT_ENCODING, "gzip"))
            .to_http_parts();
        let (request, mut payload) = request;
        let refused = Json::<Order>::from_request(&request, &mut payload).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[rstest]
    #[case(100, None)]
    #[case(101, Some(StatusCode::PAYLOAD_TOO_LARGE))]
    #[actix_web::test]
    async fn a_body_beyond_the_limit_is_413(#[case] bytes: usize, #[case] refusal: Option<StatusCode>) {
        let mut body = br#"{"name": "tea"}"#.to_vec();
        body.resize(bytes, b' ');
        let read = read_order("application/json", body).await;
        assert_eq!(read.err().map(|problem| problem.status()), refusal);
    }

    #[actix_web::test]
    async fn a_body_of_another_form_is_400() {
        let refused = read_order("application/json", r#"{"name": 5}"#).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }

    #[actix_web::test]
    async fn refused_values_are_422_with_all_their_pointers() {
        let body = r#"{"name": "", "lines": [{"count": 1}, {"count": 10}]}"#;
        let refused = read_order("application/json", body).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let pointers: BTreeSet<&str> = refused.errors().iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, BTreeSet::from(["/name", "/lines/1/count"]));
    }

    #[actix_web::test]
    async fn a_chunked_body_is_cut_off_at_the_limit() {
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let chunks = futures_util::stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, PayloadError>(Bytes::from_static(b"          "))
        });
        let chunks = chunks.take(100);
        let (request, _) = TestRequest::post().insert_header(header::ContentType::json()).to_http_parts();
        let mut payload = Payload::from(Box::pin(chunks) as Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>);
        let refused = Json::<Order, 100>::from_request(&request, &mut payload).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(taken.load(Ordering::Relaxed), 11, "the chunk that goes beyond the limit is the last one taken");
    }

    #[actix_web::test]
    async fn an_announced_length_beyond_the_limit_is_413_before_a_byte_is_read() {
        let request = TestRequest::post().set_payload(r#"{"name": "tea"}"#);
        let request = request.insert_header(header::ContentType::json()).insert_header((header::CONTENT_LENGTH, "101"));
        let (request, mut payload) = request.to_http_parts();
        let refused = Json::<Order, 100>::from_request(&request, &mut payload).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[actix_web::test]
    async fn a_client_that_sends_too_much_gets_its_413() {
        let server = HttpServer::new(|| App::new().route("/", web::post().to(async |_: Json<Order>| "read")))
            .workers(1)
            .bind(("127.0.0.1", 0))
            .unwrap();
        let url = format!("http://{}/", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let chunks = futures_util::stream::iter((0..200).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024])));
        let body = reqwest::Body::wrap_stream(chunks);
        let post = reqwest::Client::new().post(&url).header("content-type", "application/json");
        let answer = post.body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 413);
        handle.stop(false).await;
    }
}
