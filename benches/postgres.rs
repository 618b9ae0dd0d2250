//! The log on PostgreSQL against bare statements on the same server, and against itself with a million events.
use marvin::{log::StoredEvent, security::cipher::Suite};
use std::{cell::RefCell, sync::Arc, time::Instant};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, types::ToSql};

#[path = "support/server.rs"]
mod server;
#[path = "support/mod.rs"]
mod support;
use server::{Columns, connect, filled, insert, insert_into, print_settings};
use support::{
    Ratio, Target,
    load::{COMMANDS, LONE_COMMANDS, PAGE_EVENTS, SMALL_EVENTS, Subject, WRITERS, grow, large_events, rows},
    median_latency, note,
    sample::Keys,
    setting, take_turns,
};

const ROUNDS: usize = 15;
/// The log's columns without its promises, and two unique indexes.
const BARE_TABLE: &str = "CREATE TABLE bare (
    position bigint, aggregate_type text NOT NULL, aggregate_id uuid NOT NULL, sequence bigint NOT NULL,
    event_type text NOT NULL, event_version integer NOT NULL, payload bytea NOT NULL, metadata json NOT NULL,
    event_id uuid NOT NULL, command_id uuid NOT NULL, command_index integer NOT NULL, recorded_at timestamptz NOT NULL,
    UNIQUE (aggregate_type, aggregate_id, sequence), UNIQUE (command_id, command_index));
    ALTER TABLE bare ALTER COLUMN payload SET STORAGE EXTERNAL";

fn main() {
    let rounds = setting("MARVIN_BENCH_ROUNDS", ROUNDS);
    let runtime = Runtime::new().expect("a runtime starts");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = Arc::new(runtime.block_on(Keys::new(directory.path(), Suite::default())));
    let small = filled(&runtime, &keys, "bench_small", SMALL_EVENTS as usize);
    let bare = Bare::new();
    bare.runtime.block_on(print_settings(&bare.client));

    read_against_select(&runtime, rounds, &small, &bare);
    append_against_insert(&runtime, rounds, &small, &bare);

    let fresh = filled(&runtime, &keys, "bench_fresh", SMALL_EVENTS as usize);
    let large = filled(&runtime, &keys, "bench_large", large_events());
    grow("PostgreSQL", &runtime, rounds, &fresh, &large);
}

/// The reference's connection. It has one thread to itself, so that no answer waits for another thread to wake.
struct Bare {
    runtime: Runtime,
    client: Client,
}

impl Bare {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let client = runtime.block_on(async {
            let client = connect("bench_small").await;
            client.batch_execute(BARE_TABLE).await.expect("a new table");
            client
        });
        Self { runtime, client }
    }

    /// How many rows each transaction after `position` had, in order: rows of one have one xmin.
    fn batches(&self, position: u64) -> Vec<usize> {
        let sql = "SELECT count(*) FROM events WHERE position > $1 GROUP BY xmin::text ORDER BY min(position)";
        let rows = self.runtime.block_on(self.client.query(sql, &[&position.cast_signed()])).expect("it is readable");
        rows.iter().map(|row| usize::try_from(row.get::<_, i64>(0)).expect("a count")).collect()
    }

    fn count(&self) -> u64 {
        let row = self.runtime.block_on(self.client.query_one("SELECT count(*) FROM bare", &[]));
        row.expect("it is readable").get::<_, i64>(0).cast_unsigned()
    }

    /// Seconds a row, in transactions of these sizes. The rows are ready before the clock starts.
    fn insert_batches(&self, runtime: &Runtime, keys: &Keys, sizes: &[usize]) -> f64 {
        let count = sizes.iter().sum();
        assert_eq!(count, WRITERS * COMMANDS, "the reference writes as much as the log did");
        let before = self.count();
        let rows = runtime.block_on(rows(keys, before, count));
        let mut rest = &rows[..];
        let mut batches = Vec::with_capacity(sizes.len());
        for size in sizes {
            let (batch, others) = rest.split_at(*size);
            batches.push(Columns::of(batch));
            rest = others;
        }
        let seconds = self.runtime.block_on(async {
            let statement = self.client.prepare(&insert_into("bare")).await.expect("the table is there");
            let start = Instant::now();
            for batch in &batches {
                insert(&self.client, &statement, batch).await;
            }
            start.elapsed().as_secs_f64()
        });
        assert_eq!(self.count() - before, count as u64);
        seconds / count as f64
    }

    /// The median time of one prepared INSERT and its commit.
    fn insert_alone(&self, runtime: &Runtime, keys: &Keys) -> f64 {
        let rows = runtime.block_on(rows(keys, self.count(), LONE_COMMANDS));
        let sql = "INSERT INTO bare VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::json, $9, $10, 0, now())";
        let statement = self.runtime.block_on(self.client.prepare(sql)).expect("the table is there");
        median_latency(LONE_COMMANDS, |index| {
            let row: &StoredEvent = &rows[index];
            let parameters: [&(dyn ToSql + Sync); 10] = [
                &row.position.cast_signed(),
                &row.stream.kind.as_str(),
                &row.stream.id,
                &row.sequence.cast_signed(),
                &row.event_type,
                &i32::from(row.event_version),
                &row.payload,
                &row.metadata,
                &row.event_id,
                &row.command_id,
            ];
            let inserted = self.runtime.block_on(self.client.execute(&statement, &parameters));
            assert_eq!(inserted.expect("the row is new"), 1);
        })
    }

    /// Seconds a row, in the pages that a reader of the log takes, without looking into the rows.
    fn select_all(&self) -> f64 {
        let sql = "SELECT position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
                   metadata, event_id, command_id, recorded_at FROM events WHERE position > $1 ORDER BY position \
                   LIMIT $2";
        let (mut after, mut count) = (0, 0);
        let start = Instant::now();
        self.runtime.block_on(async {
            let statement = self.client.prepare(sql).await.expect("the table is there");
            while after < SMALL_EVENTS.cast_signed() {
                let limit = i64::from(PAGE_EVENTS).min(SMALL_EVENTS.cast_signed() - after);
                let page = self.client.query(&statement, &[&after, &limit]).await.expect("it is readable");
                after = page.last().expect("there are more").get(0);
                count += page.len();
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(count as u64, SMALL_EVENTS, "every row was read");
        seconds / count as f64
    }
}

fn read_against_select(runtime: &Runtime, rounds: usize, small: &Subject, bare: &Bare) {
    take_turns(rounds, || bare.select_all(), || small.catch_up(runtime, 0, SMALL_EVENTS)).report(
        "PostgreSQL: read, open, decode, to a bare keyset select",
        Target::AtLeast(0.6),
        Ratio::Rate,
    );
}

fn append_against_insert(runtime: &Runtime, rounds: usize, small: &Subject, bare: &Bare) {
    let of_round = RefCell::new(Vec::new());
    let ours = || {
        let before = small.last(runtime);
        let seconds = small.write_together(runtime);
        of_round.replace(bare.batches(before));
        seconds
    };
    ours();
    let reference = || bare.insert_batches(runtime, &small.keys, &of_round.borrow());
    let times = take_turns(rounds, reference, ours);
    let sizes = of_round.take();
    let mean = (WRITERS * COMMANDS) as f64 / sizes.len() as f64;
    note(&format!("{mean:.1} commands a commit in the last round, and the same batches in the reference's"));
    times.report("PostgreSQL: append, 32 writers, to bare group commit", Target::AtLeast(0.6), Ratio::Rate);
    // What a commit costs is in the ratio only as far as both make as many. Here the reference makes as few as 32 writers allow.
    let fewest = vec![WRITERS; COMMANDS];
    let reference = || bare.insert_batches(runtime, &small.keys, &fewest);
    take_turns(rounds, reference, || small.write_together(runtime)).report(
        "PostgreSQL: append, 32 writers, to bare inserts of 32 rows",
        Target::None,
        Ratio::Rate,
    );

    take_turns(rounds, || bare.insert_alone(runtime, &small.keys), || small.write_alone(runtime)).report(
        "PostgreSQL: append, 1 writer, latency to a bare INSERT",
        Target::AtMost(1.8),
        Ratio::Time,
    );
}
