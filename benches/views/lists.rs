//! What a page of a list costs among few documents and among a million.
use marvin::views::{Filter, ListQuery, Order, Table, ViewId, ViewStore};
use marvin_projections::{Projection, fold_of, tasks::Tasks};
use std::{sync::Arc, time::Instant};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    server::connect,
    support::{Ratio, Target, note, take_turns},
};

const FEW: usize = 1_000;
const PAGE_DOCUMENTS: u32 = 50;
/// Pages of each list in a round.
const PAGES: usize = 20;
/// How much longer a page may take among many.
const GROWTH_MAX: f64 = 3.0;
/// Agents, and people: each has as many of the documents, and a page of those that are queued even among few.
const OTHERS: usize = 2;

/// A store whose tables are filled beside it, since what fills them is not measured.
pub trait Filled {
    fn views(&self) -> Arc<dyn ViewStore>;
    /// Runs statements on the database, and answers the one text of the last.
    fn run(&self, runtime: &Runtime, sql: &str) -> String;
    fn insert(&self, table: &str, count: usize) -> String;
    /// A statement that answers those that make the table's indexes, and one that drops them.
    fn indexes(&self, table: &str) -> [String; 2];
    fn end(&self, table: &str) -> String;
}

pub fn grow(runtime: &Runtime, rounds: usize, store: &str, filled: &dyn Filled, many: usize) {
    let start = Instant::now();
    let [few, large] = [FEW, many].map(|count| fill(runtime, filled, count));
    note(&format!("{store}: filled tables of {FEW} and {many} documents in {:.0?}", start.elapsed()));
    let views = filled.views();
    let page = |table: &Table| {
        let start = Instant::now();
        for _ in 0..PAGES {
            for query in queries() {
                let page = runtime.block_on(views.list(table, query)).expect("the table is there");
                assert_eq!(page.documents.len(), PAGE_DOCUMENTS as usize, "a full page");
            }
        }
        start.elapsed().as_secs_f64() / (PAGES * queries().len()) as f64
    };
    take_turns(rounds, || page(&few), || page(&large)).report(
        &format!("{store}: page of 50 among {}k documents, time to one among 1k", many / 1_000),
        Target::AtMost(GROWTH_MAX),
        Ratio::Time,
    );
    for table in [few, large] {
        runtime.block_on(views.drop_table(&table)).expect("the store is there");
    }
}

/// The lists of tasks as the API asks for them.
fn queries() -> Vec<ListQuery> {
    let one = Uuid::from_u128(1);
    let open = || Filter::In("status", vec!["queued".into(), "running".into()]);
    let newest = |filters| ListQuery { filters, order: Order::Newest, before: None, limit: PAGE_DOCUMENTS };
    vec![
        newest(Vec::new()),
        newest(vec![Filter::is("agent_id", one)]),
        newest(vec![Filter::is("requested_by", one)]),
        newest(vec![open()]),
        newest(vec![Filter::is("requested_by", one), open()]),
        ListQuery {
            order: Order::HighestThenOldest("priority"),
            ..newest(vec![Filter::is("agent_id", one), Filter::is("status", "queued")])
        },
    ]
}

/// A table of `count` documents of 400 bytes. Its indexes are made at the end, which is faster.
fn fill(runtime: &Runtime, filled: &dyn Filled, count: usize) -> Table {
    let views = filled.views();
    let table = runtime.block_on(async {
        let fold = fold_of::<Tasks>();
        let table = views.begin(ViewId::of(&*fold), 0).await.expect("the store is there").table;
        views.take_over(&table, 1).await.expect("nobody else has it");
        views.make_live(&table, 1).await.expect("nobody else has it");
        table
    });
    let name = table.to_string();
    let [make, drop] = filled.indexes(&name);
    let make = filled.run(runtime, &make);
    let drop = filled.run(runtime, &drop);
    filled.run(runtime, &drop);
    filled.run(runtime, &filled.insert(&name, count));
    filled.run(runtime, &make);
    filled.run(runtime, &filled.end(&name));
    table
}

/// The columns' values in terms of `i`; `id` makes one of a number, `bytes` makes some.
fn values(id: impl Fn(&str) -> String, bytes: &str) -> String {
    format!(
        "{}, i, {}, {}, NULL, CASE i / {OTHERS} / {OTHERS} % 4 WHEN 0 THEN 'queued' WHEN 1 THEN 'running' ELSE 'completed' END, \
         i % 10, NULL, {bytes}",
        id("i"),
        id(&format!("i % {OTHERS}")),
        id(&format!("i / {OTHERS} % {OTHERS}")),
    )
}

fn columns() -> String {
    let fields: String = Tasks::FIELDS.iter().map(|field| format!("{}, ", field.name)).collect();
    format!("id, position, {fields}body")
}

/// `views.db`, beside its store.
pub struct InFile {
    pub views: Arc<dyn ViewStore>,
    pub path: std::path::PathBuf,
}

impl Filled for InFile {
    fn views(&self) -> Arc<dyn ViewStore> {
        self.views.clone()
    }

    fn run(&self, _: &Runtime, sql: &str) -> String {
        let connection = rusqlite::Connection::open(&self.path).expect("the store made it");
        if sql.starts_with("SELECT") {
            return connection.query_row(sql, [], |row| row.get(0)).expect("it is readable");
        }
        connection.execute_batch(sql).expect("nobody else writes");
        String::new()
    }

    fn insert(&self, table: &str, count: usize) -> String {
        let values = values(|number| format!("unhex(printf('%032x', {number}))"), "zeroblob(400)");
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO {table} ({}) SELECT {values} FROM n",
            columns()
        )
    }

    fn indexes(&self, table: &str) -> [String; 2] {
        let all = format!("FROM sqlite_master WHERE type = 'index' AND tbl_name = '{table}' AND sql IS NOT NULL");
        [
            format!("SELECT group_concat(sql, ';') {all}"),
            format!("SELECT group_concat('DROP INDEX \"' || name || '\"', ';') {all}"),
        ]
    }

    fn end(&self, _: &str) -> String {
        "PRAGMA wal_checkpoint(TRUNCATE)".into()
    }
}

/// A schema of the private server, beside its store.
pub struct InSchema {
    pub views: Arc<dyn ViewStore>,
    pub name: String,
}

impl Filled for InSchema {
    fn views(&self) -> Arc<dyn ViewStore> {
        self.views.clone()
    }

    fn run(&self, runtime: &Runtime, sql: &str) -> String {
        runtime.block_on(async {
            let client = connect(&self.name).await;
            if sql.starts_with("SELECT") {
                return client.query_one(sql, &[]).await.expect("it is readable").get(0);
            }
            client.batch_execute(sql).await.expect("nobody else writes");
            String::new()
        })
    }

    fn insert(&self, table: &str, count: usize) -> String {
        let values =
            values(|number| format!("lpad(to_hex({number}), 32, '0')::uuid"), "decode(repeat('00', 400), 'hex')");
        format!("INSERT INTO {table} ({}) SELECT {values} FROM generate_series(1, {count}) AS n (i)", columns())
    }

    fn indexes(&self, table: &str) -> [String; 2] {
        let all = format!(
            "FROM pg_indexes WHERE schemaname = '{}' AND tablename = '{table}' AND indexdef NOT LIKE '%UNIQUE%'",
            self.name
        );
        [
            format!("SELECT string_agg(indexdef, ';') {all}"),
            format!("SELECT string_agg('DROP INDEX \"' || indexname || '\"', ';') {all}"),
        ]
    }

    fn end(&self, table: &str) -> String {
        format!("ANALYZE {table}")
    }
}
