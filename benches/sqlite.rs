//! The log on SQLite against rusqlite alone, and against itself with a million events.
use marvin::{log::sqlite::SqliteLog, security::cipher::Suite, sqlite::COMMITS};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rusqlite::Connection;
use std::{cell::Cell, path::Path, sync::Arc, time::Instant};
use tokio::runtime::Runtime;

#[path = "sqlite/raw.rs"]
mod raw;
#[path = "support/mod.rs"]
mod support;
use raw::Raw;
use support::{
    Ratio, Target,
    load::{COMMANDS, LONE_COMMANDS, PAGE_EVENTS, SMALL_EVENTS, Subject, WRITERS, grow, large_events, rows},
    median_latency, note,
    sample::{History, Keys},
    setting, take_turns,
};

const ROUNDS: usize = 15;

fn main() {
    let rounds = setting("MARVIN_BENCH_ROUNDS", ROUNDS);
    let commits = Commits::install();
    let runtime = Runtime::new().expect("a runtime starts");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk of the build");
    let keys = Arc::new(runtime.block_on(Keys::new(directory.path(), Suite::default())));
    note("SQLite: journal WAL, synchronous FULL, on both sides; 300 bytes an event, XChaCha20-Poly1305.");

    let small = filled(&runtime, &keys, &directory.path().join("small.db"), SMALL_EVENTS as usize);
    let raw = Raw::create(&directory.path().join("raw.db")).expect("a new file opens");
    runtime.block_on(async {
        let mut history = History::new(&keys);
        let rows = history.next_rows().await;
        raw.insert(&rows).expect("the rows are new");
        raw.insert_clear(&keys.codec.open(rows).await.expect("they were sealed so")).expect("the rows are new");
    });
    read_against_clear(&runtime, rounds, &small, &raw);
    append_against_raw(&runtime, rounds, &small, &raw, &commits);

    let fresh = filled(&runtime, &keys, &directory.path().join("fresh.db"), SMALL_EVENTS as usize);
    let large = filled(&runtime, &keys, &directory.path().join("large.db"), large_events());
    grow("SQLite", &runtime, rounds, &fresh, &large);
}

/// A log that holds `events` events already.
fn filled(runtime: &Runtime, keys: &Arc<Keys>, path: &Path, events: usize) -> Subject {
    let start = Instant::now();
    drop(SqliteLog::open(path).expect("a new file opens"));
    let connection = Connection::open(path).expect("it was just made");
    let mut history = History::new(keys);
    while history.complete.len() * 100 < events {
        let rows = runtime.block_on(history.next_rows());
        raw::fill(&connection, &rows).expect("the rows are in order");
    }
    drop(connection);
    let complete = history.complete;
    let log = Arc::new(SqliteLog::open(path).expect("it holds whole events"));
    let subject = Subject { log, keys: keys.clone(), complete };
    note(&format!("filled a log with {} events in {:.0?}", subject.last(runtime), start.elapsed()));
    subject
}

fn read_against_clear(runtime: &Runtime, rounds: usize, small: &Subject, raw: &Raw) {
    let bare = || {
        let start = Instant::now();
        let events = raw.decode_all().expect("the rows are readable");
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(events.len() as u64, SMALL_EVENTS);
        seconds / events.len() as f64
    };
    note(&format!("catch-up in pages of {PAGE_EVENTS}"));
    take_turns(rounds, bare, || small.catch_up(runtime, 0, SMALL_EVENTS)).report(
        "SQLite: read, open, decode, to decoding clear rows",
        Target::AtLeast(0.5),
        Ratio::Rate,
    );
}

fn append_against_raw(runtime: &Runtime, rounds: usize, small: &Subject, raw: &Raw, commits: &Commits) {
    let of_round = Cell::new(0);
    let ours = || {
        let before = commits.count();
        let seconds = small.write_together(runtime);
        of_round.set(commits.count() - before);
        seconds
    };
    ours();
    let bare = || insert_batches(runtime, &small.keys, raw, of_round.get());
    let times = take_turns(rounds, bare, ours);
    let mean = (WRITERS * COMMANDS) as f64 / of_round.get() as f64;
    note(&format!("{mean:.1} commands a commit in the last round, and as many in the reference's"));
    times.report("SQLite: append, 32 writers, to raw rusqlite", Target::AtLeast(0.7), Ratio::Rate);

    let bare = || {
        let after = raw.last_position().expect("it is readable");
        let rows = runtime.block_on(rows(&small.keys, after, LONE_COMMANDS));
        median_latency(LONE_COMMANDS, |index| raw.insert(&rows[index..=index]).expect("the row is new"))
    };
    take_turns(rounds, bare, || small.write_alone(runtime)).report(
        "SQLite: append, 1 writer, latency to raw rusqlite",
        Target::AtMost(1.5),
        Ratio::Time,
    );
}

/// Counts the log's commits by the metric that operators see.
struct Commits(PrometheusHandle);

impl Commits {
    fn install() -> Self {
        Self(PrometheusBuilder::new().install_recorder().expect("it is the first recorder"))
    }

    fn count(&self) -> usize {
        let text = self.0.render();
        // A counter shows itself once it counted something.
        let line = text.lines().find_map(|line| line.strip_prefix(COMMITS)).unwrap_or("0");
        line.trim().parse().expect("a counter is a number")
    }
}

/// Seconds a row, in as many transactions as the log needed. The rows are ready before the clock starts.
fn insert_batches(runtime: &Runtime, keys: &Keys, raw: &Raw, commits: usize) -> f64 {
    let after = raw.last_position().expect("it is readable");
    let count = WRITERS * COMMANDS;
    let rows = runtime.block_on(rows(keys, after, count));
    let start = Instant::now();
    for commit in 0..commits {
        raw.insert(&rows[count * commit / commits..count * (commit + 1) / commits]).expect("the rows are new");
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(raw.last_position().expect("it is readable"), after + count as u64);
    seconds / count as f64
}
