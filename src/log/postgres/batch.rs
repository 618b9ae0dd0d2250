//! A batch of commands as one statement: its arguments as arrays, and its answer as one outcome a command.
use marvin_domain::{AggregateKind, Position, StreamId};
use std::collections::HashMap;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::{as_i64, as_u64};
use crate::log::{Append, AppendError, Receipt};

const APPEND: &str = "SELECT command, verdict, stream_type, stream_id, at_sequence, at_position \
                      FROM append_events($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)";

pub(super) type Outcome = Result<Receipt, AppendError>;

pub(super) async fn prepare(client: &Client) -> Result<Statement, tokio_postgres::Error> {
    client.prepare(APPEND).await
}

/// Appends the commands, which must be on different streams and under different ids. Answers in their order.
pub(super) async fn append(
    client: &Client,
    statement: &Statement,
    commands: &[&Append],
) -> Result<Vec<Outcome>, tokio_postgres::Error> {
    let arrays = Arrays::of(commands);
    let rows = client
        .query(
            statement,
            &[
                &arrays.command_ids,
                &arrays.digests,
                &arrays.stream_commands,
                &arrays.stream_types,
                &arrays.stream_ids,
                &arrays.expected,
                &arrays.commands,
                &arrays.event_command_ids,
                &arrays.command_indexes,
                &arrays.types,
                &arrays.ids,
                &arrays.sequences,
                &arrays.event_ids,
                &arrays.event_types,
                &arrays.event_versions,
                &arrays.payloads,
                &arrays.metadata,
            ],
        )
        .await?;
    Ok(outcomes(commands, &rows))
}

/// One vector a parameter; what they mean is said beside the function `append_events`.
#[derive(Default)]
struct Arrays<'a> {
    command_ids: Vec<Uuid>,
    digests: Vec<Option<&'a str>>,
    stream_commands: Vec<i32>,
    stream_types: Vec<&'static str>,
    stream_ids: Vec<Uuid>,
    expected: Vec<i64>,
    commands: Vec<i32>,
    event_command_ids: Vec<Uuid>,
    command_indexes: Vec<i32>,
    types: Vec<&'static str>,
    ids: Vec<Uuid>,
    sequences: Vec<i64>,
    event_ids: Vec<Uuid>,
    event_types: Vec<&'static str>,
    event_versions: Vec<i32>,
    payloads: Vec<&'a [u8]>,
    metadata: Vec<&'a str>,
}

impl<'a> Arrays<'a> {
    fn of(commands: &[&'a Append]) -> Self {
        let mut arrays = Self::default();
        for (command, ordinal) in commands.iter().zip(1..) {
            arrays.command(command, ordinal);
        }
        arrays
    }

    fn command(&mut self, command: &'a Append, ordinal: i32) {
        self.command_ids.push(command.command_id);
        self.digests.push(command.digest.as_deref());
        let mut index = 0;
        for append in &command.streams {
            let (kind, id) = (append.stream.kind.as_str(), append.stream.id);
            self.stream_commands.push(ordinal);
            self.stream_types.push(kind);
            self.stream_ids.push(id);
            self.expected.push(as_i64(append.expected));
            for (event, sequence) in append.events.iter().zip(append.expected + 1..) {
                self.commands.push(ordinal);
                self.event_command_ids.push(command.command_id);
                self.command_indexes.push(index);
                index += 1;
                self.types.push(kind);
                self.ids.push(id);
                self.sequences.push(as_i64(sequence));
                self.event_ids.push(event.event_id);
                self.event_types.push(event.event_type);
                self.event_versions.push(event.event_version.into());
                self.payloads.push(&event.payload);
                self.metadata.push(&event.metadata);
            }
        }
    }
}

/// The server tells where the log stood and which commands lost; the others follow one after the other.
fn outcomes(commands: &[&Append], rows: &[Row]) -> Vec<Outcome> {
    let mut head: Position = 0;
    let mut lost: HashMap<i32, &Row> = HashMap::new();
    for row in rows {
        match row.get(0) {
            0 => head = as_u64(row.get(5)),
            ordinal => drop(lost.insert(ordinal, row)),
        }
    }
    let outcome = |(command, ordinal): (&&Append, i32)| match lost.get(&ordinal) {
        Some(row) => verdict(command, row),
        None => {
            head += command.streams.iter().map(|append| append.events.len() as u64).sum::<u64>();
            let first = command.streams.first().expect("a command is about a stream");
            let sequence = first.expected + first.events.len() as u64;
            Ok(Receipt { stream: first.stream, sequence, position: head, repeated: false })
        }
    };
    commands.iter().zip(1..).map(outcome).collect()
}

fn verdict(command: &Append, row: &Row) -> Outcome {
    let kind = AggregateKind::parse(row.get(2)).unwrap_or(command.streams[0].stream.kind);
    let stream = StreamId { kind, id: row.get(3) };
    match row.get(1) {
        "repeated" => {
            Ok(Receipt { stream, sequence: as_u64(row.get(4)), position: as_u64(row.get(5)), repeated: true })
        }
        "reused" => Err(AppendError::Reused { command_id: command.command_id }),
        _ => Err(AppendError::Conflict { stream, expected: as_u64(row.get(4)) }),
    }
}
