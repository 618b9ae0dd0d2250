//! Events that no command would append, written into a stopped server's log as a bug or another program might have.
use chrono::Utc;
use marvin::{
    config::{Flags, Settings},
    dispatch::{CommandMeta, Dispatcher},
    log::{Append, NewEvent, StreamAppend},
    stores::Stores,
    views::documents::Documents,
};
use marvin_domain::{
    Actor, AggregateKind, Directed, Event, Metadata, Name, StreamId,
    agent::{AgentCreated, AgentPaused, AgentResumed, Limits},
    task::{TaskCommand, TaskHeartbeatLost},
};
use serde_json::json;
use uuid::Uuid;

use super::support::Launch;

/// Events of one command.
const APPEND_EVENTS: usize = 1_000;

/// The stores of a stopped server, opened in this process.
pub async fn stores(launch: &Launch) -> Stores {
    let database = launch.database();
    let flags = Flags {
        data_dir: Some(launch.data_dir().display().to_string()),
        instance: database.as_ref().map(|database| database.instance.clone()),
        database_url: database.map(|database| database.url),
        ..Flags::default()
    };
    Stores::open(&Settings::load(&flags, []).unwrap()).await.unwrap()
}

/// Appends `events` to a stream that holds none; answers where the log ends then.
async fn plant(launch: &Launch, stream: StreamId, events: Vec<Event>) -> u64 {
    let stores = stores(launch).await;
    let (actor, correlation) = (Actor::System, Uuid::now_v7());
    let metadata = Metadata { actor, subject: None, correlation, causation: None, digest: None };
    let mut position = 0;
    for (part, events) in (0..).zip(events.chunks(APPEND_EVENTS)) {
        let expected = part * APPEND_EVENTS as u64;
        let mut sealed = Vec::with_capacity(events.len());
        for (sequence, event) in (expected + 1..).zip(events) {
            sealed.push(stores.codec.seal(stream, sequence, event, &metadata).await.unwrap());
        }
        let streams = vec![StreamAppend { stream, expected, events: sealed }];
        let append = Append { command_id: Uuid::now_v7(), digest: None, streams };
        position = stores.log.append(append).await.unwrap().position;
    }
    stores.close().await;
    position
}

fn an_agent() -> StreamId {
    StreamId { kind: AggregateKind::Agent, id: Uuid::now_v7() }
}

/// An agent that nobody made is paused: the agents' projection has nothing to change. Answers the position.
pub async fn poison(launch: &Launch) -> u64 {
    plant(launch, an_agent(), vec![Event::Agent(AgentPaused {}.into())]).await
}

fn created(name: &str) -> Event {
    let created = AgentCreated {
        name: Name::parse(name).unwrap(),
        description: String::new(),
        kind: "rules".into(),
        config: json!({ "rules": [] }).into(),
        limits: Limits::default(),
    };
    Event::Agent(created.into())
}

/// So many agents, each a document: none of their events can be lost unseen. Answers where the log ends.
pub async fn many_agents(launch: &Launch, agents: usize) -> u64 {
    let stores = stores(launch).await;
    let (actor, correlation) = (Actor::System, Uuid::now_v7());
    let metadata = Metadata { actor, subject: None, correlation, causation: None, digest: None };
    let mut position = 0;
    for begun in (0..agents).step_by(APPEND_EVENTS) {
        let mut streams = Vec::new();
        for _ in begun..agents.min(begun + APPEND_EVENTS) {
            let stream = an_agent();
            let events = vec![stores.codec.seal(stream, 1, &created("One of many"), &metadata).await.unwrap()];
            streams.push(StreamAppend { stream, expected: 0, events });
        }
        let append = Append { command_id: Uuid::now_v7(), digest: None, streams };
        position = stores.log.append(append).await.unwrap().position;
    }
    stores.close().await;
    position
}

/// An agent that is paused and resumed again and again: many events of one document. Answers where the log ends.
pub async fn long_history(launch: &Launch, events: usize) -> u64 {
    let mut history: Vec<Event> = vec![created("Restless")];
    for number in 1..events {
        history.push(match number % 2 {
            1 => Event::Agent(AgentPaused {}.into()),
            _ => Event::Agent(AgentResumed {}.into()),
        });
    }
    plant(launch, an_agent(), history).await
}

/// A worker takes a task, and then nothing is heard of it but of its steps.
pub async fn start(launch: &Launch, task: Uuid) {
    order(launch, task, [TaskCommand::Start { worker: Uuid::now_v7(), at: Utc::now() }]).await;
}

/// Steps of these numbers and names. Answers where the log ends.
pub async fn steps(launch: &Launch, task: Uuid, steps: impl IntoIterator<Item = (u32, String)>) -> u64 {
    let step = |(step, name)| {
        let (kind, result) = ("evaluate".to_owned(), json!({}));
        TaskCommand::CompleteStep { attempt: 1, step, kind, name, started_at: Utc::now(), result }
    };
    order(launch, task, steps.into_iter().map(step)).await
}

/// A task that nobody submitted loses its worker: the tasks' projection has nothing to change, and others do not ask.
pub async fn poison_of_tasks(launch: &Launch) -> u64 {
    let nobodys = StreamId { kind: AggregateKind::Task, id: Uuid::now_v7() };
    plant(launch, nobodys, vec![Event::Task(TaskHeartbeatLost { attempt: 1 }.into())]).await
}

/// Sends commands to a stopped server's task; answers where the log ends then.
async fn order(launch: &Launch, task: Uuid, commands: impl IntoIterator<Item = TaskCommand>) -> u64 {
    let stores = stores(launch).await;
    let dispatcher = Dispatcher::new(stores.log.clone(), stores.codec.clone());
    let mut position = 0;
    for command in commands {
        let meta = CommandMeta::new(Actor::System);
        position = dispatcher.dispatch(&meta, &[Directed::new(task, command)]).await.unwrap().position;
    }
    stores.close().await;
    position
}

/// Something unreadable in the log or in a view: each quotes [`WORDS`] where it does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    EventFacts,
    EventPersonal,
    EventMetadata,
    /// Of a type that this program does not know, with a name of any length.
    EventType,
    DocumentFacts,
    DocumentPersonal,
}

/// What a person might have written.
pub const WORDS: &str = "I am afraid of spiders";

/// Writes it about a task of a stopped server: into the log behind everything, or over the document.
pub async fn plant_unreadable(launch: &Launch, task: Uuid, person: Uuid, what: Unreadable) {
    let stores = stores(launch).await;
    match what {
        Unreadable::DocumentFacts | Unreadable::DocumentPersonal => overwrite(&stores, task, person, what).await,
        _ => append_unreadable(&stores, task, person, what).await,
    }
    stores.close().await;
}

fn quoting_words() -> Vec<u8> {
    serde_json::to_vec(WORDS).unwrap()
}

async fn append_unreadable(stores: &Stores, task: Uuid, person: Uuid, what: Unreadable) {
    let (stream, event_id) = (StreamId { kind: AggregateKind::Task, id: task }, Uuid::now_v7());
    let expected = stores.log.read_stream(stream, 0, 1_000).await.unwrap().last().unwrap().sequence;
    let unknown: &'static str = "x".repeat(10_000).leak();
    let event_type = if what == Unreadable::EventType { unknown } else { "completed" };
    let place = [&(expected + 1).to_be_bytes()[..], event_id.as_bytes(), &1_u16.to_be_bytes(), event_type.as_bytes()];
    let completed = json!({ "attempt": 1, "agent_id": Uuid::nil(), "requested_by": person });
    let facts = if what == Unreadable::EventFacts { quoting_words() } else { serde_json::to_vec(&completed).unwrap() };
    let personal = (what == Unreadable::EventPersonal).then(|| (quoting_words(), person));
    let scope = [b"task/", &task.as_bytes()[..]].concat();
    let payload = stores.sealer.seal(&scope, &place.concat(), &facts, personal).await.unwrap();
    let actor = if what == Unreadable::EventMetadata { WORDS } else { "system" };
    let metadata = json!({ "actor": actor, "correlation": event_id, "subject": person }).to_string();
    let event = NewEvent { event_id, event_type, event_version: 1, payload, metadata };
    let streams = vec![StreamAppend { stream, expected, events: vec![event] }];
    stores.log.append(Append { command_id: event_id, digest: None, streams }).await.unwrap();
}

async fn overwrite(stores: &Stores, task: Uuid, person: Uuid, what: Unreadable) {
    let documents = Documents::new(stores.sealer.clone());
    let rows = stores.views.tables().await.unwrap();
    let row = rows.into_iter().find(|row| row.table.name == "tasks").unwrap();
    let sealed = stores.views.load(&row.table, &[task]).await.unwrap().documents;
    let mut document = documents.open(&row.table, sealed).await.unwrap().pop().unwrap();
    match what {
        Unreadable::DocumentFacts => document.facts = quoting_words(),
        _ => document.personal = Some(quoting_words()),
    }
    // Newer than what stands there, and older than anything to come.
    (document.position, document.subject) = (document.position + 1, Some(person));
    assert!(document.position <= row.checkpoint.position);
    let sealed = documents.seal(&row.table, vec![document]).await.unwrap();
    stores.views.store(&row.table, sealed, row.checkpoint, row.token).await.unwrap();
}
