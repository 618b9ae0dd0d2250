//! The world outside, which nobody kills: takes the calls of webhook agents and writes each into a store of its own.
use chrono::Utc;
use marvin_projections::steps::step_id;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use uuid::Uuid;

use super::{
    super::support::{Reply, receiver::read},
    history::{Asked, Done},
};

/// Between two attempts to tell an answer.
const TELL_PAUSE: Duration = Duration::from_millis(100);
/// How long a piece of work takes that does not say so.
const WORK_MS: u64 = 50;

const SCHEMA: &str = "CREATE TABLE calls (step TEXT NOT NULL, agent TEXT, attempt INTEGER, begun_us INTEGER, ended_us INTEGER, \
                      answer TEXT)";

pub struct Outside {
    pub url: String,
    store: Mutex<Connection>,
    /// Calls that are open.
    open: watch::Sender<usize>,
    /// While this is set no call is answered.
    held: watch::Sender<bool>,
    /// Calls that were answered, but for those of the agent that runs one at a time.
    answered: watch::Sender<usize>,
    /// Answers are told apart by their number.
    answers: AtomicUsize,
    /// Steps whose answer is told later: once, however often they are called for.
    taken_on: Mutex<HashSet<Uuid>>,
    complaints: Mutex<Vec<String>>,
}

impl Outside {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Connection::open_in_memory().unwrap();
        store.execute_batch(SCHEMA).unwrap();
        let outside = Arc::new(Self {
            url: format!("http://{}/", listener.local_addr().unwrap()),
            store: Mutex::new(store),
            open: watch::channel(0).0,
            held: watch::channel(false).0,
            answered: watch::channel(0).0,
            answers: AtomicUsize::new(0),
            taken_on: Mutex::default(),
            complaints: Mutex::default(),
        });
        let serving = outside.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        outside
    }

    pub fn hold(&self, is_held: bool) {
        self.held.send_replace(is_held);
    }

    /// Waits until so many calls are open, and answers how many.
    pub async fn open(&self, least: usize) -> usize {
        *self.open.subscribe().wait_for(|open| *open >= least).await.unwrap()
    }

    pub async fn answered(&self, least: usize) {
        self.answered.subscribe().wait_for(|answered| *answered >= least).await.unwrap();
    }

    pub fn answered_now(&self) -> usize {
        *self.answered.borrow()
    }

    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// All that was done, as the store has it.
    pub fn done(&self) -> Vec<Done> {
        let store = self.store.lock().unwrap();
        let mut rows = store.prepare("SELECT step, agent, attempt, begun_us, ended_us, answer FROM calls").unwrap();
        let id = |text: String| Uuid::parse_str(&text).unwrap();
        let done = rows.query_map([], |row| {
            let agent: Option<String> = row.get(1)?;
            let asked = match agent.map(id) {
                Some(agent) => Some(Asked {
                    agent,
                    attempt: row.get(2)?,
                    begun_us: row.get(3)?,
                    ended_us: row.get::<_, Option<i64>>(4)?.unwrap_or(i64::MAX),
                }),
                None => None,
            };
            let answer = row.get::<_, Option<String>>(5)?.map(|text| serde_json::from_str(&text).unwrap());
            Ok(Done { step: id(row.get(0)?), asked, answer })
        });
        done.unwrap().map(Result::unwrap).collect()
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let Some(call) = read(&mut stream).await else { return };
        let (body, step) = (call.json(), Uuid::parse_str(call.header("webhook-id")).unwrap());
        let row = self.begin(step, &body);
        self.open.send_modify(|open| *open += 1);
        let reply = match body["callback_url"].as_str() {
            None => self.work(&body, &mut stream).await,
            Some(url) => {
                self.take_on(step, &body, url);
                Some((202, json!({ "status": 202 })))
            }
        };
        // Before the answer is sent: whoever has it may begin another call at once.
        self.end(row, reply.as_ref().map(|(_, answer)| answer));
        self.open.send_modify(|open| *open -= 1);
        let Some((status, answer)) = reply else { return };
        if body["input"]["narrow"] != true {
            self.answered.send_modify(|answered| *answered += 1);
        }
        if let Reply::Bytes(bytes) = Reply::json(status, &answer) {
            stream.write_all(&bytes).await.ok();
            stream.shutdown().await.ok();
        }
    }

    /// Works as long as the input says and while answers are held back. None when the caller hangs up before.
    async fn work(&self, body: &Value, stream: &mut TcpStream) -> Option<(u16, Value)> {
        let working = async {
            tokio::time::sleep(Duration::from_millis(body["input"]["ms"].as_u64().unwrap_or(WORK_MS))).await;
            self.held.subscribe().wait_for(|held| !held).await.unwrap();
        };
        let mut more = [0];
        tokio::select! {
            () = working => Some((200, self.answer(body))),
            _ = stream.read(&mut more) => None,
        }
    }

    /// No two answers are alike: the log's tells which of them it has.
    fn answer(&self, body: &Value) -> Value {
        json!({ "marker": body["input"]["marker"], "number": self.answers.fetch_add(1, Ordering::SeqCst) })
    }

    fn take_on(self: &Arc<Self>, step: Uuid, body: &Value, url: &str) {
        if self.taken_on.lock().unwrap().insert(step) {
            tokio::spawn(self.clone().tell(body.clone(), url.to_owned()));
        }
    }

    /// Does the work, and tells of it until that is taken.
    async fn tell(self: Arc<Self>, body: Value, url: String) {
        tokio::time::sleep(Duration::from_millis(body["input"]["ms"].as_u64().unwrap_or(WORK_MS))).await;
        let told = json!({ "output": self.answer(&body) });
        let task = Uuid::parse_str(body["task_id"].as_str().unwrap()).unwrap();
        // The call was the task's first step.
        let step = step_id(task, 2).to_string();
        let insert = "INSERT INTO calls (step, answer) VALUES (?1, ?2)";
        self.store.lock().unwrap().execute(insert, params![step, told.to_string()]).unwrap();
        let client = reqwest::Client::new();
        loop {
            match client.post(&url).json(&told).send().await.map(|response| response.status().as_u16()) {
                // Told before, when the answer to that was lost.
                Ok(200 | 409) => return,
                Ok(500..) | Err(_) => tokio::time::sleep(TELL_PAUSE).await,
                Ok(status) => {
                    self.complaints.lock().unwrap().push(format!("{status} to the answer of task {task}"));
                    return;
                }
            }
        }
    }

    fn begin(&self, step: Uuid, body: &Value) -> i64 {
        let store = self.store.lock().unwrap();
        let insert = "INSERT INTO calls (step, agent, attempt, begun_us) VALUES (?1, ?2, ?3, ?4)";
        let (agent, attempt) = (body["agent_id"].as_str().unwrap(), body["attempt"].as_i64().unwrap());
        let begun_us = Utc::now().timestamp_micros();
        store.execute(insert, params![step.to_string(), agent, attempt, begun_us]).unwrap();
        store.last_insert_rowid()
    }

    fn end(&self, row: i64, answer: Option<&Value>) {
        let update = "UPDATE calls SET ended_us = ?2, answer = ?3 WHERE rowid = ?1";
        let answer = answer.map(Value::to_string);
        let store = self.store.lock().unwrap();
        store.execute(update, params![row, Utc::now().timestamp_micros(), answer]).unwrap();
    }
}
