//! Events as tasks write them, 300 bytes in clear each, and the keys that seal them.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use marvin::{
    log::{Append, NewEvent, StoredEvent, StreamAppend, codec::Codec},
    security::{
        cipher::Suite,
        keyfile::MasterKey,
        sealer::{Erasures, Sealer},
        subjects::{Registration, SqliteSubjects, SubjectStore},
    },
};
use marvin_domain::{
    Actor, AggregateKind, Event, Metadata, Personal, Sequence, StreamId,
    task::{Input, StepResult, TaskEvent, TaskStarted, TaskStepCompleted, TaskSubmitted},
};
use serde_json::json;
use std::{path::Path, sync::Arc};
use uuid::Uuid;

/// Bytes of an event in clear: its facts and a person's words together.
pub const EVENT_BYTES: usize = 300;
/// Events of a whole stream.
pub const STREAM_EVENTS: u64 = 100;
/// Streams that grow side by side, so that the events of one lie apart as they do in a log that many write to.
const STREAMS_AT_ONCE: usize = 100;
/// Rows that make the streams that grow at once whole.
pub const ROWS_AT_ONCE: usize = STREAMS_AT_ONCE * STREAM_EVENTS as usize;
/// People to whom the events belong.
const PEOPLE: usize = 100;

struct NobodyErased;

#[async_trait]
impl Erasures for NobodyErased {
    async fn is_erased(&self, _subject: Uuid) -> Result<bool, String> {
        Ok(false)
    }
}

/// A codec with real keys, and the people who have one.
pub struct Keys {
    pub codec: Codec,
    pub sealer: Arc<Sealer>,
    pub people: Vec<Uuid>,
}

impl Keys {
    pub async fn new(directory: &Path, suite: Suite) -> Self {
        let subjects = subjects(directory, true).await;
        let mut people = Vec::with_capacity(PEOPLE);
        for person in 0..PEOPLE {
            let email = format!("person{person}@example.org");
            let registration = subjects.register(Uuid::now_v7(), &email, 0).await.expect("a new store takes people");
            let Registration::Created { user_id } = registration else { panic!("{email} is new") };
            people.push(user_id);
        }
        Self::of(subjects, suite, people)
    }

    /// The same once more, to read with in another process: whose they are is not asked.
    pub async fn reopen(directory: &Path, suite: Suite) -> Self {
        Self::of(subjects(directory, false).await, suite, Vec::new())
    }

    fn of(subjects: Arc<SqliteSubjects>, suite: Suite, people: Vec<Uuid>) -> Self {
        let sealer = Arc::new(Sealer::new(suite, subjects, Arc::new(NobodyErased)));
        Self { codec: Codec::new(sealer.clone()), sealer, people }
    }

    /// Whose the stream of this id is.
    pub fn person(&self, id: Uuid) -> Uuid {
        self.people[usize::from(id.as_bytes()[15]) % PEOPLE]
    }

    pub fn metadata(&self, stream: StreamId) -> Metadata {
        let person = self.person(stream.id);
        Metadata {
            actor: Actor::User(person),
            subject: Some(person),
            correlation: stream.id,
            causation: None,
            digest: None,
        }
    }

    pub async fn seal(&self, stream: StreamId, sequence: Sequence) -> NewEvent {
        let sealed = self.codec.seal(stream, sequence, &step(sequence), &self.metadata(stream)).await;
        sealed.expect("everybody has a key")
    }

    /// A command with one event for `sequence` of `stream`.
    pub async fn command(&self, stream: StreamId, sequence: Sequence) -> Append {
        let events = vec![self.seal(stream, sequence).await];
        Append {
            command_id: Uuid::now_v7(),
            digest: None,
            streams: vec![StreamAppend { stream, expected: sequence - 1, events }],
        }
    }
}

async fn subjects(directory: &Path, is_new: bool) -> Arc<SqliteSubjects> {
    let key = MasterKey::load_or_create(&directory.join("master.key"), is_new).expect("the directory is writable");
    let subjects = SqliteSubjects::open(&directory.join("subjects.db"), Arc::new(key)).await;
    Arc::new(subjects.expect("the store opens"))
}

pub fn new_stream() -> StreamId {
    StreamId { kind: AggregateKind::Task, id: Uuid::now_v7() }
}

/// A recorded step, whose facts and result make 300 bytes.
pub fn step(step: u64) -> Event {
    let data = |result: &str| {
        Event::Task(TaskEvent::StepCompleted(TaskStepCompleted {
            attempt: 1,
            step: u32::try_from(step).expect("a task has few steps"),
            kind: "model".into(),
            name: "summarise the report".into(),
            started_at: DateTime::from_timestamp(1_790_000_000, 0).expect("a time"),
            personal: Personal::Known(StepResult { result: json!({ "text": result }) }),
        }))
    };
    let room = EVENT_BYTES - clear_bytes(&data(""));
    data(&"What the model said about it. ".chars().cycle().take(room).collect::<String>())
}

pub fn clear_bytes(event: &Event) -> usize {
    event.facts().len() + event.personal().map_or(0, |personal| personal.len())
}

/// The whole journal of a task: submitted, started, and steps.
pub fn journal(sequence: Sequence, stream: StreamId, person: Uuid) -> Event {
    match sequence {
        1 => Event::Task(TaskEvent::Submitted(TaskSubmitted {
            agent_id: stream.id,
            requested_by: person,
            // A quarter of all tasks belong to one.
            conversation_id: stream.id.as_u128().is_multiple_of(4).then_some(stream.id),
            priority: 5,
            deadline: None,
            max_attempts: 3,
            parent: None,
            chain_depth: 0,
            personal: Personal::Known(Input { input: json!({ "text": "Summarise the report, please." }) }),
        })),
        2 => Event::Task(TaskEvent::Started(TaskStarted { attempt: 1, worker: person })),
        _ => step(sequence - 2),
    }
}

/// Rows of a log that was written to for a long time: whole streams of 100 events, of which 100 grow at once.
pub struct History<'a> {
    keys: &'a Keys,
    position: u64,
    at: DateTime<Utc>,
    /// Streams that are complete.
    pub complete: Vec<StreamId>,
}

impl<'a> History<'a> {
    pub fn new(keys: &'a Keys) -> Self {
        Self { keys, position: 0, at: Utc::now(), complete: Vec::new() }
    }

    /// The next events, sealed: [`ROWS_AT_ONCE`].
    pub async fn next_rows(&mut self) -> Vec<StoredEvent> {
        let streams: Vec<_> = (0..STREAMS_AT_ONCE).map(|_| new_stream()).collect();
        let mut rows = Vec::with_capacity(ROWS_AT_ONCE);
        for sequence in 1..=STREAM_EVENTS {
            for stream in &streams {
                rows.push(self.row(*stream, sequence).await);
            }
        }
        self.complete.extend(streams);
        rows
    }

    async fn row(&mut self, stream: StreamId, sequence: Sequence) -> StoredEvent {
        self.position += 1;
        let metadata = self.keys.metadata(stream);
        let event = journal(sequence, stream, metadata.subject.expect("it belongs to somebody"));
        let sealed = self.keys.codec.seal(stream, sequence, &event, &metadata).await.expect("everybody has a key");
        StoredEvent {
            position: self.position,
            stream,
            sequence,
            event_type: sealed.event_type.into(),
            event_version: sealed.event_version,
            payload: sealed.payload,
            metadata: sealed.metadata,
            event_id: sealed.event_id,
            command_id: Uuid::now_v7(),
            recorded_at: self.at,
        }
    }
}
