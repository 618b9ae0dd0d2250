//! disintegrate-postgres 4: appends under a query that nothing may have answered since, on serializable transactions.
use disintegrate::{
    DomainIdInfo, DomainIdSet, Event, EventInfo, EventSchema, EventStore, IdentifierType, domain_ids, ident, query,
    serde::json::Json,
};
use disintegrate_postgres::{Error, PgEventStore};
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    journal::{Recorded, recorded},
    postgres_es::{pool, together},
    support::load::COMMANDS,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    task_id: Uuid,
    recorded: Recorded,
}

impl Event for Step {
    const SCHEMA: EventSchema = EventSchema {
        events: &["Step"],
        events_info: &[&EventInfo { name: "Step", domain_ids: &[&ident!(#task_id)] }],
        domain_ids: &[&DomainIdInfo { ident: ident!(#task_id), type_info: IdentifierType::Uuid }],
    };

    fn domain_ids(&self) -> DomainIdSet {
        domain_ids! { task_id: self.task_id }
    }

    fn name(&self) -> &'static str {
        "Step"
    }
}

pub struct Disintegrate {
    store: Arc<PgEventStore<Step, Json<Step>>>,
    /// Appends that lost a race which was none, and were tried again.
    pub retries: Arc<AtomicUsize>,
}

impl Disintegrate {
    pub async fn new(url: &str) -> Self {
        let store = PgEventStore::try_new(pool(url).await, Json::default()).await.expect("a new store");
        Self { store: Arc::new(store), retries: Arc::default() }
    }

    /// Seconds a command, of 32 writers with a task each.
    pub fn append(&self, runtime: &Runtime) -> f64 {
        together(runtime, COMMANDS, || {
            let (store, retries) = (self.store.clone(), self.retries.clone());
            async move {
                let task_id = Uuid::now_v7();
                let mut last = 0;
                for number in 1..=COMMANDS as u64 {
                    let event = Step { task_id, recorded: recorded(number) };
                    last = loop {
                        let stream = query! { Step; task_id == task_id };
                        match store.append(vec![event.clone()], stream, last).await {
                            Ok(appended) => break appended[0].id(),
                            Err(error) => assert!(is_race(&error), "nothing is in the way: {error}"),
                        }
                        retries.fetch_add(1, Ordering::Relaxed);
                    };
                }
            }
        })
    }
}

/// A serializable transaction may be refused for what others read, at its end or before.
fn is_race(error: &Error) -> bool {
    match error {
        Error::Concurrency => true,
        Error::Database(sqlx::Error::Database(error)) => error.code().as_deref() == Some("40001"),
        _ => false,
    }
}
