//! What every event log promises: order without a gap, whole commands or none, one winner, and a memory for command ids.
use marvin::log::{
    Append, EventLog, NewEvent, Receipt, StoredEvent, StreamAppend, postgres::PostgresLog, sqlite::SqliteLog,
};
use marvin_domain::{AggregateKind, StreamId};
use std::sync::Arc;
use uuid::Uuid;

use super::postgres::Database;

mod append;
mod changes;
mod commands;
mod model;
mod order;
mod weather;

pub enum Adapter {
    Sqlite,
    Postgres,
}

enum Home {
    File(tempfile::TempDir),
    Database(Database),
}

/// A log over an empty store, which can be closed and opened again.
struct Subject {
    home: Home,
    log: Arc<dyn EventLog>,
}

impl Adapter {
    async fn log(&self) -> Subject {
        Subject::over(match self {
            Self::Sqlite => Home::File(tempfile::tempdir().unwrap()),
            Self::Postgres => Home::Database(Database::shared()),
        })
        .await
    }
}

impl Subject {
    async fn over(home: Home) -> Self {
        let log: Arc<dyn EventLog> = match &home {
            Home::File(directory) => Arc::new(SqliteLog::open(&directory.path().join("log.db")).unwrap()),
            Home::Database(database) => node(database).await,
        };
        Self { home, log }
    }

    /// As after a restart.
    async fn reopen(self) -> Self {
        let Self { home, log } = self;
        drop(log);
        Self::over(home).await
    }

    /// Another node on the same log. A file has one process, so there it is the same one.
    async fn other_node(&self) -> Arc<dyn EventLog> {
        match &self.home {
            Home::File(_) => self.log.clone(),
            Home::Database(database) => node(database).await,
        }
    }

    fn database(&self) -> &Database {
        match &self.home {
            Home::Database(database) => database,
            Home::File(_) => panic!("this log is a file"),
        }
    }
}

async fn node(database: &Database) -> Arc<dyn EventLog> {
    Arc::new(PostgresLog::start(database.prepare().await).await.unwrap())
}

fn stream() -> StreamId {
    StreamId { kind: AggregateKind::Task, id: Uuid::now_v7() }
}

const CORRELATION: &str = r#""actor":"system","correlation":"00000000-0000-0000-0000-000000000000""#;

fn events(count: usize) -> Vec<NewEvent> {
    let event = |_| NewEvent {
        event_id: Uuid::now_v7(),
        event_type: "submitted",
        event_version: 1,
        payload: b"sealed".to_vec(),
        metadata: format!("{{{CORRELATION}}}"),
    };
    (0..count).map(event).collect()
}

fn append(stream: StreamId, expected: u64, count: usize) -> Append {
    Append {
        command_id: Uuid::now_v7(),
        digest: None,
        streams: vec![StreamAppend { stream, expected, events: events(count) }],
    }
}

fn with_digest(mut append: Append, digest: &str) -> Append {
    append.digest = Some(digest.into());
    for event in append.streams.iter_mut().flat_map(|stream| &mut stream.events) {
        event.metadata = format!(r#"{{{CORRELATION},"digest":"{digest}"}}"#);
    }
    append
}

/// Every event, read in small pages.
async fn all(log: &dyn EventLog) -> Vec<StoredEvent> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = log.read(after, 97).await.unwrap();
        let Some(last) = page.last() else { return found };
        after = last.position;
        found.extend(page);
    }
}

async fn positions(log: &dyn EventLog) -> Vec<u64> {
    all(log).await.iter().map(|event| event.position).collect()
}

fn first(receipt: Receipt) -> Receipt {
    Receipt { repeated: false, ..receipt }
}
