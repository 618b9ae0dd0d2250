//! Between events and sealed rows: seals an event for its place in its stream, opens rows into envelopes.
use marvin_domain::{Envelope, Event, Metadata, Misfit, Sequence, StreamId};
use std::{mem, sync::Arc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{NewEvent, ReadError, StoredEvent};
use crate::{
    security::sealer::{Opened, SealError, Sealed, Sealer, Spot},
    store::chain,
};

/// Rows from which on a page is opened in two parts: some hundred microseconds of work, against a few for handing it over.
const PARTED_ROWS_MIN: usize = 128;

/// Shared by everything that writes to or reads from the log.
#[derive(Clone)]
pub struct Codec {
    sealer: Arc<Sealer>,
}

impl Codec {
    pub fn new(sealer: Arc<Sealer>) -> Self {
        Self { sealer }
    }

    /// Seals `event` for `sequence` of `stream`. A row copied to any other place does not open.
    ///
    /// # Errors
    /// When the person's key cannot be had.
    pub async fn seal(
        &self,
        stream: StreamId,
        sequence: Sequence,
        event: &Event,
        metadata: &Metadata,
    ) -> Result<NewEvent, SealError> {
        let event_id = Uuid::now_v7();
        let (event_type, event_version) = (event.event_type(), event.version());
        let personal = event.personal().zip(metadata.subject);
        let payload = self
            .sealer
            .seal(&scope(stream), &place(sequence, event_id, event_type, event_version), &event.facts(), personal)
            .await?;
        let metadata = serde_json::to_string(metadata).expect("plain data with string keys is always JSON");
        Ok(NewEvent { event_id, event_type, event_version, payload, metadata })
    }

    /// Opens rows, in order; those of a page on two cores.
    ///
    /// # Errors
    /// `Corrupt` at the first row that does not open, that lacks words although nobody erased them, or whose type this program
    /// does not know.
    pub async fn open(&self, mut rows: Vec<StoredEvent>) -> Result<Vec<Envelope>, ReadError> {
        if rows.len() < PARTED_ROWS_MIN {
            return self.open_part(rows).await;
        }
        let (codec, back) = (self.clone(), rows.split_off(rows.len() / 2));
        let back = Part(tokio::spawn(async move { codec.open_part(back).await }));
        let mut opened = self.open_part(rows).await?;
        opened.extend(back.join().await?);
        Ok(opened)
    }

    async fn open_part(&self, mut rows: Vec<StoredEvent>) -> Result<Vec<Envelope>, ReadError> {
        let sealed = rows.iter_mut().map(|row| Sealed {
            scope: scope(row.stream),
            place: place_of(row),
            payload: mem::take(&mut row.payload),
        });
        let opened = self.sealer.open(sealed.collect()).await.map_err(|error| match error {
            SealError::Unavailable(reason) => ReadError::Keys(reason),
            SealError::Unreadable { index, reason } => ReadError::Corrupt { position: rows[index].position, reason },
        })?;
        let mut envelopes = Vec::with_capacity(rows.len());
        for (row, opened) in rows.into_iter().zip(opened) {
            let envelope = envelope(row, &opened)?;
            if envelope.event.is_erased() {
                self.require_erasure(&envelope, opened.subject).await?;
            }
            envelopes.push(envelope);
        }
        Ok(envelopes)
    }

    /// Opens the facts of a row, which is all that decisions are made of; the words in it stay sealed, and read as erased.
    ///
    /// # Errors
    /// `Corrupt` when they do not open, or when this program does not know the row's type.
    pub fn open_facts(&self, row: &StoredEvent) -> Result<Event, ReadError> {
        let corrupt = |reason: String| ReadError::corrupt(row.position, reason);
        let facts = self.sealer.open_facts(&scope(row.stream), &place_of(row), &row.payload).map_err(corrupt)?;
        Event::decode(row.stream.kind, &row.event_type, row.event_version, &facts, None)
            .map_err(|error| corrupt(chain(&error)))
    }

    /// Words are absent only when the person whom the event is about was erased: not because they were cut off, nor because
    /// their part names somebody else.
    async fn require_erasure(&self, envelope: &Envelope, named: Option<Uuid>) -> Result<(), ReadError> {
        let about = envelope.metadata.subject;
        let erased = match about {
            Some(subject) if named.is_none_or(|named| named == subject) => self.sealer.is_erased(subject).await,
            _ => Ok(false),
        };
        match erased {
            Ok(true) => Ok(()),
            Ok(false) => {
                let reason = "its personal part is missing, and nobody erased the person".to_owned();
                Err(ReadError::Corrupt { position: envelope.position, reason })
            }
            Err(error) => Err(ReadError::Keys(error.to_string())),
        }
    }
}

/// The back part of a page, being opened by another thread. Given up with whoever waits for it.
struct Part(JoinHandle<Result<Vec<Envelope>, ReadError>>);

impl Part {
    async fn join(mut self) -> Result<Vec<Envelope>, ReadError> {
        let ended = (&mut self.0).await;
        ended.unwrap_or_else(|stopped| Err(ReadError::Keys(format!("a page was not opened to its end: {stopped}"))))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn envelope(row: StoredEvent, opened: &Opened) -> Result<Envelope, ReadError> {
    let corrupt = |reason: String| ReadError::corrupt(row.position, reason);
    let event = Event::decode(row.stream.kind, &row.event_type, row.event_version, opened.facts(), opened.personal())
        .map_err(|error| corrupt(chain(&error)))?;
    let metadata = serde_json::from_str(&row.metadata)
        .map_err(|error| corrupt(format!("its metadata do not fit: {}", Misfit::from(error))))?;
    Ok(Envelope {
        position: row.position,
        stream: row.stream,
        sequence: row.sequence,
        event_id: row.event_id,
        command_id: row.command_id,
        recorded_at: row.recorded_at,
        metadata,
        event,
    })
}

fn scope(stream: StreamId) -> Spot {
    joined(&[stream.kind.as_str().as_bytes(), b"/", stream.id.as_bytes()])
}

fn place_of(row: &StoredEvent) -> Spot {
    place(row.sequence, row.event_id, &row.event_type, row.event_version)
}

/// Bytes rather than text, since each event read pays for it. The type comes last: all before it has a fixed length.
fn place(sequence: Sequence, event_id: Uuid, event_type: &str, event_version: u16) -> Spot {
    let (sequence, version) = (sequence.to_be_bytes(), event_version.to_be_bytes());
    joined(&[&sequence, event_id.as_bytes(), &version, event_type.as_bytes()])
}

fn joined(parts: &[&[u8]]) -> Spot {
    let mut joined = Spot::new();
    for part in parts {
        joined.extend_from_slice(part);
    }
    joined
}
