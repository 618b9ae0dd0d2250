//! Who asks for tasks: each once, however often the server is away meanwhile.
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    super::{random::Random, support::Client},
    PATIENCE,
    outside::Outside,
};

/// Who submit at once.
const SUBMITTERS: usize = 4;
/// Between two attempts to submit.
const SUBMIT_PAUSE: Duration = Duration::from_millis(100);
/// The work outside takes this long, or up to this much longer.
const WORK_MS_MIN: u64 = 20;
const WORK_MS_SPREAD: u64 = 300;

/// Which agent a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Asks outside, one at a time.
    Single,
    /// Ask outside, some at a time.
    Few,
    Many,
    /// Asks outside, and is answered later.
    Later,
    /// Starts a task of [`Kind::Many`], by rule.
    Starter,
}

impl Kind {
    /// The order of a marker is the same in every run of a seed.
    pub fn of(seed: u64, marker: u64) -> Self {
        match Random::seeded(seed ^ marker).below(25) {
            0 => Self::Single,
            1..=4 => Self::Few,
            5..=8 => Self::Later,
            9 => Self::Starter,
            _ => Self::Many,
        }
    }

    /// The kinds of the steps of its tasks.
    pub fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Single | Self::Few | Self::Many => &["webhook"],
            Self::Later => &["webhook", "callback"],
            Self::Starter => &["evaluate", "task"],
        }
    }
}

/// Each kind's agent, and how many tasks it may run at once.
#[derive(Debug, Clone)]
pub struct Agents(BTreeMap<Kind, (Uuid, usize)>);

impl Agents {
    pub async fn create(admin: &Client, outside: &Outside) -> Self {
        let mut agents = BTreeMap::new();
        let (asks, tells) = (json!({ "url": outside.url }), json!({ "url": outside.url, "mode": "callback" }));
        for (kind, handler, config, at_once) in [
            (Kind::Single, "webhook", &asks, 1),
            (Kind::Few, "webhook", &asks, 5),
            (Kind::Many, "webhook", &asks, 24),
            (Kind::Later, "webhook", &tells, 12),
        ] {
            agents.insert(kind, (agent(admin, kind, handler, config, at_once).await, at_once));
        }
        let task =
            json!({ "task": { "agent_id": agents[&Kind::Many].0, "input": { "marker": "{{ input.marker }}" } } });
        let rules = json!({ "rules": [{ "name": "start", "when": "true", "then": [task] }] });
        agents.insert(Kind::Starter, (agent(admin, Kind::Starter, "rules", &rules, 4).await, 4));
        Self(agents)
    }

    pub fn id(&self, kind: Kind) -> Uuid {
        self.0[&kind].0
    }

    pub fn kind(&self, id: &str) -> Kind {
        *self.0.iter().find(|(_, (known, _))| known.to_string() == id).unwrap().0
    }

    pub fn limits(&self) -> BTreeMap<Uuid, usize> {
        self.0.values().copied().collect()
    }
}

async fn agent(admin: &Client, kind: Kind, handler: &str, config: &Value, at_once: usize) -> Uuid {
    // An attempt is lost at most kills; enough of them are left for the most unlucky task.
    let limits = json!({ "max_concurrency": at_once, "max_attempts": 20 });
    let body = json!({ "name": format!("{kind:?}"), "kind": handler, "config": config, "limits": limits });
    Uuid::parse_str(&admin.post("/api/v1/agents", &body).await.expect(201).id()).unwrap()
}

pub struct Orders {
    pub seed: u64,
    pub count: u64,
    agents: Agents,
    next: AtomicU64,
    /// Markers below this one may be submitted by now.
    quota: watch::Sender<u64>,
    /// The ids that were answered, by marker.
    pub acknowledged: Mutex<BTreeMap<u64, String>>,
}

impl Orders {
    pub fn new(seed: u64, count: u64, agents: Agents) -> Self {
        let (next, quota) = (AtomicU64::new(0), watch::channel(0).0);
        Self { seed, count, agents, next, quota, acknowledged: Mutex::default() }
    }

    /// Lets orders up to this marker go out.
    pub fn allow(&self, quota: u64) {
        self.quota.send_modify(|allowed| *allowed = quota.min(self.count).max(*allowed));
    }

    /// Lets some more go out, as long as there are any.
    pub fn allow_more(&self, more: u64) {
        let allowed = *self.quota.borrow();
        self.allow(allowed + more);
    }

    /// How many of the orders below a marker end in a call that others are answered beside.
    pub fn wide(&self, below: u64) -> usize {
        (0..below).filter(|marker| Kind::of(self.seed, *marker) != Kind::Single).count()
    }

    /// Submits every order, each as soon as it may.
    pub async fn submit_all(&self, admin: &Client) {
        let submitter = async || {
            loop {
                let marker = self.next.fetch_add(1, Ordering::SeqCst);
                if marker >= self.count {
                    return;
                }
                self.quota.subscribe().wait_for(|quota| marker < *quota).await.unwrap();
                let id = self.submit(admin, marker).await;
                self.acknowledged.lock().unwrap().insert(marker, id);
            }
        };
        futures_util::future::join_all((0..SUBMITTERS).map(|_| submitter())).await;
    }

    async fn submit(&self, admin: &Client, marker: u64) -> String {
        let kind = Kind::of(self.seed, marker);
        let ms = WORK_MS_MIN + Random::seeded(self.seed ^ !marker).below(WORK_MS_SPREAD);
        let body = json!({ "input": { "marker": marker, "ms": ms, "narrow": kind == Kind::Single } });
        let path = format!("/api/v1/agents/{}/tasks", self.agents.id(kind));
        let begun = Instant::now();
        loop {
            let key = format!("order-{marker}");
            let sending = admin.request(Method::POST, &path).header("idempotency-key", key).json(&body).send();
            // The server may be away, or may have been killed behind the head of its answer.
            if let Ok(response) = sending.await {
                let status = response.status().as_u16();
                match (status, response.json::<Value>().await) {
                    (202, Ok(receipt)) => return receipt["id"].as_str().unwrap().to_owned(),
                    (202 | 503, _) => {}
                    (status, body) => panic!("order {marker} was refused: {status} {body:?}"),
                }
            }
            assert!(begun.elapsed() < PATIENCE, "order {marker} is not taken");
            tokio::time::sleep(SUBMIT_PAUSE).await;
        }
    }
}
