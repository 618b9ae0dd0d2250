//! Whoever folds keeps documents in memory, in clear, and is told of every person who is erased.
use crate::stack::Stack;
use marvin::log::subscription::Follower;
use marvin_domain::{
    AggregateKind, Envelope,
    task::{CancelReason, TaskCommand},
    user::{Role, UserCommand},
};
use marvin_projections::{Field, Fold, FoldError, Lane, Plan, RawDocument, Skips, Touch, fold_of, tasks::Tasks};
use serde_json::json;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// What a lane was told, and what it had to have loaded.
#[derive(Debug, Default)]
struct Noted {
    lanes: usize,
    forgotten: Vec<Uuid>,
    missing: Vec<Uuid>,
}

/// A projection that notes what its lanes do.
struct Noting {
    inner: Arc<dyn Fold>,
    noted: Arc<Mutex<Noted>>,
}

struct NotingLane {
    inner: Box<dyn Lane>,
    noted: Arc<Mutex<Noted>>,
}

impl Fold for Noting {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn version(&self) -> u32 {
        self.inner.version()
    }
    fn kinds(&self) -> &'static [AggregateKind] {
        self.inner.kinds()
    }
    fn fields(&self) -> &'static [Field] {
        self.inner.fields()
    }
    fn indexes(&self) -> &'static [&'static [&'static str]] {
        self.inner.indexes()
    }
    fn ids(&self, event: &Envelope) -> Result<Vec<Uuid>, FoldError> {
        self.inner.ids(event)
    }
    fn plan(&self, events: &[Arc<Envelope>], skips: &Skips, lanes: usize) -> Plan {
        self.inner.plan(events, skips, lanes)
    }
    fn lane(&self, bytes_max: usize) -> Box<dyn Lane> {
        self.noted.lock().unwrap().lanes += 1;
        Box::new(NotingLane { inner: self.inner.lane(bytes_max), noted: self.noted.clone() })
    }
}

impl Lane for NotingLane {
    fn missing(&self, touches: &[Touch]) -> Vec<Uuid> {
        let missing = self.inner.missing(touches);
        self.noted.lock().unwrap().missing.extend(&missing);
        missing
    }
    fn fold(&mut self, loaded: Vec<RawDocument>, touches: &[Touch]) -> Result<Vec<RawDocument>, FoldError> {
        self.inner.fold(loaded, touches)
    }
    fn keep(&mut self) {
        self.inner.keep();
    }
    fn forget(&mut self, subject: Uuid) {
        self.noted.lock().unwrap().forgotten.push(subject);
        self.inner.forget(subject);
    }
}

#[tokio::test]
async fn every_lane_forgets_an_erased_person_and_nobody_else() {
    let stack = Stack::new().await;
    let (ada, bob) =
        (stack.user("a@example.com", &[Role::Member]).await, stack.user("b@example.com", &[Role::Member]).await);
    let agent = stack.agent("scribe").await;
    let (hers, his) = (stack.task(agent, ada, json!("hers")).await, stack.task(agent, bob, json!("his")).await);
    let noted = Arc::new(Mutex::new(Noted::default()));
    let fold = Arc::new(Noting { inner: fold_of::<Tasks>(), noted: noted.clone() });
    let mut projector = stack.projector(fold, stack.stores.views.clone()).await;
    let mut taken = 0;
    let mut take_rest = async || {
        let events: Vec<_> = stack.events().await.into_iter().map(Arc::new).collect();
        projector.take(&events[taken..]).await.unwrap();
        taken = events.len();
        std::mem::take(&mut noted.lock().unwrap().missing)
    };
    take_rest().await;
    stack.send(ada, UserCommand::Erase).await;
    take_rest().await;
    {
        let noted = noted.lock().unwrap();
        assert_eq!(noted.forgotten, vec![ada; noted.lanes]);
    }
    for task in [hers, his] {
        stack.send(task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    }
    assert_eq!(take_rest().await, [hers], "his is still in memory");
}
