//! postgres-es 0.5: its repository alone (`persist`), and its framework around it (`execute`), each with 32 connections.
use cqrs_es::{
    CqrsFramework, EventStore,
    persist::{PersistedEventRepository, PersistedEventStore, SerializedEvent},
};
use futures_util::future::join_all;
use postgres_es::PostgresEventRepository;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::{sync::Arc, time::Instant};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    journal::{Journal, RecordStep, Recorded, recorded},
    support::{
        load::{COMMANDS, WRITERS},
        sample::STREAM_EVENTS,
        seconds_each,
    },
};

/// The table as postgres-es brings it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS events (
    aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence bigint CHECK (sequence >= 0) NOT NULL,
    event_type text NOT NULL, event_version text NOT NULL, payload json NOT NULL, metadata json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence))";

pub struct PostgresEs {
    pool: PgPool,
    repository: Arc<PostgresEventRepository>,
    framework: Arc<CqrsFramework<Journal, PersistedEventStore<PostgresEventRepository, Journal>>>,
}

/// A pool in which each writer has a connection.
pub async fn pool(url: &str) -> PgPool {
    let pool = PgPoolOptions::new().min_connections(WRITERS as u32).max_connections(WRITERS as u32);
    pool.connect(url).await.expect("the server answers")
}

/// Seconds a command, of 32 writers at once.
pub fn together<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    commands: usize,
    writer: impl Fn() -> F,
) -> f64 {
    let start = Instant::now();
    runtime.block_on(async {
        for writer in join_all((0..WRITERS).map(|_| tokio::spawn(writer()))).await {
            writer.expect("a writer finishes");
        }
    });
    start.elapsed().as_secs_f64() / (WRITERS * commands) as f64
}

impl PostgresEs {
    pub async fn new(url: &str) -> Self {
        let pool = pool(url).await;
        sqlx::query(TABLE).execute(&pool).await.expect("a new table");
        let repository = || PostgresEventRepository::new(pool.clone());
        let store = PersistedEventStore::new_event_store(repository());
        let framework = Arc::new(CqrsFramework::new(store, Vec::new(), ()));
        Self { repository: Arc::new(repository()), framework, pool: pool.clone() }
    }

    async fn count(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&self.pool).await.expect("it is readable")
    }

    /// Its lowest level: one transaction an event, no aggregate.
    pub fn persist(&self, runtime: &Runtime) -> f64 {
        let before = runtime.block_on(self.count());
        let seconds = together(runtime, COMMANDS, || {
            let repository = self.repository.clone();
            async move {
                let id = Uuid::now_v7();
                for sequence in 1..=COMMANDS {
                    let event = [serialized(id, sequence)];
                    repository.persist::<Journal>(&event, None).await.expect("nothing is in the way");
                }
            }
        });
        assert_eq!(runtime.block_on(self.count()) - before, (WRITERS * COMMANDS) as i64, "every event is there");
        seconds
    }

    /// Whole commands: load the stream, decide, persist. A stream ends after `stream_commands`, since each loads all of it.
    pub fn execute(&self, runtime: &Runtime, commands: usize, stream_commands: usize) -> f64 {
        let before = runtime.block_on(self.count());
        let seconds = together(runtime, commands, || {
            let framework = self.framework.clone();
            async move {
                for _ in 0..commands / stream_commands {
                    let id = Uuid::now_v7().to_string();
                    for _ in 0..stream_commands {
                        framework.execute(&id, RecordStep).await.expect("nothing is in the way");
                    }
                }
            }
        });
        assert_eq!(runtime.block_on(self.count()) - before, (WRITERS * commands) as i64, "every event is there");
        seconds
    }

    /// Streams of 100 events that grow side by side, so that the events of one lie apart here too.
    pub fn fill(&self, runtime: &Runtime, streams: usize) -> Vec<String> {
        let ids: Vec<Uuid> = (0..streams).map(|_| Uuid::now_v7()).collect();
        for sequence in 1..=STREAM_EVENTS as usize {
            for id in &ids {
                let event = [serialized(*id, sequence)];
                runtime.block_on(self.repository.persist::<Journal>(&event, None)).expect("nothing is in the way");
            }
        }
        runtime.block_on(sqlx::query("VACUUM ANALYZE events").execute(&self.pool)).expect("a superuser may");
        ids.iter().map(Uuid::to_string).collect()
    }

    /// Seconds to load an aggregate of 100 events.
    pub fn load(&self, runtime: &Runtime, ids: &[String]) -> f64 {
        let store = PersistedEventStore::<_, Journal>::new_event_store(PostgresEventRepository::new(self.pool.clone()));
        seconds_each(ids.len(), |index| {
            let loaded = runtime.block_on(store.load_aggregate(&ids[index])).expect("it is readable");
            assert_eq!(loaded.current_sequence, STREAM_EVENTS as usize);
        })
    }

    /// Seconds an event, reading and decoding all of them, as a query that is rebuilt does.
    pub fn read(&self, runtime: &Runtime, count: u64) -> f64 {
        let start = Instant::now();
        let events = runtime.block_on(async {
            let mut stream = self.repository.stream_all_events::<Journal>().await.expect("it is readable");
            let mut events = 0;
            while let Some(event) = stream.next::<Journal>(&[]).await {
                let Recorded { facts, .. } = event.expect("it is readable").payload;
                assert!(facts.is_object());
                events += 1;
            }
            events
        });
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(events, count, "every event was read");
        seconds / count as f64
    }
}

fn serialized(id: Uuid, sequence: usize) -> SerializedEvent {
    let payload = serde_json::to_value(recorded(sequence as u64)).expect("events are JSON");
    let (id, kind) = (id.to_string(), "task".to_owned());
    SerializedEvent::new(id.clone(), sequence, kind, "step_completed".into(), "1".into(), payload, metadata(&id))
}

/// As much as Marvin keeps beside an event.
fn metadata(id: &str) -> Value {
    json!({ "actor": format!("user/{id}"), "subject": id, "correlation": id })
}
