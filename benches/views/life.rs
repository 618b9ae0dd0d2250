//! A log as tasks fill it: each is submitted, started, takes two steps and completes; then its requester is told, and reads that.
use chrono::Utc;
use marvin::log::{Append, StoredEvent, StreamAppend, codec::Codec};
use marvin_domain::{
    Actor, AggregateKind, Event, Metadata, Name, Personal, Sequence, StreamId,
    agent::{AgentCreated, AgentEvent, Limits},
    notification::{Link, Message, NotificationEvent, NotificationRaised, NotificationRead, Severity},
    task::{Output, TaskCompleted, TaskEvent},
    user::{Profile, Role, UserEvent, UserRegistered},
};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

use crate::support::sample::{Keys, journal, new_stream};

/// Events of one task and its notification.
pub const LIFE_EVENTS: usize = 7;
/// Those of them that are the task's own, which come first.
pub const TASK_EVENTS: usize = 5;
/// Tasks that run side by side, so that the events of one lie apart.
const LIVES_AT_ONCE: usize = 50;

/// An event on its way into the log.
pub struct Change {
    pub stream: StreamId,
    pub sequence: Sequence,
    pub event: Event,
    metadata: Metadata,
}

impl Change {
    fn new(stream: StreamId, sequence: Sequence, event: Event, person: Uuid) -> Self {
        let metadata = Metadata {
            actor: Actor::User(person),
            subject: Some(person),
            correlation: stream.id,
            causation: None,
            digest: None,
        };
        Self { stream, sequence, event, metadata }
    }

    async fn row(&self, keys: &Keys, position: u64) -> StoredEvent {
        let append = command(&keys.codec, std::slice::from_ref(self)).await;
        let event = append.streams.into_iter().flat_map(|append| append.events).next().expect("it has one");
        StoredEvent {
            position,
            stream: self.stream,
            sequence: self.sequence,
            event_type: event.event_type.into(),
            event_version: event.event_version,
            payload: event.payload,
            metadata: event.metadata,
            event_id: event.event_id,
            command_id: append.command_id,
            recorded_at: Utc::now(),
        }
    }
}

/// A command that makes these changes of one stream.
pub async fn command(codec: &Codec, changes: &[Change]) -> Append {
    let (stream, expected) = (changes[0].stream, changes[0].sequence - 1);
    let mut events = Vec::with_capacity(changes.len());
    for change in changes {
        let sealed = codec.seal(stream, change.sequence, &change.event, &change.metadata).await;
        events.push(sealed.expect("everybody has a key"));
    }
    Append { command_id: Uuid::now_v7(), digest: None, streams: vec![StreamAppend { stream, expected, events }] }
}

/// Everything that happens to one task of this person, in order.
pub fn life(person: Uuid) -> [Change; LIFE_EVENTS] {
    let (task, notification) = (new_stream(), StreamId { kind: AggregateKind::Notification, id: Uuid::now_v7() });
    let of_task = |sequence| Change::new(task, sequence, journal(sequence, task, person), person);
    let completed = Event::Task(TaskEvent::Completed(TaskCompleted {
        attempt: 1,
        agent_id: task.id,
        requested_by: person,
        personal: Personal::Known(Output { output: json!({ "summary": "Sales rose in spring and fell in autumn." }) }),
    }));
    let raised = Event::Notification(NotificationEvent::Raised(NotificationRaised {
        recipient: person,
        severity: Severity::Success,
        link: Link { kind: "task".into(), id: task.id },
        personal: Personal::Known(Message {
            title: "Reporter finished a task".into(),
            body: "What came of it stands in the task.".into(),
        }),
    }));
    let read = Event::Notification(NotificationEvent::Read(NotificationRead { recipient: person }));
    [
        of_task(1),
        of_task(2),
        of_task(3),
        of_task(4),
        Change::new(task, 5, completed, person),
        Change::new(notification, 1, raised, person),
        Change::new(notification, 2, read, person),
    ]
}

/// The rows of a log from its first event on.
pub struct Lives<'a> {
    keys: &'a Keys,
    position: u64,
}

impl<'a> Lives<'a> {
    pub fn new(keys: &'a Keys) -> Self {
        Self { keys, position: 0 }
    }

    /// The agent, and those who ask it.
    pub async fn first_rows(&mut self) -> Vec<StoredEvent> {
        let agent = StreamId { kind: AggregateKind::Agent, id: Uuid::now_v7() };
        let created = AgentCreated {
            name: Name::parse("Reporter").expect("a name"),
            description: "Summarises reports.".into(),
            kind: "rules".into(),
            config: json!({ "rules": [] }).into(),
            limits: Limits::default(),
        };
        let mut changes = vec![Change::new(agent, 1, Event::Agent(AgentEvent::Created(created)), self.keys.people[0])];
        changes.extend(self.keys.people.iter().map(|person| {
            let registered = UserRegistered {
                roles: BTreeSet::from([Role::Member]),
                credential: Uuid::now_v7(),
                personal: Personal::Known(Profile {
                    email: "person@example.org".into(),
                    display_name: Name::parse("Person").expect("a name"),
                }),
            };
            let stream = StreamId { kind: AggregateKind::User, id: *person };
            Change::new(stream, 1, Event::User(UserEvent::Registered(registered)), *person)
        }));
        self.rows(changes.iter()).await
    }

    /// The lives of the next tasks, which run side by side.
    pub async fn next_rows(&mut self) -> Vec<StoredEvent> {
        let lives: Vec<_> = (0..LIVES_AT_ONCE).map(|_| life(self.keys.person(Uuid::now_v7()))).collect();
        let changes = (0..LIFE_EVENTS).flat_map(|event| lives.iter().map(move |life| &life[event]));
        self.rows(changes).await
    }

    async fn rows(&mut self, changes: impl Iterator<Item = &Change>) -> Vec<StoredEvent> {
        let mut rows = Vec::with_capacity(LIVES_AT_ONCE * LIFE_EVENTS);
        for change in changes {
            self.position += 1;
            rows.push(change.row(self.keys, self.position).await);
        }
        rows
    }

    pub fn position(&self) -> u64 {
        self.position
    }
}
