//! Serves the web console, which is built into the binary. It knows files, not what the console does.
//!
//! Hashed files under `/assets/` may be kept forever. Every other address that no part of the server answers is a view of
//! the console, so it gets the one page, which reads the address itself.
use std::borrow::Cow;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use rust_embed::RustEmbed;

use super::conditional::IfNoneMatch;
use super::problem::Problem;

/// The bundle's names hold a hash of their content: a year, the longest that caches honour.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// Kept, and asked about each time: a new release shows at the next visit.
const REVALIDATED: &str = "no-cache";

/// Addresses that belong to the server. What it does not answer there is absent, not a view.
const SERVER_PATHS: [&str; 7] = ["/api", "/oauth", "/.well-known", "/healthz", "/readyz", "/metrics", "/assets"];

const METHODS: [Method; 2] = [Method::GET, Method::HEAD];

#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Bundle;

/// Registers the console for all that the routes before it leave unanswered.
pub fn configure(config: &mut web::ServiceConfig) {
    config.default_service(web::to(async |request: HttpRequest| answer(&request, &embedded)));
}

/// A file of the bundle as it is sent.
struct File {
    content: Bytes,
    media_type: String,
    tag: String,
}

fn embedded(name: &str) -> Option<File> {
    let file = Bundle::get(name)?;
    let tag = file.metadata.sha256_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(File { media_type: file.metadata.mimetype().to_owned(), tag, content: shared(file.data) })
}

/// A built-in file is sent from where it lies in the binary; only a debug build, which reads from disk, owns a copy.
fn shared(data: Cow<'static, [u8]>) -> Bytes {
    match data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

/// The page of a server that was built without its console.
fn unbuilt() -> File {
    const PAGE: &str = include_str!("console_unbuilt.html");
    File { content: Bytes::from_static(PAGE.as_bytes()), media_type: "text/html".to_owned(), tag: "unbuilt".to_owned() }
}

fn answer(request: &HttpRequest, find: &dyn Fn(&str) -> Option<File>) -> Result<HttpResponse, Problem> {
    let path = request.path();
    let asset = path.strip_prefix("/assets/").and_then(|_| find(&path[1..]));
    let (file, cache) = match asset {
        Some(file) => (file, FOREVER),
        None if belongs_to_the_server(path) => return Err(Problem::not_found()),
        None => {
            let named = path.strip_prefix('/').filter(|name| !name.is_empty()).and_then(find);
            (named.or_else(|| find("index.html")).unwrap_or_else(unbuilt), REVALIDATED)
        }
    };
    if !METHODS.contains(request.method()) {
        return Err(Problem::method_not_allowed(&METHODS));
    }
    let held = IfNoneMatch::from_headers(request.headers())?.is_some_and(|held| held.holds(&file.tag));
    let mut response = if held { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let tag = HeaderValue::try_from(format!("\"{}\"", file.tag)).expect("hexadecimal digits are valid header text");
    response.insert_header((header::ETAG, tag)).insert_header((header::CACHE_CONTROL, cache));
    if held {
        return Ok(response.finish());
    }
    Ok(response.content_type(with_charset(file.media_type)).body(file.content))
}

fn belongs_to_the_server(path: &str) -> bool {
    let is_at_or_below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    SERVER_PATHS.iter().any(|root| is_at_or_below(root))
}

/// Browsers guess an encoding for text without one.
fn with_charset(media_type: String) -> String {
    if media_type.starts_with("text/") { format!("{media_type}; charset=utf-8") } else { media_type }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::describe::describe;
    use actix_web::App;
    use actix_web::http::StatusCode;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use rstest::rstest;

    /// A console of three files.
    fn sample(name: &str) -> Option<File> {
        let (content, media_type) = match name {
            "index.html" => ("<!doctype html>", "text/html"),
            "assets/index-1a2b3c.js" => ("start()", "text/javascript"),
            "favicon.svg" => ("<svg/>", "image/svg+xml"),
            _ => return None,
        };
        Some(File {
            content: content.into(),
            media_type: media_type.into(),
            tag: format!("tag-of-{name}").replace('/', "-"),
        })
    }

    fn built(config: &mut web::ServiceConfig) {
        config.default_service(web::to(async |request: HttpRequest| answer(&request, &sample)));
    }

    fn unbuilt_console(config: &mut web::ServiceConfig) {
        config.default_service(web::to(async |request: HttpRequest| answer(&request, &|_| None)));
    }

    #[rstest]
    #[case("/", "text/html; charset=utf-8", "no-cache", "<!doctype html>")]
    #[case("/setup?token=x", "text/html; charset=utf-8", "no-cache", "<!doctype html>")]
    #[case("/agents/018f5f3a-7c1e-7d4b-8a55-0123456789ab", "text/html; charset=utf-8", "no-cache", "<!doctype html>")]
    #[case("/apiary", "text/html; charset=utf-8", "no-cache", "<!doctype html>")]
    #[case("/index.html", "text/html; charset=utf-8", "no-cache", "<!doctype html>")]
    #[case("/favicon.svg", "image/svg+xml", "no-cache", "<svg/>")]
    #[case("/assets/index-1a2b3c.js", "text/javascript; charset=utf-8", FOREVER, "start()")]
    #[actix_web::test]
    async fn files_and_views_are_served(
        #[case] path: &str,
        #[case] media_type: &str,
        #[case] cache: &str,
        #[case] content: &'static str,
    ) {
        let app = init_service(App::new().configure(built)).await;
        let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), media_type);
        assert_eq!(response.headers().get(header::CACHE_CONTROL).unwrap(), cache);
        assert_eq!(read_body(response).await, content);
    }

    #[rstest]
    #[case("/assets/index-old.js")]
    #[case("/assets/")]
    #[case("/assets/../index.html")]
    #[case("/api")]
    #[case("/api/v1/nothing")]
    #[case("/oauth/nothing")]
    #[case("/.well-known/nothing")]
    #[case("/metrics")]
    #[case("/healthz/x")]
    #[actix_web::test]
    async fn what_the_server_lacks_is_a_404_problem(#[case] path: &str) {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(built)).await;
        for method in [Method::GET, Method::POST] {
            let response = call_service(&app, TestRequest::with_uri(path).method(method).to_request()).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "application/problem+json");
        }
    }

    #[rstest]
    #[case::held("\"tag-of-index.html\"", StatusCode::NOT_MODIFIED)]
    #[case::held_weakly("W/\"tag-of-index.html\"", StatusCode::NOT_MODIFIED)]
    #[case::outdated("\"tag-of-before\"", StatusCode::OK)]
    #[case::malformed("tag", StatusCode::BAD_REQUEST)]
    #[actix_web::test]
    async fn a_file_that_the_browser_holds_is_304(#[case] held: &str, #[case] status: StatusCode) {
        let app = init_service(App::new().configure(built)).await;
        let request = TestRequest::get().uri("/agents").insert_header((header::IF_NONE_MATCH, held));
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key(header::ETAG), status != StatusCode::BAD_REQUEST);
        assert_eq!(read_body(response).await.is_empty(), status == StatusCode::NOT_MODIFIED);
    }

    #[actix_web::test]
    async fn a_view_only_answers_get_and_head() {
        let app = init_service(App::new().configure(built)).await;
        let head = call_service(&app, TestRequest::with_uri("/").method(Method::HEAD).to_request()).await;
        assert_eq!(head.status(), StatusCode::OK);
        let post = call_service(&app, TestRequest::post().uri("/agents").to_request()).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(post.headers().get(header::ALLOW).unwrap(), "GET, HEAD");
    }

    #[actix_web::test]
    async fn without_a_bundle_the_page_says_how_to_build_it() {
        let app = init_service(App::new().configure(unbuilt_console)).await;
        let response = call_service(&app, TestRequest::get().uri("/").to_request()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let page = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        for words in ["make run", "npm ci && npm run build", "Node 20"] {
            assert!(page.replace("&amp;", "&").contains(words), "{words}");
        }
        assert!(!page.contains("<script") && !page.contains("style="), "the policy would refuse it");
        let script = call_service(&app, TestRequest::get().uri("/assets/index.js").to_request()).await;
        assert_eq!(script.status(), StatusCode::NOT_FOUND);
    }

    #[actix_web::test]
    async fn no_path_reaches_beyond_the_bundle() {
        let app = init_service(App::new().configure(configure)).await;
        for path in ["/../../Cargo.toml", "/%2e%2e/%2e%2e/Cargo.toml", "/..%2f..%2fCargo.toml", "//etc/passwd"] {
            let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
            let type_of = response.headers().get(header::CONTENT_TYPE).unwrap();
            assert_eq!(type_of, "text/html; charset=utf-8", "{path} is a view like any other");
        }
    }
}
