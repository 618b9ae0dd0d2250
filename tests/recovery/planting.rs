//! Events that no command would append, written into a stopped server's log as a bug or another program might have.
use chrono::Utc;
use marvin::{
    config::{Flags, Settings},
    dispatch::{CommandMeta, Dispatcher},
    log::{Append, StreamAppend},
    stores::Stores,
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
async fn stores(launch: &Launch) -> Stores {
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

/// An agent that is paused and resumed again and again: many events of one document. Answers where the log ends.
pub async fn long_history(launch: &Launch, events: usize) -> u64 {
    let created = AgentCreated {
        name: Name::parse("Restless").unwrap(),
        description: String::new(),
        kind: "rules".into(),
        config: json!({ "rules": [] }).into(),
        limits: Limits::default(),
    };
    let mut history: Vec<Event> = vec![Event::Agent(created.into())];
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
