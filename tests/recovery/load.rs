//! People who give agents tasks, many at once, each under a key, and who remember what they were told.
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    random::Random,
    support::{Answer, Client, Server},
};

/// Who submit at once.
const SUBMITTERS: usize = 8;
/// Values of a series that a debug build works on for some tenths of a second, so that a kill meets it running.
const LONG_SERIES: usize = 6_000;
const SHORT_SERIES: usize = 40;
/// Tasks of the slow agent that run at once.
pub const SLOW_AT_ONCE: u32 = 2;

/// Which agent a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Computes for long.
    Slow,
    Quick,
    /// Evaluates, notifies twice, starts a task of [`Kind::Child`].
    Rules,
    /// Evaluates and notifies; only ever started by [`Kind::Rules`].
    Child,
}

/// The agents, each with the number of tasks that it may run at once.
#[derive(Debug, Clone)]
pub struct Agents(pub Vec<(Kind, String, u32)>);

impl Agents {
    pub async fn create(admin: &Client) -> Self {
        let mut made = Vec::new();
        let child =
            json!({ "rules": [{ "name": "tell", "when": "true", "then": [notify("child {{ input.marker }}")] }] });
        made.push(agent(admin, Kind::Child, "rules", child, 3).await);
        let task = json!({ "task": { "agent_id": made[0].1, "input": { "marker": "{{ input.marker }}" } } });
        let actions = json!([notify("first {{ input.marker }}"), task, notify("last {{ input.marker }}")]);
        let rules = json!({ "rules": [
            { "name": "act", "when": "input.marker >= 0", "then": actions },
            { "name": "never", "when": "input.marker < 0", "then": [notify("wrong")] },
        ] });
        made.push(agent(admin, Kind::Rules, "rules", rules, 4).await);
        made.push(agent(admin, Kind::Slow, "insight", json!({}), SLOW_AT_ONCE).await);
        made.push(agent(admin, Kind::Quick, "insight", json!({}), 3).await);
        // A view that nothing stands in would prove nothing.
        admin.schedule(&made[1].1).await;
        Self(made)
    }

    pub fn id(&self, kind: Kind) -> &str {
        self.0.iter().find(|(known, ..)| *known == kind).map(|(_, id, _)| id.as_str()).unwrap()
    }

    pub fn kind(&self, id: &str) -> Kind {
        self.0.iter().find(|(_, known, _)| known == id).map(|(kind, ..)| *kind).unwrap()
    }

    pub fn limit(&self, id: &str) -> usize {
        self.0.iter().find(|(_, known, _)| known == id).map(|(.., limit)| *limit as usize).unwrap()
    }
}

fn notify(title: &str) -> Value {
    json!({ "notify": { "to": "requester", "severity": "info", "title": title, "body": "By rule." } })
}

async fn agent(admin: &Client, kind: Kind, handler: &str, config: Value, limit: u32) -> (Kind, String, u32) {
    let limits = json!({ "max_concurrency": limit, "max_attempts": 20 });
    let body = json!({ "name": format!("{kind:?}"), "kind": handler, "config": config, "limits": limits });
    (kind, admin.post("/api/v1/agents", &body).await.expect(201).id(), limit)
}

/// One task as it is asked for. The marker is in its input, so the log tells which one it is.
#[derive(Debug, Clone)]
pub struct Order {
    pub marker: u64,
    person: usize,
    path: String,
    body: Value,
}

/// Everything asked for, and what came of it.
pub struct Load {
    seed: u64,
    agents: Agents,
    next: AtomicU64,
    stopped: AtomicBool,
    pub acknowledged: Mutex<Vec<(Order, String)>>,
    /// Sent, and never answered: the task is there or not.
    pub unknown: Mutex<Vec<Order>>,
}

impl Load {
    pub fn new(seed: u64, agents: Agents) -> Self {
        let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { seed, agents, next, stopped, acknowledged: Mutex::default(), unknown: Mutex::default() }
    }

    /// The order of a marker is the same whenever it is asked for.
    fn order(&self, marker: u64, people: usize) -> Order {
        let mut random = Random::seeded(self.seed ^ marker);
        let kind = match random.below(24) {
            0 => Kind::Slow,
            1..=11 => Kind::Quick,
            _ => Kind::Rules,
        };
        let input = match kind {
            Kind::Slow => series(marker, LONG_SERIES, &mut random),
            Kind::Quick => series(marker, SHORT_SERIES, &mut random),
            Kind::Rules | Kind::Child => json!({ "marker": marker }),
        };
        let path = format!("/api/v1/agents/{}/tasks", self.agents.id(kind));
        let body = json!({ "input": input, "priority": random.below(10) });
        let person = usize::try_from(random.below(people as u64)).unwrap();
        Order { marker, person, path, body }
    }

    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Submits until the server no longer answers, from several sides at once.
    pub async fn submit_until_it_dies(&self, people: &[Client]) {
        self.stopped.store(false, Ordering::SeqCst);
        let submitter = async || {
            while !self.stopped.load(Ordering::SeqCst) {
                let order = self.order(self.next.fetch_add(1, Ordering::SeqCst), people.len());
                match send(&order, people).await {
                    Some(answer) => self.keep(order, &answer.expect(202)),
                    None => {
                        self.unknown.lock().unwrap().push(order);
                        self.stopped.store(true, Ordering::SeqCst);
                    }
                }
            }
        };
        futures_util::future::join_all((0..SUBMITTERS).map(|_| submitter())).await;
    }

    fn keep(&self, order: Order, answer: &Answer) {
        self.acknowledged.lock().unwrap().push((order, answer.id()));
    }

    /// Sends again what was never answered. Answers how many of those the log had already, with its end at `head`.
    pub async fn settle(&self, people: &[Client], head: u64) -> usize {
        let unknown = std::mem::take(&mut *self.unknown.lock().unwrap());
        let mut there = 0;
        for order in unknown {
            let answer = send(&order, people).await.unwrap().expect(202);
            there += usize::from(answer.position() <= head);
            self.keep(order, &answer);
        }
        there
    }

    /// Sends every acknowledged order again under its key.
    ///
    /// # Panics
    /// Unless each answers the id that it answered first.
    pub async fn repeat_all(&self, people: &[Client]) {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        for (order, id) in acknowledged {
            let again = send(&order, people).await.unwrap().expect(202);
            assert_eq!(again.id(), id, "order {} was taken on twice", order.marker);
        }
    }
}

fn series(marker: u64, length: usize, random: &mut Random) -> Value {
    let noise = |index: usize, random: &mut Random| (index % 7 * 10) as f64 + random.below(100) as f64 / 10.0;
    let values: Vec<f64> =
        (0..length).map(|index| if index == 0 { marker as f64 } else { noise(index, random) }).collect();
    json!({ "values": values })
}

/// The answer, or none when the server is gone.
async fn send(order: &Order, people: &[Client]) -> Option<Answer> {
    let key = format!("order-{}", order.marker);
    let request = people[order.person].request(Method::POST, &order.path).header("idempotency-key", key);
    let response = request.json(&order.body).send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // The head of an answer may arrive without its body: then nothing was acknowledged.
    let body = response.bytes().await.ok()?;
    Some(Answer { status, headers, body })
}

/// The same people at a server that was started again.
pub fn moved(people: &[Client], server: &Server) -> Vec<Client> {
    people.iter().map(|person| person.at(server)).collect()
}
