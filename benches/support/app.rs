//! Marvin's server within the program of a benchmark, and connections to it that cost little.
use actix_web::{App as Server, HttpServer, dev::ServerHandle, middleware::from_fn, rt::System, web};
use marvin::{
    app::App,
    config::{Flags, Settings},
    http::{self, describe::describe, headers::secure, metrics},
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::mpsc,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

const EMAIL: &str = "admin@example.org";
const PASSWORD: &str = "a password for benchmarks";

/// A server with one person, who is signed in.
pub struct Served {
    pub app: App,
    pub address: SocketAddr,
    pub cookie: String,
    pub csrf: String,
    pub person: Uuid,
    handle: ServerHandle,
}

impl Served {
    /// `more` are settings beside those that every mode needs.
    pub fn start(runtime: &Runtime, directory: &Path, more: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let settings = settings(directory, more);
        let app = runtime.block_on(App::start(&settings, address)).expect("everything is there");
        let (api, health) = (app.api.clone(), app.health.clone());
        let handle = start(listener, move |config| http::configure(config, &api, &health), true);
        runtime.block_on(app.welcome(&settings)).expect("a new instance");
        let (cookie, csrf, person) = runtime.block_on(sign_in(address));
        Self { app, address, cookie, csrf, person, handle }
    }

    pub fn stop(self, runtime: &Runtime) {
        runtime.block_on(self.handle.stop(false));
        runtime.block_on(self.app.close());
    }
}

fn settings(directory: &Path, more: &[(&str, &str)]) -> Settings {
    let data = directory.to_str().expect("a path of letters");
    let common = [
        ("MARVIN_DATA_DIR", data),
        ("MARVIN_METRICS_LISTEN", "off"),
        ("MARVIN_ADMIN_EMAIL", EMAIL),
        ("MARVIN_ADMIN_PASSWORD", PASSWORD),
    ];
    let all = common.iter().chain(more).map(|(name, value)| (name.into(), value.into()));
    Settings::load(&Flags::default(), all).expect("settings as they are documented")
}

/// A server on threads of its own; `marvin`'s has what stands around each of its routes.
pub fn start(
    listener: TcpListener,
    configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    is_marvin: bool,
) -> ServerHandle {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        System::new().block_on(async move {
            let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
            let server = if is_marvin {
                HttpServer::new(move || {
                    let around = Server::new().wrap(from_fn(describe)).wrap(from_fn(secure));
                    around.wrap(from_fn(metrics::measure)).configure(configure.clone())
                })
                .workers(workers)
                .disable_signals()
                .listen(listener)
                .expect("it is bound")
                .run()
            } else {
                HttpServer::new(move || Server::new().configure(configure.clone()))
                    .workers(workers)
                    .disable_signals()
                    .listen(listener)
                    .expect("it is bound")
                    .run()
            };
            tell.send(server.handle()).expect("somebody waits for it");
            server.await.expect("it serves until it is stopped");
        });
    });
    told.recv().expect("the server starts")
}

/// The session's cookie and token, and whose it is.
async fn sign_in(address: SocketAddr) -> (String, String, Uuid) {
    let request = reqwest::Client::new()
        .post(format!("http://{address}/api/v1/session"))
        .json(&json!({ "email": EMAIL, "password": PASSWORD }));
    let answer = request.send().await.expect("it answers").error_for_status().expect("the password is right");
    let cookie = answer.headers()["set-cookie"].to_str().expect("letters").to_owned();
    let body: Value = answer.json().await.expect("JSON");
    let person = body["user"]["id"].as_str().and_then(|id| id.parse().ok()).expect("a session names its user");
    let csrf = body["csrf_token"].as_str().expect("a session has a token").to_owned();
    (cookie.split(';').next().unwrap_or_default().to_owned(), csrf, person)
}

/// A connection that is kept, for one request after the other.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a setting");
        Self { stream, buffer: Vec::with_capacity(128 * 1024) }
    }

    /// The body of an answer that says that all went well.
    pub fn ask(&mut self, request: &[u8]) -> &[u8] {
        const END: &[u8] = b"\r\n\r\n";
        self.stream.write_all(request).expect("the server reads");
        self.buffer.clear();
        let mut whole = None;
        while whole.is_none_or(|(_, end)| self.buffer.len() < end) {
            let mut chunk = [0; 16 * 1024];
            let read = self.stream.read(&mut chunk).expect("the server answers");
            assert!(read > 0, "the server keeps the connection");
            self.buffer.extend_from_slice(&chunk[..read]);
            if whole.is_none() {
                let head = self.buffer.windows(END.len()).position(|window| window == END);
                whole = head.map(|head| (head + END.len(), head + END.len() + length(&self.buffer[..head])));
            }
        }
        let (begin, end) = whole.expect("the loop found it");
        &self.buffer[begin..end]
    }
}

/// What the head of such an answer says about its body.
fn length(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).expect("a head is letters");
    assert!(head.starts_with("HTTP/1.1 20"), "{head}");
    let lengths = head.lines().filter_map(|line| line.split_once(": "));
    let length = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    length.and_then(|value| value.trim().parse().ok()).expect("a body of a known length")
}
