//! Read models: how fast they are built, how closely they follow, and how fast they answer, on both stores.
use marvin::{
    log::{postgres::PostgresLog, sqlite::SqliteLog, tail::Tail},
    postgres::Postgres,
    security::cipher::Suite,
    views::{postgres::PostgresViews, sqlite::SqliteViews},
};
use marvin_domain::Envelope;
use rusqlite::Connection;
use std::{path::Path, sync::Arc};
use tokio::runtime::Runtime;

#[path = "support/app.rs"]
#[allow(dead_code, reason = "each program uses its part")]
mod app;
#[path = "views/bare.rs"]
mod bare;
#[path = "views/life.rs"]
mod life;
#[path = "views/lists.rs"]
mod lists;
#[path = "views/live.rs"]
mod live;
#[path = "sqlite/raw.rs"]
#[allow(dead_code, reason = "this program fills logs with it")]
mod raw;
#[path = "views/running.rs"]
mod running;
#[path = "views/served.rs"]
mod served;
#[path = "support/server.rs"]
#[allow(dead_code, reason = "this program fills logs with it")]
mod server;
#[path = "support/mod.rs"]
mod support;
use bare::{InPostgres, InSqlite, Tables};
use life::Lives;
use lists::{InFile, InSchema};
use running::Place;
use support::{Ratio, Target, load::large_events, note, report_once, sample::Keys, setting, take_turns};

const ROUNDS: usize = 7;
/// The log whose views are built in each round has one event for as many of a large log.
const REBUILT_IN_LARGE: usize = 10;
/// What a process that rebuilds all views of a large log may take.
const RESIDENT_MB_MAX: f64 = 300.0;
/// Set for the process that rebuilds: where the log and its keys are.
const CHILD_VARIABLE: &str = "MARVIN_BENCH_REBUILD";
const SCHEMA: &str = "bench_views";

fn main() {
    let runtime = Runtime::new().expect("a runtime starts");
    if let Some(directory) = std::env::var_os(CHILD_VARIABLE) {
        return rebuild_alone(&runtime, Path::new(&directory));
    }
    let rounds = setting("MARVIN_BENCH_ROUNDS", ROUNDS);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk of the build");
    let keys = Arc::new(runtime.block_on(Keys::new(directory.path(), Suite::default())));
    let events = large_events();
    note("SQLite: views in WAL, synchronous NORMAL; PostgreSQL: synchronous_commit off; on both sides.");
    let parts = std::env::var("MARVIN_BENCH_PARTS").unwrap_or_else(|_| "rebuild live serve memory lists".into());
    let wants = |part: &str| parts.contains(part);
    let embedded = in_files(&runtime, &keys, &directory.path().join("lives"), events / REBUILT_IN_LARGE);
    let shared = in_postgres(&runtime, &keys, SCHEMA, events / REBUILT_IN_LARGE);
    if wants("rebuild") {
        let decoded = runtime.block_on(decoded(&embedded));
        let bare = directory.path().join("bare.db");
        rebuild(&runtime, rounds, "SQLite", &embedded, &mut InSqlite::create(&bare), &decoded);
        rebuild(&runtime, rounds, "PostgreSQL", &shared, &mut InPostgres::connect(SCHEMA), &decoded);
    }
    if wants("live") {
        live::follow(&runtime, "SQLite", &embedded);
        live::follow(&runtime, "PostgreSQL", &shared);
    }
    if wants("serve") {
        served::serve(&runtime, rounds, "embedded", &directory.path().join("served"), &[]);
        let redis = std::env::var("MARVIN_TEST_REDIS").expect("set by '.ci/services run'");
        let url = server::url();
        let services =
            [("MARVIN_DATABASE_URL", &*url), ("MARVIN_INSTANCE", "bench_served"), ("MARVIN_REDIS_URL", &*redis)];
        served::serve(&runtime, rounds, "PostgreSQL and Redis", &directory.path().join("node"), &services);
    }
    if wants("lists") {
        let file = InFile { views: embedded.views.clone(), path: directory.path().join("lives/views.db") };
        lists::grow(&runtime, rounds, "SQLite", &file, events);
        let schema = InSchema { views: shared.views.clone(), name: marvin::postgres::views_schema(SCHEMA) };
        lists::grow(&runtime, rounds, "PostgreSQL", &schema, events);
    }
    if wants("memory") {
        measure_memory(&runtime, &keys, directory.path(), events);
    }
}

/// Rebuilds in a process of its own, whose memory is nobody else's.
fn measure_memory(runtime: &Runtime, keys: &Arc<Keys>, directory: &Path, events: usize) {
    drop(in_files(runtime, keys, &directory.join("large"), events));
    let program = std::env::current_exe().expect("it runs");
    let child = std::process::Command::new(program).env(CHILD_VARIABLE, directory).output().expect("it starts");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said} {}", String::from_utf8_lossy(&child.stderr));
    let (kilobytes, seconds) = said.trim().split_once(' ').expect("it says two numbers");
    let megabytes = kilobytes.parse::<f64>().expect("a number") / 1024.0;
    let seconds: f64 = seconds.parse().expect("a number");
    note(&format!("rebuilt all views of {events} events in {seconds:.1} s, {:.0} a second", events as f64 / seconds));
    report_once(
        &format!("SQLite: rebuild of {}k events, MB resident", events / 1_000),
        Target::AtMost(RESIDENT_MB_MAX),
        megabytes,
    );
}

/// The process of its own: prints the most kilobytes that were resident, and how many seconds it took.
fn rebuild_alone(runtime: &Runtime, directory: &Path) {
    let keys = Arc::new(runtime.block_on(Keys::reopen(directory, Suite::default())));
    let log = Arc::new(SqliteLog::open(&directory.join("large/log.db")).expect("it holds whole events"));
    let views = Arc::new(SqliteViews::open(&directory.join("large/views.db")).expect("it is empty"));
    let (seconds, documents) = runtime.block_on(running::rebuild(&Place { log, keys, views }));
    assert!(documents.iter().all(|count| *count > 0), "{documents:?}");
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    println!("{} {seconds}", peak.trim().trim_end_matches(" kB"));
}

/// A log of `events` events, and an empty store of views, in files.
fn in_files(runtime: &Runtime, keys: &Arc<Keys>, directory: &Path, events: usize) -> Place {
    std::fs::create_dir(directory).expect("a new directory");
    let path = directory.join("log.db");
    drop(SqliteLog::open(&path).expect("a new file opens"));
    let connection = Connection::open(&path).expect("it was just made");
    let mut lives = Lives::new(keys);
    raw::fill(&connection, &runtime.block_on(lives.first_rows())).expect("the rows are in order");
    while lives.position() < events as u64 {
        raw::fill(&connection, &runtime.block_on(lives.next_rows())).expect("the rows are in order");
    }
    drop(connection);
    let log = Arc::new(SqliteLog::open(&path).expect("it holds whole events"));
    let views = Arc::new(SqliteViews::open(&directory.join("views.db")).expect("a new file opens"));
    Place { log, keys: keys.clone(), views }
}

/// The same in the private server of the run.
fn in_postgres(runtime: &Runtime, keys: &Arc<Keys>, instance: &str, events: usize) -> Place {
    runtime.block_on(async {
        let postgres = Postgres::prepare(&server::url(), instance).await.expect("a new instance");
        let client = server::connect(instance).await;
        let statement = client.prepare(&server::insert_into("events")).await.expect("the table is there");
        let mut lives = Lives::new(keys);
        let mut rows = lives.first_rows().await;
        while lives.position() < events as u64 {
            rows.extend(lives.next_rows().await);
            server::insert(&client, &statement, &server::Columns::of(&rows)).await;
            rows.clear();
        }
        client.batch_execute("VACUUM ANALYZE events").await.expect("a superuser may");
        let views = Arc::new(PostgresViews::new(postgres.clone()));
        Place { log: Arc::new(PostgresLog::start(postgres).await.expect("it is readable")), keys: keys.clone(), views }
    })
}

async fn decoded(place: &Place) -> Vec<Arc<Envelope>> {
    let tail = Tail::new(place.log.clone(), place.keys.codec.clone());
    let head = *place.log.head().borrow();
    let mut events: Vec<Arc<Envelope>> = Vec::new();
    while (events.len() as u64) < head {
        events.extend(tail.read(events.len() as u64, 10_000).await.expect("it is readable"));
    }
    events
}

fn rebuild(
    runtime: &Runtime,
    rounds: usize,
    store: &str,
    place: &Place,
    tables: &mut dyn Tables,
    decoded: &[Arc<Envelope>],
) {
    let expected = bare::rebuild(tables, decoded).1;
    let count = decoded.len() as f64;
    let bare = || bare::rebuild(tables, decoded).0 / count;
    let ours = || {
        let (seconds, documents) = runtime.block_on(running::rebuild(place));
        assert_eq!(documents, expected, "every document was built");
        seconds / count
    };
    let times = take_turns(rounds, bare, ours);
    note(&format!("rebuilt {expected:?} documents of {count} events; {:.0} events a second", 1.0 / times.ours()));
    times.report(&format!("{store}: rebuild all views, to a bare fold and upsert"), Target::AtLeast(0.3), Ratio::Rate);
}
