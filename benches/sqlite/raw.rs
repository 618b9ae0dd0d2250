//! The reference: the same rows, indexes and durability through rusqlite alone, without any of the log's promises.
use chrono::DateTime;
use marvin::log::StoredEvent;
use marvin_domain::{AggregateKind, Envelope, Event, StreamId};
use rusqlite::{Connection, params};
use std::path::Path;
use uuid::Uuid;

/// The log's own table and indexes. Its triggers are promises, so they are not here.
const SEALED_TABLE: &str = "CREATE TABLE events (
    position INTEGER PRIMARY KEY, aggregate_type TEXT NOT NULL, aggregate_id BLOB NOT NULL, sequence INTEGER NOT NULL,
    event_type TEXT NOT NULL, event_version INTEGER NOT NULL, payload BLOB NOT NULL, metadata TEXT NOT NULL,
    event_id BLOB NOT NULL, command_id BLOB NOT NULL, command_index INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
    UNIQUE (aggregate_type, aggregate_id, sequence), UNIQUE (command_id, command_index)) STRICT";
/// The same with the two parts of a payload in clear.
const CLEAR_TABLE: &str = "CREATE TABLE clear (
    position INTEGER PRIMARY KEY, aggregate_type TEXT NOT NULL, aggregate_id BLOB NOT NULL, sequence INTEGER NOT NULL,
    event_type TEXT NOT NULL, event_version INTEGER NOT NULL, facts BLOB NOT NULL, personal BLOB, metadata TEXT NOT NULL,
    event_id BLOB NOT NULL, command_id BLOB NOT NULL, command_index INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
    UNIQUE (aggregate_type, aggregate_id, sequence), UNIQUE (command_id, command_index)) STRICT";
const INSERT: &str = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

pub struct Raw {
    connection: Connection,
}

impl Raw {
    pub fn create(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SEALED_TABLE)?;
        connection.execute_batch(CLEAR_TABLE)?;
        Ok(Self { connection })
    }

    /// Inserts rows in one transaction.
    pub fn insert(&self, rows: &[StoredEvent]) -> rusqlite::Result<()> {
        insert_all(&self.connection, rows)
    }

    pub fn last_position(&self) -> rusqlite::Result<u64> {
        let last = "SELECT coalesce(max(position), 0) FROM events";
        self.connection.query_row(last, [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
    }

    /// Keeps opened events as they would be kept without sealing.
    pub fn insert_clear(&self, events: &[Envelope]) -> rusqlite::Result<()> {
        let mut statement = self
            .connection
            .prepare("INSERT INTO clear VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, ?12)")?;
        self.connection.execute_batch("BEGIN")?;
        for event in events {
            statement.execute(params![
                event.position.cast_signed(),
                event.stream.kind.as_str(),
                event.stream.id.as_bytes().as_slice(),
                event.sequence.cast_signed(),
                event.event.event_type(),
                event.event.version(),
                event.event.facts(),
                event.event.personal(),
                serde_json::to_string(&event.metadata).expect("metadata is JSON"),
                event.event_id.as_bytes().as_slice(),
                event.command_id.as_bytes().as_slice(),
                event.recorded_at.timestamp_millis(),
            ])?;
        }
        self.connection.execute_batch("COMMIT")
    }

    /// The bare loop: one statement over all clear rows, each decoded into what a reader of the log gets.
    pub fn decode_all(&self) -> rusqlite::Result<Vec<Envelope>> {
        let mut statement = self.connection.prepare_cached("SELECT * FROM clear ORDER BY position")?;
        let mut rows = statement.query([])?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            let kind = AggregateKind::parse(row.get_ref(1)?.as_str()?).expect("a known kind");
            let personal = row.get_ref(7)?.as_bytes_or_null()?;
            let (event_type, version, facts) = (row.get_ref(4)?.as_str()?, row.get(5)?, row.get_ref(6)?.as_bytes()?);
            let id =
                |column| Ok::<_, rusqlite::Error>(Uuid::from_slice(row.get_ref(column)?.as_bytes()?).expect("an id"));
            events.push(Envelope {
                position: row.get::<_, i64>(0)?.cast_unsigned(),
                stream: StreamId { kind, id: id(2)? },
                sequence: row.get::<_, i64>(3)?.cast_unsigned(),
                event_id: id(9)?,
                command_id: id(10)?,
                recorded_at: DateTime::from_timestamp_millis(row.get(12)?).expect("a time"),
                metadata: serde_json::from_str(row.get_ref(8)?.as_str()?).expect("metadata as written"),
                event: Event::decode(kind, event_type, version, facts, personal).expect("an event as written"),
            });
        }
        Ok(events)
    }
}

/// Fills a log that is closed, through its own table and triggers, without waiting for the disk at each transaction.
pub fn fill(connection: &Connection, rows: &[StoredEvent]) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "OFF")?;
    insert_all(connection, rows)
}

fn insert_all(connection: &Connection, rows: &[StoredEvent]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(INSERT)?;
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for row in rows {
        statement.execute(params![
            row.position.cast_signed(),
            row.stream.kind.as_str(),
            row.stream.id.as_bytes().as_slice(),
            row.sequence.cast_signed(),
            row.event_type,
            row.event_version,
            row.payload,
            row.metadata,
            row.event_id.as_bytes().as_slice(),
            row.command_id.as_bytes().as_slice(),
            0,
            row.recorded_at.timestamp_millis(),
        ])?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
