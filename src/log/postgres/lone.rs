//! A command of one event, written while nobody else writes: the most common append, as one plain statement.
//!
//! `append_events` decides between the commands of a batch, step by step; for a single event its steps take longer than what they
//! write. This statement decides nothing. Either it writes the event where the log ends, or it writes nothing, for whatever reason,
//! and `append_events` finds out why. Its snapshot is older than its lock, so the end that it sees may be another writer's by then:
//! the table's unique positions refuse such an event, as its other indexes refuse a command or a sequence that stands already.
use marvin_domain::Position;
use tokio_postgres::{Client, Error, Statement};

use super::{as_i64, as_u64};
use crate::log::{Append, Receipt};

/// The lock is that of `append_events`, held until the event can be seen. A sequence that is expected may be missing, which no
/// index notices. The time is never before that of the event before.
const APPEND: &str = "\
    WITH lock AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema(), 20261122)) AS is_ours
    ), head AS MATERIALIZED (
        SELECT position, recorded_at FROM events ORDER BY position DESC LIMIT 1
    )
    INSERT INTO events
    SELECT coalesce(head.position, 0) + 1, $1::text, $2::uuid, $3::bigint + 1, $4::text, $5::integer, $6::bytea,
           $7::text::json, $8::uuid, $9::uuid, 0,
           greatest(date_trunc('milliseconds', clock_timestamp()), head.recorded_at)
    FROM lock LEFT JOIN head ON true
    WHERE lock.is_ours AND ($3 = 0 OR EXISTS (
        SELECT FROM events WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence = $3
    ))
    ON CONFLICT DO NOTHING
    RETURNING position";

pub(super) async fn prepare(client: &Client) -> Result<Statement, Error> {
    client.prepare(APPEND).await
}

/// Answers none when nothing was written: the command has several events, or somebody else writes, or it lost.
pub(super) async fn append(client: &Client, statement: &Statement, command: &Append) -> Result<Option<Receipt>, Error> {
    let [stream] = &command.streams[..] else { return Ok(None) };
    let [event] = &stream.events[..] else { return Ok(None) };
    let written = client
        .query_opt(
            statement,
            &[
                &stream.stream.kind.as_str(),
                &stream.stream.id,
                &as_i64(stream.expected),
                &event.event_type,
                &i32::from(event.event_version),
                &event.payload,
                &event.metadata,
                &event.event_id,
                &command.command_id,
            ],
        )
        .await?;
    let receipt = |position: Position| Receipt {
        stream: stream.stream,
        sequence: stream.expected + 1,
        position,
        repeated: false,
    };
    Ok(written.map(|row| receipt(as_u64(row.get(0)))))
}
