//! Marvin's log on PostgreSQL against other event stores on the same server, in the same rounds.
use marvin::{
    dispatch::{CommandMeta, Dispatcher},
    security::cipher::Suite,
};
use marvin_domain::{
    Actor, Directed, Event,
    task::{Submission, TaskCommand, TaskEvent},
};
use serde_json::json;
use std::sync::{Arc, atomic::Ordering};
use tokio::runtime::Runtime;
use uuid::Uuid;

mod disintegrate;
mod journal;
mod postgres_es;
#[path = "../../support/server.rs"]
mod server;
#[path = "../../support/mod.rs"]
mod support;
mod view;

use disintegrate::Disintegrate;
use postgres_es::{PostgresEs, together};
use server::{connect, filled, print_settings, url};
use support::{
    Ratio, Target,
    load::{SMALL_EVENTS, Subject},
    note,
    sample::{Keys, STREAM_EVENTS, step},
    setting, take_turns,
};

/// A peer's round takes some seconds.
const ROUNDS: usize = 7;
/// Streams that are loaded in a round.
const STREAMS_LOADED: usize = 100;
/// Commands of a writer in a round of whole commands.
const COMMANDS: usize = 30;
/// Commands on one stream there: a task is submitted, started, and records some steps.
const STREAM_COMMANDS: usize = 10;

fn main() {
    let rounds = setting("MARVIN_BENCH_PEER_ROUNDS", ROUNDS);
    let runtime = Runtime::new().expect("a runtime starts");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = Arc::new(runtime.block_on(Keys::new(directory.path(), Suite::default())));
    let ours = filled(&runtime, &keys, "bench_peers", SMALL_EVENTS as usize);
    runtime.block_on(async { print_settings(&connect("public").await).await });
    let (postgres_es, disintegrate) =
        runtime.block_on(async { (PostgresEs::new(&database("peer_es").await).await, database("peer_dis").await) });
    let disintegrate = runtime.block_on(Disintegrate::new(&disintegrate));

    let loaded = ours.neighbours(STREAMS_LOADED);
    let ids = postgres_es.fill(&runtime, STREAMS_LOADED);
    take_turns(rounds, || postgres_es.load(&runtime, &ids), || ours.load_streams(&runtime, loaded)).report(
        "PostgreSQL: load 100 events, to postgres-es",
        Target::AtLeast(1.2),
        Ratio::Rate,
    );
    let events = STREAMS_LOADED as u64 * STREAM_EVENTS;
    take_turns(rounds, || postgres_es.read(&runtime, events), || ours.catch_up(&runtime, 0, events)).report(
        "PostgreSQL: read and decode all events, to postgres-es",
        Target::None,
        Ratio::Rate,
    );
    take_turns(rounds, || postgres_es.persist(&runtime), || ours.write_together(&runtime)).report(
        "PostgreSQL: append, 32 writers, to postgres-es persist",
        Target::AtLeast(4.0),
        Ratio::Rate,
    );
    take_turns(rounds, || postgres_es.execute(&runtime, COMMANDS, STREAM_COMMANDS), || dispatch(&ours, &runtime))
        .report("PostgreSQL: command, 32 writers, to postgres-es execute", Target::AtLeast(5.0), Ratio::Rate);
    take_turns(rounds, || disintegrate.append(&runtime), || ours.write_together(&runtime)).report(
        "PostgreSQL: append, 32 writers, to disintegrate-postgres",
        Target::None,
        Ratio::Rate,
    );
    note(&format!("disintegrate-postgres tried {} appends again", disintegrate.retries.load(Ordering::Relaxed)));
    runtime.block_on(async {
        let pool = postgres_es::pool(&url()).await;
        view::read_through(&pool, "bench_peers", &ours.complete[..3], STREAM_EVENTS).await;
    });
}

/// A database of a peer's own on the same server.
async fn database(name: &str) -> String {
    let client = connect("public").await;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
    let server = url();
    let (base, _) = server.rsplit_once('/').expect("the URL names a database");
    format!("{base}/{name}")
}

/// Seconds a command through the dispatcher, of 32 writers: decide, seal, append.
fn dispatch(ours: &Subject, runtime: &Runtime) -> f64 {
    let dispatcher = Dispatcher::new(ours.log.clone(), ours.keys.codec.clone());
    let before = ours.last(runtime);
    let seconds = together(runtime, COMMANDS, || {
        let (dispatcher, keys) = (dispatcher.clone(), ours.keys.clone());
        async move {
            for _ in 0..COMMANDS / STREAM_COMMANDS {
                let id = Uuid::now_v7();
                for number in 1..=STREAM_COMMANDS as u64 {
                    let command = [Directed::new(id, command(&keys, id, number))];
                    let receipt = dispatcher.dispatch(&CommandMeta::new(Actor::System), &command).await;
                    assert_eq!(receipt.expect("nothing is in the way").sequence, number);
                }
            }
        }
    });
    assert_eq!(ours.last(runtime) - before, (support::load::WRITERS * COMMANDS) as u64, "every command is in the log");
    seconds
}

/// The commands of a task's life: submitted, started, then steps of 300 bytes.
fn command(keys: &Keys, id: Uuid, number: u64) -> TaskCommand {
    match number {
        1 => TaskCommand::Submit(Submission {
            agent_id: id,
            requested_by: keys.person(id),
            input: json!({ "text": "What there is to do. ".repeat(8) }),
            conversation_id: None,
            priority: 5,
            deadline: None,
            max_attempts: 3,
            parent: None,
            chain_depth: 0,
        }),
        2 => TaskCommand::Start { worker: id, at: chrono::Utc::now() },
        _ => {
            let Event::Task(TaskEvent::StepCompleted(step)) = step(number - 2) else { unreachable!("steps are steps") };
            let result = step.personal.known().expect("it was just made").result.clone();
            let (kind, name, started_at) = (step.kind, step.name, step.started_at);
            TaskCommand::CompleteStep { attempt: 1, step: step.step, kind, name, started_at, result }
        }
    }
}
