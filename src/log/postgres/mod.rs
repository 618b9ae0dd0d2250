//! The event log in PostgreSQL, for any number of nodes.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use marvin_domain::{AggregateKind, Position, Sequence, StreamId};
use std::{error::Error, pin::pin};
use tokio::{sync::watch, task::JoinSet};
use tokio_postgres::{
    Row,
    types::{FromSql, Type},
};
use uuid::Uuid;

use super::{
    Append, AppendError, EventLog, PAGE_BYTES_MAX, PAGE_EVENTS_MAX, ReadError, Receipt, StoredEvent, check_limits,
};
use crate::{
    postgres::{
        Parameter, Postgres,
        lines::{Line, Lines, over},
    },
    store::StoreError,
};

mod batch;
mod listener;
mod lone;
mod writer;

const COLUMNS: &str = "position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
                       metadata, event_id, command_id, recorded_at";

pub struct PostgresLog {
    postgres: Postgres,
    /// For pages of the whole log; what is asked for less often has the pool.
    pages: Lines,
    /// For streams, so that no command waits behind views that catch up.
    streams: Lines,
    writer: writer::Handle,
    head: watch::Sender<Position>,
    /// The writer, the notifier and the listener; they end with the log.
    _tasks: JoinSet<()>,
}

impl PostgresLog {
    /// Starts this node's writer and its listener.
    ///
    /// # Errors
    /// When the log's end cannot be read.
    pub async fn start(postgres: Postgres) -> Result<Self, StoreError> {
        let head = watch::channel(last_position(&postgres).await?).0;
        let mut tasks = JoinSet::new();
        let writer = writer::start(postgres.clone(), head.clone(), &mut tasks);
        tasks.spawn(listener::notify(postgres.clone(), head.subscribe()));
        tasks.spawn(listener::listen(postgres.clone(), head.clone()));
        let (pages, streams) = (Lines::new(&postgres), Lines::new(&postgres));
        Ok(Self { pages, streams, postgres, writer, head, _tasks: tasks })
    }
}

async fn last_position(postgres: &Postgres) -> Result<Position, StoreError> {
    let rows = postgres.query("SELECT max(position) FROM events", &[]).await?;
    Ok(rows[0].get::<_, Option<i64>>(0).map_or(0, i64::cast_unsigned))
}

/// Moves the head forward, never back: news of it may come late.
fn advance(head: &watch::Sender<Position>, position: Position) {
    head.send_if_modified(|head| {
        let moved = position > *head;
        *head = position.max(*head);
        moved
    });
}

#[async_trait]
impl EventLog for PostgresLog {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        check_limits(&append)?;
        self.writer.append(append).await
    }

    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
        let sql = "SELECT position, aggregate_type, aggregate_id, sequence, metadata ->> 'digest' FROM events \
                   WHERE command_id = $1 ORDER BY command_index";
        let rows = self.postgres.query(sql, &[&command_id]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let stream = stream_of(first, 0)?;
        let mut receipt = Receipt { stream, sequence: 0, position: 0, repeated: true };
        for row in &rows {
            receipt.position = as_u64(row.get(0));
            if stream_of(row, 0)? == stream {
                receipt.sequence = as_u64(row.get(3));
            }
        }
        Ok(Some((receipt, first.get(4))))
    }

    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE position > $1 ORDER BY position LIMIT $2");
        page(&self.pages, &sql, &[&as_i64(after), &i64::from(limit.min(PAGE_EVENTS_MAX))]).await
    }

    async fn read_stream(&self, stream: StreamId, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence > $3 \
             ORDER BY sequence LIMIT $4"
        );
        let limit = i64::from(limit.min(PAGE_EVENTS_MAX));
        page(&self.streams, &sql, &[&stream.kind.as_str(), &stream.id, &as_i64(after), &limit]).await
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }
}

/// Takes rows as they come, until the page is full.
async fn page(lines: &Lines, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<StoredEvent>, ReadError> {
    let mut line = lines.get().await?;
    line.is_asked = true;
    let Line { client, wire, statements, .. } = &mut *line;
    let reading = async {
        let statement = statements.prepare(client, sql).await?;
        let rows = client.query_raw(&statement, parameters.iter().copied()).await?;
        let (mut rows, mut page, mut bytes) = (pin!(rows), Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            match stored_event(&row) {
                Ok(event) => {
                    bytes += event.payload.len();
                    page.push(event);
                }
                Err(error) => return Ok((Err(error), false)),
            }
            // The rest of the rows is on its way: ending the connection costs less than taking them in.
            if bytes >= PAGE_BYTES_MAX {
                return Ok((Ok(page), false));
            }
        }
        Ok::<_, tokio_postgres::Error>((Ok(page), true))
    };
    let (page, is_whole) = over(wire, reading).await?;
    line.is_asked = !is_whole;
    page
}

fn stored_event(row: &Row) -> Result<StoredEvent, ReadError> {
    let position = as_u64(row.get(0));
    let version: i32 = row.get(5);
    Ok(StoredEvent {
        position,
        stream: stream_of(row, 0)?,
        sequence: as_u64(row.get(3)),
        event_type: row.get(4),
        event_version: u16::try_from(version)
            .map_err(|_| ReadError::Corrupt { position, reason: format!("{version} is no version of an event") })?,
        payload: row.get(6),
        metadata: row.get::<_, AsWritten>(7).0,
        event_id: row.get(8),
        command_id: row.get(9),
        recorded_at: row.get::<_, DateTime<Utc>>(10),
    })
}

/// JSON as its bytes stand in the table: a cast to text would be made a row, and parsing is its reader's.
struct AsWritten(String);

impl<'a> FromSql<'a> for AsWritten {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }
}

/// The stream of a row that begins with position, kind and id at `column`.
fn stream_of(row: &Row, column: usize) -> Result<StreamId, ReadError> {
    let name: &str = row.get(column + 1);
    let unknown = || format!("{name} is no kind of aggregate this Marvin knows");
    let kind = AggregateKind::parse(name).ok_or_else(|| ReadError::corrupt(as_u64(row.get(column)), unknown()))?;
    Ok(StreamId { kind, id: row.get(column + 2) })
}

/// PostgreSQL counts in i64; a log of 2^63 events is out of reach, and so is every number beyond.
fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn as_u64(number: i64) -> u64 {
    number.cast_unsigned()
}
