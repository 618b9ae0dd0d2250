//! The builder behind the route table: a path, its methods, and for each the access that it demands.
//!
//! A method cannot be added without an [`Access`], so a route that nobody guards has to say so. The [`Gate`] decides
//! before any part of the body is read; where there is no gate, only public routes answer.
use std::fmt;
use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::{AppService, HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, FromRequest, Handler, HttpRequest, Responder, Route, web};

use super::problem::Problem;

/// What a caller must bring to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access<P> {
    /// Anyone, also without credentials.
    Public,
    /// Anyone who is signed in; what they may see is theirs.
    SignedIn,
    /// Only who holds this permission.
    Needs(P),
}

/// Decides who may pass. One stands in the application's data as `web::Data<dyn Gate<P>>`.
#[async_trait::async_trait(?Send)]
pub trait Gate<P>: Send + Sync + 'static {
    /// Admits the caller of `request`, who may then be found in its extensions, or says why not.
    ///
    /// Called for public routes too, so that a caller who did sign in is known there.
    ///
    /// # Errors
    /// 401 without valid credentials, 403 without the permission or the CSRF token, 503 when that cannot be told.
    async fn admit(&self, request: &HttpRequest, access: Access<P>) -> Result<(), Problem>;
}

/// One path and the methods that it answers; every other method is 405 with `Allow`. `GET` answers `HEAD` too.
pub struct Resource<P> {
    path: &'static str,
    methods: Vec<(Method, Access<P>)>,
    routes: Vec<Route>,
}

impl<P: Copy + 'static> Resource<P> {
    /// Starts the entry for `path`, an actix pattern such as `/api/v1/agents/{id}`.
    pub fn at(path: &'static str) -> Self {
        Self { path, methods: Vec::new(), routes: Vec::new() }
    }

    #[must_use]
    pub fn get<F, Args>(self, access: Access<P>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method(Method::GET, access, handler)
    }

    #[must_use]
    pub fn post<F, Args>(self, access: Access<P>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method(Method::POST, access, handler)
    }

    #[must_use]
    pub fn put<F, Args>(self, access: Access<P>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method(Method::PUT, access, handler)
    }

    #[must_use]
    pub fn patch<F, Args>(self, access: Access<P>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method(Method::PATCH, access, handler)
    }

    #[must_use]
    pub fn delete<F, Args>(self, access: Access<P>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method(Method::DELETE, access, handler)
    }

    /// The path as the table states it.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Every method with its access: what the OpenAPI document is checked against.
    pub fn methods(&self) -> &[(Method, Access<P>)] {
        &self.methods
    }

    /// # Panics
    /// When the method is already there: the table contradicts itself, which every start and every test would meet.
    fn method<F, Args>(mut self, method: Method, access: Access<P>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        assert!(self.methods.iter().all(|(known, _)| *known != method), "{method} {} is stated twice", self.path);
        let route = web::route().guard(answers(method.clone())).to(handler);
        self.routes.push(route.wrap(from_fn(move |request, next| admit(access, request, next))));
        self.methods.push((method, access));
        self
    }

    fn allowed(&self) -> Rc<[Method]> {
        let with_head = |method: &Method| match *method {
            Method::GET => vec![Method::GET, Method::HEAD],
            _ => vec![method.clone()],
        };
        self.methods.iter().flat_map(|(method, _)| with_head(method)).collect()
    }
}

impl<P: Copy + 'static> HttpServiceFactory for Resource<P> {
    fn register(self, config: &mut AppService) {
        let allowed = self.allowed();
        let refuse = move || {
            let refusal = Problem::method_not_allowed(&allowed);
            async move { refusal }
        };
        let resource = web::resource(self.path).default_service(web::to(refuse));
        self.routes.into_iter().fold(resource, actix_web::Resource::route).register(config);
    }
}

impl<P: fmt::Debug> fmt::Debug for Resource<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("path", &self.path).field("methods", &self.methods).finish_non_exhaustive()
    }
}

fn answers(method: Method) -> impl Guard {
    guard::fn_guard(move |context| {
        let asked = &context.head().method;
        *asked == method || (*asked == Method::HEAD && method == Method::GET)
    })
}

async fn admit<P: Copy + 'static>(
    access: Access<P>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let gate = request.app_data::<web::Data<dyn Gate<P>>>().cloned();
    let verdict = match (gate, access) {
        (Some(gate), access) => gate.admit(request.request(), access).await,
        (None, Access::Public) => Ok(()),
        (None, _) => Err(Problem::internal(NoGate)),
    };
    match verdict {
        Ok(()) => next.call(request).await,
        Err(problem) => Ok(request.error_response(problem)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a route that is not public was reached without a gate")]
struct NoGate;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::describe::describe;
    use actix_web::body::MessageBody;
    use actix_web::http::{StatusCode, header};
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::{App, HttpMessage, HttpResponse};
    use bytes::Bytes;
    use rstest::rstest;
    use std::sync::Arc;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Permission {
        Read,
        Write,
    }

    /// Who brings the header `pass` is known; its value names the one permission that they hold.
    struct Doorman;

    #[derive(Clone)]
    struct Caller(String);

    #[async_trait::async_trait(?Send)]
    impl Gate<Permission> for Doorman {
        async fn admit(&self, request: &HttpRequest, access: Access<Permission>) -> Result<(), Problem> {
            let pass = request.headers().get("pass").map(|pass| pass.to_str().unwrap().to_owned());
            match (access, pass.as_deref()) {
                (Access::Public, None) => return Ok(()),
                (_, None) => return Err(Problem::unauthenticated("who?")),
                (Access::Needs(Permission::Read), Some("read")) | (Access::Needs(Permission::Write), Some("write")) => {
                }
                (Access::Needs(_), _) => return Err(Problem::forbidden("no")),
                (Access::Public | Access::SignedIn, _) => {}
            }
            request.extensions_mut().insert(Caller(pass.unwrap()));
            Ok(())
        }
    }

    async fn whoami(request: HttpRequest) -> String {
        request.extensions().get::<Caller>().map_or_else(|| "nobody".to_owned(), |caller| caller.0.clone())
    }

    async fn endless() -> HttpResponse {
        let ticks = futures_util::stream::repeat_with(|| Ok::<_, Error>(Bytes::from_static(b"data: 1\n\n")));
        HttpResponse::Ok().content_type("text/event-stream").streaming(ticks)
    }

    fn table() -> Vec<Resource<Permission>> {
        vec![
            Resource::at("/open").get(Access::Public, whoami),
            Resource::at("/mine").get(Access::SignedIn, whoami),
            Resource::at("/things")
                .get(Access::Needs(Permission::Read), whoami)
                .post(Access::Needs(Permission::Write), whoami),
            Resource::at("/things/{id}")
                .put(Access::Needs(Permission::Write), whoami)
                .patch(Access::Needs(Permission::Write), whoami)
                .delete(Access::Needs(Permission::Write), whoami),
            Resource::at("/live").get(Access::Needs(Permission::Read), endless),
        ]
    }

    fn routes(config: &mut web::ServiceConfig) {
        for resource in table() {
            config.service(resource);
        }
    }

    fn guarded(config: &mut web::ServiceConfig) {
        let gate: Arc<dyn Gate<Permission>> = Arc::new(Doorman);
        config.app_data(web::Data::from(gate)).configure(routes);
    }

    #[rstest]
    #[case(Method::GET, "/open", None, 200)]
    #[case(Method::GET, "/open", Some("read"), 200)]
    #[case(Method::GET, "/mine", None, 401)]
    #[case(Method::GET, "/mine", Some("nothing"), 200)]
    #[case(Method::GET, "/things", None, 401)]
    #[case(Method::GET, "/things", Some("nothing"), 403)]
    #[case(Method::GET, "/things", Some("read"), 200)]
    #[case(Method::HEAD, "/things", Some("read"), 200)]
    #[case(Method::HEAD, "/things", None, 401)]
    #[case(Method::POST, "/things", Some("read"), 403)]
    #[case(Method::POST, "/things", Some("write"), 200)]
    #[case(Method::PUT, "/things/1", None, 401)]
    #[case(Method::PATCH, "/things/1", Some("read"), 403)]
    #[case(Method::DELETE, "/things/1", Some("write"), 200)]
    #[actix_web::test]
    async fn each_method_demands_its_own_access(
        #[case] method: Method,
        #[case] path: &str,
        #[case] pass: Option<&str>,
        #[case] status: u16,
    ) {
        let app = init_service(App::new().configure(guarded)).await;
        let request = TestRequest::with_uri(path).method(method);
        let request = pass.into_iter().fold(request, |request, pass| request.insert_header(("pass", pass)));
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    }

    #[actix_web::test]
    async fn handlers_see_the_caller_that_the_gate_let_in() {
        let app = init_service(App::new().configure(guarded)).await;
        let request = TestRequest::get().uri("/things").insert_header(("pass", "read")).to_request();
        assert_eq!(read_body(call_service(&app, request).await).await, "read");
    }

    #[rstest]
    #[case("/things", Method::DELETE, "GET, HEAD, POST")]
    #[case("/things", Method::OPTIONS, "GET, HEAD, POST")]
    #[case("/things/1", Method::GET, "PUT, PATCH, DELETE")]
    #[case("/things/1", Method::HEAD, "PUT, PATCH, DELETE")]
    #[actix_web::test]
    async fn another_method_is_405_with_allow(#[case] path: &str, #[case] method: Method, #[case] allow: &str) {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(guarded)).await;
        let response = call_service(&app, TestRequest::with_uri(path).method(method).to_request()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers().get(header::ALLOW).unwrap(), allow);
    }

    #[rstest]
    #[case("/open", StatusCode::OK)]
    #[case("/mine", StatusCode::INTERNAL_SERVER_ERROR)]
    #[case("/things", StatusCode::INTERNAL_SERVER_ERROR)]
    #[actix_web::test]
    async fn without_a_gate_only_public_routes_answer(#[case] path: &str, #[case] status: StatusCode) {
        let app = init_service(App::new().configure(routes)).await;
        assert_eq!(call_service(&app, TestRequest::get().uri(path).to_request()).await.status(), status);
    }

    #[actix_web::test]
    async fn an_endless_answer_streams_through_the_gate() {
        let app = init_service(App::new().wrap(from_fn(describe)).configure(guarded)).await;
        let request = TestRequest::get().uri("/live").insert_header(("pass", "read")).to_request();
        let mut body = std::pin::pin!(call_service(&app, request).await.into_body());
        let first = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await;
        assert_eq!(first.unwrap().unwrap(), "data: 1\n\n");
    }

    #[test]
    fn the_table_lists_what_it_serves() {
        let listed: Vec<String> = table()
            .iter()
            .flat_map(|resource| resource.methods().iter().map(|(method, _)| format!("{method} {}", resource.path())))
            .collect();
        assert_eq!(listed[2..4], ["GET /things", "POST /things"]);
        assert_eq!(listed.len(), 8);
    }

    #[test]
    #[should_panic(expected = "GET /things is stated twice")]
    fn a_method_stated_twice_stops_the_start() {
        let _ = Resource::at("/things").get(Access::Public::<Permission>, whoami).get(Access::SignedIn, whoami);
    }
}
