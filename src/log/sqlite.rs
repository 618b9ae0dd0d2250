//! The event log in one SQLite file.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use marvin_domain::{AggregateKind, Position, Sequence, StreamId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{path::Path, sync::Arc};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Append, AppendError, EventLog, PAGE_BYTES_MAX, PAGE_EVENTS_MAX, ReadError, Receipt, StoredEvent, StreamAppend,
    awake::awake, check_limits,
};
use crate::{
    sqlite::{Database, Durability, Inspected, OpenError, backup::Snapshot},
    store::StoreError,
};

mod migrations {
    refinery::embed_migrations!("migrations/sqlite/log");
}

const COLUMNS: &str = "position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
                       event_id, command_id, recorded_at";

#[derive(Debug)]
pub struct SqliteLog {
    database: Database,
    head: watch::Sender<Position>,
    /// Held by every caller whose command is on its way, besides here.
    callers: Arc<()>,
}

impl SqliteLog {
    /// Opens `log.db`, or makes it.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is then left as it is.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::prepare(Self::inspect(path)?)
    }

    /// Opens `log.db` without writing to it.
    ///
    /// # Errors
    /// See [`Inspected::open`].
    pub fn inspect(path: &Path) -> Result<Inspected, OpenError> {
        Inspected::open(path, Durability::PowerCut, migrations::migrations::runner())
    }

    /// The position of the last event in a file that was only looked at.
    ///
    /// # Errors
    /// See [`Inspected::look`].
    pub fn last_position(inspected: &Inspected) -> Result<Position, OpenError> {
        if inspected.has_table("events")? { Ok(inspected.look(last_event)?.0) } else { Ok(0) }
    }

    /// The id of the event at this position in a file that was only looked at, if one stands there.
    ///
    /// # Errors
    /// See [`Inspected::look`].
    pub fn event_at(inspected: &Inspected, position: Position) -> Result<Option<Uuid>, OpenError> {
        if !inspected.has_table("events")? {
            return Ok(None);
        }
        let select = "SELECT event_id FROM events WHERE position = ?1";
        inspected.look(|connection| connection.query_row(select, [as_i64(position)], |row| uuid_of(row, 0)).optional())
    }

    /// # Errors
    /// See [`Inspected::prepare`].
    pub fn prepare(inspected: Inspected) -> Result<Self, OpenError> {
        let last = Self::last_position(&inspected)?;
        Ok(Self { database: inspected.prepare()?, head: watch::channel(last).0, callers: Arc::default() })
    }

    /// The file, for the rows that live beside the events: checkpoints and leases.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The file as it stands now, and the position of its last event. Blocks on the disk for a few pages.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn snapshot(&self) -> Result<(Snapshot, Position), StoreError> {
        let snapshot = self.database.snapshot()?;
        let (last, _) = snapshot.look(last_event)?;
        Ok((snapshot, last))
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        check_limits(&append)?;
        let caller = self.callers.clone();
        let writing = self.database.write_whole(move |connection| match insert(connection, &append, Utc::now()) {
            Err(failed @ AppendError::Unavailable(_)) => Err(failed),
            // It was judged by what stands in the transaction, and holds once that is committed.
            judged => Ok(judged),
        });
        let is_alone = Arc::strong_count(&caller) == 2;
        let judged = if is_alone { awake(writing).await } else { writing.await };
        let receipt = judged??;
        drop(caller);
        self.head.send_if_modified(|head| {
            let moved = receipt.position > *head;
            *head = receipt.position.max(*head);
            moved
        });
        Ok(receipt)
    }

    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
        self.database.read(move |connection| Ok(find_command(connection, command_id)?)).await
    }

    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE position > ?1 ORDER BY position LIMIT ?2");
        self.database
            .read(move |connection| collect(connection, &sql, params![as_i64(after), limit.min(PAGE_EVENTS_MAX)]))
            .await
    }

    async fn read_stream(&self, stream: StreamId, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE aggregate_type = ?1 AND aggregate_id = ?2 AND sequence > ?3 \
             ORDER BY sequence LIMIT ?4"
        );
        self.database
            .read(move |connection| {
                let id = stream.id.as_bytes().as_slice();
                collect(connection, &sql, params![stream.kind.as_str(), id, as_i64(after), limit.min(PAGE_EVENTS_MAX)])
            })
            .await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }
}

/// Runs inside the writer's transaction, and leaves nothing in it but a whole command. Writes as if the command were new and no
/// stream had moved: triggers and unique indexes tell otherwise, and only then is looked up what stands there.
fn insert(connection: &Connection, append: &Append, now: DateTime<Utc>) -> Result<Receipt, AppendError> {
    let database = |error: rusqlite::Error| AppendError::Unavailable(error.into());
    let run = |sql: &str| {
        let ran = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        ran.map(|_| ()).map_err(database)
    };
    // One event is written or not; of several, those before the refused one must not stay.
    let has_several = append.streams.iter().map(|stream| stream.events.len()).sum::<usize>() > 1;
    if has_several {
        run("SAVEPOINT append")?;
    }
    let written = insert_all(connection, append, now);
    let mut closed = Ok(());
    if has_several {
        if !matches!(written, Ok(Some(_))) {
            closed = run("ROLLBACK TO append");
        }
        closed = closed.and_then(|()| run("RELEASE append"));
    }
    match written {
        // What the disk said comes first: behind it there may be no savepoint left to close.
        Err(error) if !is_duplicate(&error) => return Err(database(error)),
        Ok(Some(receipt)) => return closed.map(|()| receipt),
        Ok(None) | Err(_) => closed?,
    }
    if let Some((receipt, digest)) = find_command(connection, append.command_id)? {
        let same = digest == append.digest;
        return if same { Ok(receipt) } else { Err(AppendError::Reused { command_id: append.command_id }) };
    }
    for stream in &append.streams {
        if stream_head(connection, stream.stream).map_err(database)? != stream.expected {
            return Err(AppendError::Conflict { stream: stream.stream, expected: stream.expected });
        }
    }
    let words = "a unique index refused an event that it has room for";
    Err(AppendError::Unavailable(StoreError::Commit(words.into())))
}

/// None when a stream stands behind what is expected of it, which no index would notice.
fn insert_all(connection: &Connection, append: &Append, now: DateTime<Utc>) -> rusqlite::Result<Option<Receipt>> {
    for stream in append.streams.iter().filter(|stream| stream.expected > 0) {
        if !has_event(connection, stream.stream, stream.expected)? {
            return Ok(None);
        }
    }
    let (head, recorded_at) = last_event(connection)?;
    // A clock set back must not make an event older than the one before it.
    let mut rows = Rows { connection, position: head, index: 0, recorded_at: now.timestamp_millis().max(recorded_at) };
    for stream in &append.streams {
        rows.insert(append.command_id, stream)?;
    }
    let first = append.streams.first().expect("a command is about a stream");
    let sequence = first.expected + first.events.len() as u64;
    Ok(Some(Receipt { stream: first.stream, sequence, position: rows.position, repeated: false }))
}

/// The triggers look before the indexes do, and see what INSERT OR REPLACE would hide from them.
fn is_duplicate(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_TRIGGER, SQLITE_CONSTRAINT_UNIQUE};
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(SQLITE_CONSTRAINT_UNIQUE) => true,
        // Another one says that positions have a gap.
        Some(SQLITE_CONSTRAINT_TRIGGER) => error.to_string().contains("append-only"),
        _ => false,
    }
}

fn has_event(connection: &Connection, stream: StreamId, sequence: Sequence) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM events WHERE aggregate_type = ?1 AND aggregate_id = ?2 AND sequence = ?3")?
        .exists(params![stream.kind.as_str(), stream.id.as_bytes().as_slice(), as_i64(sequence)])
}

struct Rows<'a> {
    connection: &'a Connection,
    position: Position,
    index: u32,
    recorded_at: i64,
}

impl Rows<'_> {
    fn insert(&mut self, command_id: Uuid, append: &StreamAppend) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
             metadata, event_id, command_id, command_index, recorded_at) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
        )?;
        for (event, sequence) in append.events.iter().zip(append.expected + 1..) {
            self.position += 1;
            statement.execute(params![
                as_i64(self.position),
                append.stream.kind.as_str(),
                append.stream.id.as_bytes().as_slice(),
                as_i64(sequence),
                event.event_type,
                event.event_version,
                event.payload,
                event.metadata,
                event.event_id.as_bytes().as_slice(),
                command_id.as_bytes().as_slice(),
                self.index,
                self.recorded_at,
            ])?;
            self.index += 1;
        }
        Ok(())
    }
}

fn last_event(connection: &Connection) -> rusqlite::Result<(Position, i64)> {
    let row = connection
        .prepare_cached("SELECT position, recorded_at FROM events ORDER BY position DESC LIMIT 1")?
        .query_row([], |row| Ok((as_u64(row.get(0)?), row.get(1)?)))
        .optional()?;
    Ok(row.unwrap_or((0, 0)))
}

fn stream_head(connection: &Connection, stream: StreamId) -> rusqlite::Result<Sequence> {
    connection
        .prepare_cached(
            "SELECT coalesce(max(sequence), 0) FROM events WHERE aggregate_type = ?1 AND aggregate_id = ?2",
        )?
        .query_row(params![stream.kind.as_str(), stream.id.as_bytes().as_slice()], |row| row.get(0).map(as_u64))
}

/// The command's receipt and digest. Its first event names the stream it is about.
fn find_command(connection: &Connection, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, aggregate_type, aggregate_id, sequence, metadata FROM events WHERE command_id = ?1 \
         ORDER BY command_index",
    )?;
    let mut rows = statement.query([command_id.as_bytes().as_slice()])?;
    let mut found: Option<(Receipt, Option<String>)> = None;
    while let Some(row) = rows.next()? {
        let (position, sequence) = (as_u64(row.get(0)?), as_u64(row.get(3)?));
        let stream = stream_of(row, 1)?;
        match &mut found {
            None => {
                let receipt = Receipt { stream, sequence, position, repeated: true };
                found = Some((receipt, digest_of(&row.get::<_, String>(4)?)));
            }
            Some((receipt, _)) => {
                receipt.position = position;
                if receipt.stream == stream {
                    receipt.sequence = sequence;
                }
            }
        }
    }
    Ok(found)
}

fn digest_of(metadata: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Digest {
        digest: Option<String>,
    }
    serde_json::from_str::<Digest>(metadata).ok()?.digest
}

fn collect(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<StoredEvent>, ReadError> {
    let mut statement = connection.prepare_cached(sql).map_err(StoreError::from)?;
    let mut rows = statement.query(params).map_err(StoreError::from)?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(StoreError::from)? {
        let event = stored_event(row).map_err(|error| unreadable_row(row, error))?;
        bytes += event.payload.len();
        page.push(event);
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(page)
}

/// A row that holds what this program does not know will not change by asking again.
fn unreadable_row(row: &Row<'_>, error: rusqlite::Error) -> ReadError {
    match (error, row.get(0)) {
        (rusqlite::Error::FromSqlConversionFailure(_, _, reason), Ok(position)) => {
            ReadError::corrupt(as_u64(position), reason.to_string())
        }
        (error, _) => StoreError::from(error).into(),
    }
}

fn stored_event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        position: as_u64(row.get(0)?),
        stream: stream_of(row, 1)?,
        sequence: as_u64(row.get(3)?),
        event_type: row.get(4)?,
        event_version: row.get(5)?,
        payload: row.get(6)?,
        metadata: row.get(7)?,
        event_id: uuid_of(row, 8)?,
        command_id: uuid_of(row, 9)?,
        recorded_at: DateTime::from_timestamp_millis(row.get(10)?).unwrap_or_default(),
    })
}

fn stream_of(row: &Row<'_>, column: usize) -> rusqlite::Result<StreamId> {
    let name = row.get_ref(column)?.as_str()?;
    let kind = AggregateKind::parse(name)
        .ok_or_else(|| unreadable(column, format!("{name} is no kind of aggregate this Marvin knows")))?;
    Ok(StreamId { kind, id: uuid_of(row, column + 1)? })
}

fn uuid_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    Uuid::from_slice(row.get_ref(column)?.as_blob()?).map_err(|error| unreadable(column, error.to_string()))
}

fn unreadable(column: usize, reason: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, reason.into())
}

/// SQLite counts in i64; a log of 2^63 events is out of reach, and so is every number beyond.
fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn as_u64(number: i64) -> u64 {
    number.cast_unsigned()
}
