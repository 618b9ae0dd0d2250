//! A log in the private PostgreSQL server of the run, filled by inserts of arrays.
use marvin::{
    log::{StoredEvent, postgres::PostgresLog},
    postgres::Postgres,
};
use std::{sync::Arc, time::Instant};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement, types::ToSql};

use crate::support::{
    load::Subject,
    note,
    sample::{History, Keys},
};

/// Where the server is; `.ci/services run` sets it.
const URL_VARIABLE: &str = "MARVIN_TEST_POSTGRES";

/// A superuser's URL of a private server.
pub fn url() -> String {
    std::env::var(URL_VARIABLE).expect("set by '.ci/services run', which starts a private server")
}

/// A connection without any of Marvin's settings, its bytes moved by the runtime that calls.
pub async fn connect(schema: &str) -> Client {
    let (client, wire) = tokio_postgres::connect(&url(), NoTls).await.expect("the server answers");
    tokio::spawn(wire);
    client.batch_execute(&format!("SET search_path = \"{schema}\"")).await.expect("a setting");
    client
}

/// The settings that decide how durable a commit is, as this server has them.
pub async fn print_settings(client: &Client) {
    let names = ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_level"];
    let mut settings = Vec::with_capacity(names.len());
    for name in names {
        let row = client.query_one(&format!("SHOW {name}"), &[]).await.expect("a setting");
        settings.push(format!("{name} {}", row.get::<_, String>(0)));
    }
    note(&format!("PostgreSQL: {}; 300 bytes an event, XChaCha20-Poly1305.", settings.join(", ")));
}

/// A log of its own that holds `events` events already.
pub fn filled(runtime: &Runtime, keys: &Arc<Keys>, instance: &str, events: usize) -> Subject {
    let start = Instant::now();
    let (log, complete) = runtime.block_on(async {
        let postgres = Postgres::prepare(&url(), instance).await.expect("a new instance");
        let client = connect(instance).await;
        let statement = client.prepare(&insert_into("events")).await.expect("the table is there");
        let mut history = History::new(keys);
        while history.complete.len() * 100 < events {
            insert(&client, &statement, &Columns::of(&history.next_rows().await)).await;
        }
        for tidying in ["VACUUM ANALYZE events", "CHECKPOINT"] {
            client.batch_execute(tidying).await.expect("a superuser may");
        }
        (PostgresLog::start(postgres).await.expect("the log is readable"), history.complete)
    });
    let subject = Subject { log: Arc::new(log), keys: keys.clone(), complete };
    note(&format!("filled a log with {} events in {:.0?}", subject.last(runtime), start.elapsed()));
    subject
}

/// One statement for any number of rows. The columns are those of the log's table.
pub fn insert_into(table: &str) -> String {
    format!(
        "INSERT INTO {table} SELECT p, t, a, s, y, v, b, m::json, e, c, 0, now() FROM unnest($1::bigint[], $2::text[], \
         $3::uuid[], $4::bigint[], $5::text[], $6::integer[], $7::bytea[], $8::text[], $9::uuid[], $10::uuid[]) \
         AS rows (p, t, a, s, y, v, b, m, e, c)"
    )
}

/// Rows as the arrays that the statement takes.
#[derive(Default)]
pub struct Columns<'a> {
    positions: Vec<i64>,
    types: Vec<&'a str>,
    ids: Vec<uuid::Uuid>,
    sequences: Vec<i64>,
    event_types: Vec<&'a str>,
    versions: Vec<i32>,
    payloads: Vec<&'a [u8]>,
    metadata: Vec<&'a str>,
    event_ids: Vec<uuid::Uuid>,
    command_ids: Vec<uuid::Uuid>,
}

impl<'a> Columns<'a> {
    pub fn of(rows: &'a [StoredEvent]) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.positions.push(row.position.cast_signed());
            columns.types.push(row.stream.kind.as_str());
            columns.ids.push(row.stream.id);
            columns.sequences.push(row.sequence.cast_signed());
            columns.event_types.push(&row.event_type);
            columns.versions.push(row.event_version.into());
            columns.payloads.push(&row.payload);
            columns.metadata.push(&row.metadata);
            columns.event_ids.push(row.event_id);
            columns.command_ids.push(row.command_id);
        }
        columns
    }
}

/// Inserts rows and commits.
pub async fn insert(client: &Client, statement: &Statement, rows: &Columns<'_>) {
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &rows.positions,
        &rows.types,
        &rows.ids,
        &rows.sequences,
        &rows.event_types,
        &rows.versions,
        &rows.payloads,
        &rows.metadata,
        &rows.event_ids,
        &rows.command_ids,
    ];
    let inserted = client.execute(statement, &parameters).await.expect("the rows are new");
    assert_eq!(inserted, rows.positions.len() as u64);
}
