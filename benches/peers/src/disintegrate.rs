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

/// Its own set-up is written for PostgreSQL 16 and later. This is what appending needs of it, in words that 15 knows too: the same
/// table, indexes and locks, for fewer than 2^31 events.
const TABLES: [&str; 5] = [
    "CREATE SEQUENCE seq_event_event_id",
    "CREATE TABLE event (event_id bigint PRIMARY KEY DEFAULT nextval('seq_event_event_id'), event_type varchar(255),
     payload bytea, inserted_at timestamp DEFAULT now(), task_id uuid)",
    "CREATE INDEX idx_event_type_btree ON event (event_type)",
    "CREATE INDEX idx_event_task_id ON event (task_id) WHERE task_id IS NOT NULL",
    "CREATE FUNCTION event_store_begin_epoch() RETURNS void LANGUAGE sql AS $$
         SELECT pg_try_advisory_xact_lock_shared(oid::integer, 0), pg_try_advisory_xact_lock_shared(1, last_value::integer),
                pg_try_advisory_xact_lock_shared(2, 0)
         FROM pg_database, seq_event_event_id WHERE datname = current_database() $$",
];

pub struct Disintegrate {
    store: Arc<PgEventStore<Step, Json<Step>>>,
    /// Appends that lost a race which was none, and were tried again.
    pub retries: Arc<AtomicUsize>,
}

impl Disintegrate {
    pub async fn new(url: &str) -> Self {
        let pool = pool(url).await;
        for statement in TABLES {
            sqlx::query(statement).execute(&pool).await.expect("a new database");
        }
        let store = PgEventStore::new_uninitialized(pool, Json::default());
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
