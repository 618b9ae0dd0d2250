//! What a task and a page of tasks cost over HTTP, to a bare server of the same bytes with as many workers.
use actix_web::{HttpResponse, web};
use marvin::app::App;
use serde_json::Value;
use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Instant,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    app::{Connection, Served, start},
    life::{LIFE_EVENTS, TASK_EVENTS, command, life},
    support::{Ratio, Target, take_turns},
};

/// Requests under way at once, each on a connection that is kept: with 8, an eighth of the time no core had anything to do.
const CONNECTIONS: usize = 32;
/// Requests of a round on each connection.
const GETS: usize = 150;
const LISTS: usize = 15;
const TASKS: usize = 200;

/// `more` are settings beside those that every mode needs.
pub fn serve(runtime: &Runtime, rounds: usize, mode: &str, directory: &Path, more: &[(&str, &str)]) {
    let served = Served::start(runtime, directory, more);
    let (address, cookie) = (served.address, &served.cookie);
    let tasks = runtime.block_on(complete(&served.app, served.person));
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
    served.stop(runtime);
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
