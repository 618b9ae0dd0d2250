//! Whole tasks over HTTP: given, claimed, run by an agent of one rule, completed, and told to whoever gave them.
use futures_util::StreamExt;
use marvin_projections::{inbox::Inbox, tasks::Tasks};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread::Thread,
    time::Instant,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::app::{Connection, Served};

/// What was heard of tasks: the position of the notification that ends each, and who waits for one.
#[derive(Default)]
struct Heard {
    ended: HashMap<Uuid, u64>,
    waiting: HashMap<Uuid, Thread>,
}

/// A server with an agent, and a feed that hears of each notification.
pub struct Whole {
    pub served: Served,
    agent: Uuid,
    heard: Arc<Mutex<Heard>>,
    /// Tasks that were given so far.
    given: usize,
}

impl Whole {
    pub fn new(runtime: &Runtime, served: Served, in_flight: usize) -> Self {
        let then = json!([{ "output": { "size": "large", "amount": "{{ input.amount }}" } }]);
        let rule = json!({ "name": "large order", "when": "input.amount > 1000", "then": then });
        let limits = json!({ "max_concurrency": in_flight });
        let agent = json!({ "name": "Desk", "kind": "rules", "config": { "rules": [rule] }, "limits": limits });
        let made = post(&served, &mut Connection::open(served.address), "/api/v1/agents", &agent);
        let agent = id(&made["id"]);
        let heard = Arc::new(Mutex::new(Heard::default()));
        runtime.spawn(listen(served.address.to_string(), served.cookie.clone(), heard.clone()));
        Self { served, agent, heard, given: 0 }
    }

    /// Seconds of a task, each connection with one under way.
    pub fn together(&mut self, runtime: &Runtime, count: usize, in_flight: usize) -> f64 {
        let mut connections: Vec<_> = (0..in_flight).map(|_| Connection::open(self.served.address)).collect();
        let each = count / in_flight;
        let start = Instant::now();
        let last = std::thread::scope(|scope| {
            let clients = connections.iter_mut().enumerate();
            let this = &*self;
            let clients: Vec<_> = clients
                .map(|(client, connection)| {
                    let tasks = client * each..(client + 1) * each;
                    scope.spawn(move || tasks.map(|number| this.one(connection, number)).max())
                })
                .collect();
            clients.into_iter().filter_map(|client| client.join().expect("a client finishes")).max()
        });
        // Who looks into the inbox now finds them all.
        let views = &self.served.app.api.views;
        runtime.block_on(views.wait::<Inbox>(last.unwrap_or(0))).expect("it follows closely");
        let seconds = start.elapsed().as_secs_f64() / (each * in_flight) as f64;
        self.given += each * in_flight;
        self.check(runtime);
        seconds
    }

    /// The median time of a task that is alone, until it stands in the inbox.
    pub fn alone(&mut self, runtime: &Runtime, count: usize) -> f64 {
        let mut connection = Connection::open(self.served.address);
        let times: Vec<_> = (0..count)
            .map(|number| {
                let start = Instant::now();
                let position = self.one(&mut connection, number);
                let views = &self.served.app.api.views;
                runtime.block_on(views.wait::<Inbox>(position)).expect("it follows closely");
                start.elapsed().as_secs_f64()
            })
            .collect();
        self.given += count;
        self.check(runtime);
        crate::support::median(&times)
    }

    /// Gives one task and waits until its end is told; answers where that stands.
    fn one(&self, connection: &mut Connection, number: usize) -> u64 {
        let path = format!("/api/v1/agents/{}/tasks", self.agent);
        let given = post(&self.served, connection, &path, &json!({ "input": { "amount": 2_000 + number } }));
        let task = id(&given["id"]);
        loop {
            {
                let mut heard = self.heard.lock().expect("nobody panics");
                if let Some(position) = heard.ended.remove(&task) {
                    return position;
                }
                heard.waiting.insert(task, std::thread::current());
            }
            std::thread::park();
        }
    }

    /// Every task so far is completed, and the newest ones have the right outputs.
    fn check(&self, runtime: &Runtime) {
        let api = &self.served.app.api;
        let head = *api.log.head().borrow();
        runtime.block_on(api.views.wait::<Tasks>(head)).expect("it follows closely");
        let mut completed = 0;
        let mut cursor = String::new();
        let mut connection = Connection::open(self.served.address);
        loop {
            let path = format!("/api/v1/tasks?limit=200&status=completed{cursor}");
            let page = get(&self.served, &mut connection, &path);
            let items = page["items"].as_array().expect("a page");
            completed += items.len();
            for task in items {
                let (input, output) = (&task["input"]["amount"], &task["output"]);
                let wanted = json!({ "matched": ["large order"], "outputs": [{ "size": "large", "amount": input }] });
                assert_eq!(output, &wanted, "{task}");
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(completed, self.given, "every task was done");
    }
}

fn id(value: &Value) -> Uuid {
    value.as_str().and_then(|text| text.parse().ok()).expect("an id")
}

fn post(served: &Served, connection: &mut Connection, path: &str, body: &Value) -> Value {
    let (body, address) = (body.to_string(), served.address);
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {}\r\nX-CSRF-Token: {}\r\nOrigin: http://{address}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        served.cookie,
        served.csrf,
        body.len()
    );
    serde_json::from_slice(connection.ask(request.as_bytes())).expect("it is JSON")
}

fn get(served: &Served, connection: &mut Connection, path: &str) -> Value {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", served.address, served.cookie);
    serde_json::from_slice(connection.ask(request.as_bytes())).expect("it is JSON")
}

/// Follows the notifications as a program of somebody's would, over Server-Sent Events.
async fn listen(address: String, cookie: String, heard: Arc<Mutex<Heard>>) {
    let url = format!("http://{address}/api/v1/events/stream?types=notification.raised&after=0");
    let feed = reqwest::Client::new().get(url).header("cookie", cookie).send().await.expect("it answers");
    let mut chunks = feed.error_for_status().expect("it may be read").bytes_stream();
    let mut text = Vec::new();
    while let Some(Ok(chunk)) = chunks.next().await {
        text.extend_from_slice(&chunk);
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { continue };
        let rest = text.split_off(end + 1);
        for line in std::mem::replace(&mut text, rest).split(|byte| *byte == b'\n') {
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            let event: Value = serde_json::from_slice(data).expect("an event is JSON");
            let position = event["position"].as_str().and_then(|text| text.parse().ok()).expect("a position");
            let task = id(&event["data"]["facts"]["link"]["id"]);
            let mut heard = heard.lock().expect("nobody panics");
            heard.ended.insert(task, position);
            if let Some(waiting) = heard.waiting.remove(&task) {
                waiting.unpark();
            }
        }
    }
}
