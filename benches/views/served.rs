//! What a task and a page of tasks cost over HTTP, to a bare server of the same bytes with as many workers.
use actix_web::{App as Server, HttpResponse, HttpServer, dev::ServerHandle, middleware::from_fn, rt::System, web};
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
    sync::{Arc, mpsc},
    time::Instant,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    life::{LIFE_EVENTS, TASK_EVENTS, command, life},
    support::{Ratio, Target, take_turns},
};

/// Requests under way at once, each on a connection that is kept: with 8, an eighth of the time no core had anything to do.
const CONNECTIONS: usize = 32;
/// Requests of a round on each connection.
const GETS: usize = 150;
const LISTS: usize = 15;
const TASKS: usize = 200;
const EMAIL: &str = "admin@example.org";
const PASSWORD: &str = "a password for benchmarks";

/// `more` are settings beside those that every mode needs.
pub fn serve(runtime: &Runtime, rounds: usize, mode: &str, directory: &Path, more: &[(&str, &str)]) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let settings = settings(directory, more);
    let app = runtime.block_on(App::start(&settings, address)).expect("everything is there");
    let (api, health) = (app.api.clone(), app.health.clone());
    let server = start(listener, move |config| http::configure(config, &api, &health), true);
    runtime.block_on(app.welcome(&settings)).expect("a new instance");
    let (cookie, person) = runtime.block_on(sign_in(address));
    let tasks = runtime.block_on(complete(&app, person));
    for (name, path, count, target) in [
        ("GET of a task", format!("/api/v1/tasks/{}", tasks[TASKS / 2]), GETS, 0.3),
        ("GET of a page of 50 tasks", "/api/v1/tasks?limit=50".to_owned(), LISTS, 0.08),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n");
        let body = Connection::open(address).ask(request.as_bytes()).to_vec();
        let shown: Value = serde_json::from_slice(&body).expect("it is JSON");
        assert!(
            shown["steps"].as_array().map(Vec::len) == Some(2) || shown["items"].as_array().map(Vec::len) == Some(50)
        );
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let bare = listener.local_addr().expect("it is bound");
        let (bytes, shown) = (body.len(), Arc::new(shown));
        let answer = move |config: &mut web::ServiceConfig| {
            let (one, page) = (shown.clone(), shown.clone());
            let ok = |shown: Arc<Value>| async move { HttpResponse::Ok().json(&*shown) };
            config.route("/api/v1/tasks/{id}", web::get().to(move || ok(one.clone())));
            config.route("/api/v1/tasks", web::get().to(move || ok(page.clone())));
        };
        let reference = start(listener, answer, false);
        take_turns(
            rounds,
            || load(bare, request.as_bytes(), count, bytes),
            || load(address, request.as_bytes(), count, bytes),
        )
        .report(&format!("{name}, {mode}, to bare actix-web"), Target::AtLeast(target), Ratio::Rate);
        runtime.block_on(reference.stop(false));
    }
    runtime.block_on(server.stop(false));
    runtime.block_on(app.close());
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
fn start(
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

/// The session's cookie, and whose it is.
async fn sign_in(address: SocketAddr) -> (String, Uuid) {
    let request = reqwest::Client::new()
        .post(format!("http://{address}/api/v1/session"))
        .json(&json!({ "email": EMAIL, "password": PASSWORD }));
    let answer = request.send().await.expect("it answers").error_for_status().expect("the password is right");
    let cookie = answer.headers()["set-cookie"].to_str().expect("letters").to_owned();
    let body: Value = answer.json().await.expect("JSON");
    let person = body["user"]["id"].as_str().and_then(|id| id.parse().ok()).expect("a session names its user");
    (cookie.split(';').next().unwrap_or_default().to_owned(), person)
}

/// Tasks that this person gave, from submitted to completed, and every view of them.
async fn complete(app: &App, person: Uuid) -> Vec<Uuid> {
    let mut tasks = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let life: [_; LIFE_EVENTS] = life(person);
        tasks.push(life[0].stream.id);
        app.api.log.append(command(&app.api.codec, &life[..TASK_EVENTS]).await).await.expect("nothing is in the way");
    }
    let head = *app.api.log.head().borrow();
    app.api.views.wait::<marvin_projections::tasks::Tasks>(head).await.expect("it is some thousand events");
    app.api.views.wait::<marvin_projections::steps::Steps>(head).await.expect("it is some thousand events");
    tasks
}

/// Seconds an answer, over all connections.
fn load(address: SocketAddr, request: &[u8], count: usize, bytes: usize) -> f64 {
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(address)).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for connection in &mut connections {
            scope.spawn(move || {
                for _ in 0..count {
                    assert_eq!(connection.ask(request).len(), bytes, "every answer is whole");
                }
            });
        }
    });
    start.elapsed().as_secs_f64() / (CONNECTIONS * count) as f64
}

/// A connection that is kept, for one request after the other.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a setting");
        Self { stream, buffer: Vec::with_capacity(128 * 1024) }
    }

    /// The body of a 200.
    fn ask(&mut self, request: &[u8]) -> &[u8] {
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

/// What a head of a 200 says about its body.
fn length(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).expect("a head is letters");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let lengths = head.lines().filter_map(|line| line.split_once(": "));
    let length = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    length.and_then(|value| value.trim().parse().ok()).expect("a body of a known length")
}
