//! What a page costs among a million documents: little more than what it shows, whatever is asked for and wherever that lies. By
//! what is touched, never by time; and as the planners are when nobody told them anything.
use super::{Adapter, Place, Subject};
use marvin::views::{
    Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, Table, ViewId,
    postgres::PostgresViews,
    sql::{self, Dialect, Statement, Wanted},
    sqlite::DIALECT,
};
use marvin_projections::Key;
use rstest::rstest;
use rusqlite::{Connection, StatementStatus, params_from_iter};
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

const FEW: u32 = 1_000;
const MANY: u32 = 1_000_000;
/// Rows, or steps of a page among [`FEW`], for each of the page.
const RATIO_MAX: u64 = 3;
/// Pages of an index that are passed on the way to the first row, at most.
const DESCENT_PAGES: u64 = 6;
/// As the API asks for it: one more than it shows.
const PAGE: u32 = 51;

/// The fields of document `i` of `n`, in their order, as SQL. `{x}` is the id of the number x.
fn fields(view: &str) -> &'static [&'static str] {
    match view {
        // Half are one agent's and the other half one person's. What failed is at the far end, what is to be done at the near.
        "tasks" => &[
            "{CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + i / 2 % 9 END}",
            "{CASE WHEN i % 2 = 1 THEN 0 ELSE 1 + i / 2 % 999 END}",
            // Half are of one conversation, a quarter of none.
            "CASE WHEN i % 4 < 2 THEN {0} WHEN i % 4 = 2 THEN {i / 10} END",
            "CASE WHEN i <= n / 500 THEN 'failed' WHEN i > n - n / 100 THEN 'queued' WHEN i > n - n / 90 THEN 'running' \
                  WHEN i > n - n / 80 THEN 'retrying' ELSE 'completed' END",
            "i / 2 % 10",
            "CASE WHEN i > n - n / 80 THEN i END",
            // Of those that wait, a third has a deadline.
            "CASE WHEN i > n - n / 80 AND i % 3 = 0 THEN i END",
        ],
        "steps" => &["{i / 4}"],
        "inbox" => &["{CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + i % 999 END}", "CASE WHEN i < n / 500 THEN 1 ELSE 0 END"],
        "agents" => &[
            "CASE WHEN i % 2 = 0 THEN 'rules' WHEN i < n / 100 THEN 'rare' ELSE 'insight' END",
            "CASE WHEN i % 2 = 1 AND i < n / 200 THEN 'retired' WHEN i % 3 = 0 THEN 'paused' ELSE 'active' END",
        ],
        // Most have ended. Few are due, and few wait for a task.
        "schedules" => &[
            "{CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + i / 2 % 999 END}",
            "{CASE WHEN i % 2 = 1 THEN 0 ELSE 1 + i / 2 % 9 END}",
            "CASE WHEN i <= n / 500 THEN 'paused' WHEN i > n - n / 10 THEN 'active' WHEN i % 3 = 0 THEN 'removed' ELSE 'ended' END",
            "CASE WHEN i > n - n / 10 THEN i END",
            "CASE WHEN i % 500 = 0 THEN 1 ELSE 0 END",
        ],
        "users" => &["CASE WHEN i > n / 100 THEN 'erased' ELSE 'active' END"],
        _ => unreachable!("say what documents of {view} are like, and what is asked for"),
    }
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

/// Every choice of one of each, or none.
fn combined(choices: &[(&'static str, Vec<Key>)]) -> Vec<Vec<Filter>> {
    choices.iter().fold(vec![Vec::new()], |chosen, (field, keys)| {
        let with = |key: &Key| {
            let condition = Filter::is(field, key.clone());
            chosen.iter().map(|filters| [&filters[..], std::slice::from_ref(&condition)].concat()).collect::<Vec<_>>()
        };
        chosen.iter().cloned().chain(keys.iter().flat_map(with)).collect()
    })
}

/// The conditions under which the API asks for the newest.
fn listed(view: &str) -> Vec<Vec<Filter>> {
    let ids = |numbers: &[u32]| numbers.iter().map(|number| id(*number).into()).collect();
    let texts = |texts: &[&str]| texts.iter().map(|text| Key::from(*text)).collect();
    match view {
        "tasks" => combined(&[
            ("agent_id", ids(&[0, 3])),
            ("status", texts(&["completed", "failed", "queued", "dead"])),
            ("conversation_id", ids(&[0, 5])),
            ("requested_by", ids(&[0, 7])),
        ]),
        "steps" => vec![vec![Filter::In("task_id", ids(&(70..270).collect::<Vec<_>>()))]],
        "inbox" => {
            let of = |number: u32| Filter::is("recipient", id(number));
            let people = [0, 7].into_iter();
            people.flat_map(|person| [vec![of(person)], vec![of(person), Filter::is("unread", true)]]).collect()
        }
        "agents" => {
            combined(&[("kind", texts(&["rules", "rare"])), ("status", texts(&["active", "retired", "unheard of"]))])
        }
        "schedules" => {
            let listed = [&["active", "paused", "ended"][..], &["active"], &["paused"], &["ended"]];
            let listed = listed.map(|statuses| Filter::In("status", texts(statuses)));
            let of = |agent: u32| Filter::is("agent_id", id(agent));
            listed.into_iter().flat_map(|is| [vec![is.clone()], vec![is.clone(), of(0)], vec![is, of(3)]]).collect()
        }
        _ => vec![Vec::new()],
    }
}

/// What the worker, the process managers and the agents ask for.
fn worked_off(view: &str) -> Vec<ListQuery> {
    let texts = |texts: &[&str]| texts.iter().map(|text| Key::from(*text)).collect();
    let query = |filters, order, limit| ListQuery { filters, order, before: None, limit };
    let all = |filters| query(filters, Order::Newest, PAGE_DOCUMENTS_MAX);
    match view {
        "tasks" => {
            let of = |agent: u32, status: &str| vec![Filter::is("agent_id", id(agent)), Filter::is("status", status)];
            let urgent = |filters| query(filters, Order::HighestThenOldest("priority"), PAGE);
            let due = [&of(0, "retrying")[..], &[Filter::AtMost("ready_at", MANY.into())]].concat();
            let overdue = vec![Filter::AtMost("waits_until", MANY.into())];
            let open = Filter::In("status", texts(&["queued", "running", "retrying"]));
            vec![
                urgent(of(0, "queued")),
                urgent(of(3, "queued")),
                urgent(due),
                query(overdue, Order::LowestThenNewest("waits_until"), PAGE_DOCUMENTS_MAX),
                query(of(0, "queued"), Order::HighestThenOldest("priority"), PAGE_DOCUMENTS_MAX),
                all(vec![Filter::is("status", "running")]),
                all(vec![Filter::is("requested_by", id(0)), open.clone()]),
                all(vec![Filter::is("requested_by", id(7)), open]),
            ]
        }
        "agents" => vec![all(vec![Filter::In("status", texts(&["active", "retired"]))])],
        "users" => vec![all(vec![Filter::is("status", "active")])],
        "schedules" => {
            let due = vec![Filter::is("status", "active"), Filter::AtMost("due_at", MANY.into())];
            let standing = Filter::In("status", texts(&["active", "paused", "ended"]));
            vec![
                query(due, Order::LowestThenNewest("due_at"), PAGE_DOCUMENTS_MAX),
                all(vec![Filter::is("is_watching", true)]),
                all(vec![Filter::is("owner", id(0)), standing.clone()]),
                all(vec![Filter::is("owner", id(7)), standing]),
            ]
        }
        _ => Vec::new(),
    }
}

/// Every list that somebody asks for: its beginning, and what lies behind some of it; for its documents, and for their ids.
fn asked(view: &str) -> Vec<(ListQuery, Wanted)> {
    let limit = if view == "steps" { PAGE_DOCUMENTS_MAX } else { PAGE };
    let pages = listed(view).into_iter().flat_map(|filters| {
        [None, Some(id(MANY / 2)), Some(id(100))].into_iter().map(move |before| {
            let filters = filters.clone();
            ListQuery { filters, order: Order::Newest, before, limit }
        })
    });
    let all = pages.chain(worked_off(view));
    all.flat_map(|query| [Wanted::Documents, Wanted::SmallDocuments, Wanted::Ids].map(|wanted| (query.clone(), wanted)))
        .collect()
}

fn filled(view: &str, documents: u32, id: (&str, &str)) -> String {
    let fields: String = fields(view).iter().map(|field| format!(", {field}")).collect();
    format!("{{i}}, 1{fields}, BODY FROM numbers, (SELECT {documents} AS n) AS total")
        .replace('{', id.0)
        .replace('}', id.1)
}

/// A table with so many documents, under the indexes that the store made.
async fn table_of(subject: &Subject, view: &str, documents: u32) -> Table {
    let fold = marvin_projections::all().into_iter().find(|fold| fold.name() == view).unwrap();
    let table = subject.live(ViewId::of(&*fold)).await;
    let name = format!("\"{table}\"");
    let names: String = table.fields.iter().map(|field| format!(", {}", field.name)).collect();
    let into = format!("INSERT INTO {name} (id, position{names}, body)");
    match &subject.at {
        Place::Directory(directory) => {
            let connection = Connection::open(directory.path().join("views.db")).unwrap();
            let numbers = format!(
                "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {documents})"
            );
            let select = filled(view, documents, ("unhex(printf('%032x', ", "))")).replace("BODY", "zeroblob(32)");
            let indexes = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
            let mut indexes = connection.prepare(indexes).unwrap();
            let indexes = indexes.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            let indexes: Vec<(String, String)> = indexes.map(Result::unwrap).collect();
            connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -100000; BEGIN").unwrap();
            rebuilt(&indexes, &format!("{numbers} {into} SELECT {select}"))
                .iter()
                .for_each(|sql| connection.execute_batch(sql).unwrap());
            connection.execute_batch("COMMIT").unwrap();
        }
        Place::Database(database) => {
            let client = database.views_stranger().await;
            let numbers = format!("WITH numbers AS (SELECT generate_series(1, {documents})::bigint AS i)");
            let id = ("lpad(to_hex((", ")::bigint), 32, '0')::uuid");
            let select = filled(view, documents, id).replace("BODY", "decode(repeat('00', 32), 'hex')");
            let indexes = "SELECT quote_ident(indexname), indexdef FROM pg_indexes \
                           WHERE schemaname = current_schema() AND tablename = $1 AND indexname NOT LIKE '%_pkey'";
            let indexes = client.query(indexes, &[&table.to_string()]).await.unwrap();
            let indexes: Vec<_> = indexes.iter().map(|row| (row.get(0), row.get(1))).collect();
            client.batch_execute("SET synchronous_commit = off").await.unwrap();
            for sql in rebuilt(&indexes, &format!("{into} {numbers} SELECT {select}")) {
                client.batch_execute(&sql).await.unwrap();
            }
        }
    }
    table
}

/// Indexes are sorted faster than they grow.
fn rebuilt(indexes: &[(String, String)], fill: &str) -> Vec<String> {
    let dropped = indexes.iter().map(|(name, _)| format!("DROP INDEX {name}"));
    let made = indexes.iter().map(|(_, sql)| sql.clone());
    dropped.chain([fill.to_owned()]).chain(made).collect()
}

fn statement(dialect: Dialect<'_>, table: &Table, query: &ListQuery, wanted: Wanted) -> Statement {
    sql::list(dialect, table, query, wanted).unwrap().unwrap()
}

#[rstest]
#[case::tasks("tasks")]
#[case::steps("steps")]
#[case::inbox("inbox")]
#[case::agents("agents")]
#[case::users("users")]
#[case::schedules("schedules")]
#[tokio::test]
async fn a_page_among_a_million_takes_sqlite_few_more_steps_than_one_among_a_thousand(#[case] view: &str) {
    let (few, many) = (Adapter::Sqlite.subject().await, Adapter::Sqlite.subject().await);
    let (of_few, of_many) = (table_of(&few, view, FEW).await, table_of(&many, view, MANY).await);
    // It is not asked for small documents: it sends one after the other.
    for (query, wanted) in asked(view).into_iter().filter(|(_, wanted)| *wanted != Wanted::SmallDocuments) {
        let all = ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: query.limit };
        let bound = RATIO_MAX * steps(&few, &statement(DIALECT, &of_few, &all, Wanted::Documents));
        let found = statement(DIALECT, &of_many, &query, wanted);
        let taken = steps(&many, &found);
        assert!(taken <= bound, "{wanted:?} of {query:?}: {taken} steps, of at most {bound}: {}", found.sql);
    }
}

/// Of SQLite's machine, all rows taken.
fn steps(subject: &Subject, statement: &Statement) -> u64 {
    let Place::Directory(directory) = &subject.at else { unreachable!("it is in a file") };
    let connection = Connection::open(directory.path().join("views.db")).unwrap();
    let mut prepared = connection.prepare(&statement.sql).unwrap();
    let values = statement.values.iter().map(|(_, key)| match key {
        Key::Id(id) => rusqlite::types::Value::Blob(id.as_bytes().to_vec()),
        Key::Text(text) => text.clone().into(),
        Key::Integer(number) => (*number).into(),
        Key::Null => rusqlite::types::Value::Null,
    });
    let rows = prepared.query_map(params_from_iter(values), |_| Ok(())).unwrap();
    assert!(rows.count() <= PAGE_DOCUMENTS_MAX as usize);
    u64::try_from(prepared.get_status(StatementStatus::VmStep)).unwrap()
}

#[rstest]
#[case::tasks("tasks")]
#[case::steps("steps")]
#[case::inbox("inbox")]
#[case::agents("agents")]
#[case::users("users")]
#[case::schedules("schedules")]
#[tokio::test]
async fn a_page_among_a_million_touches_little_more_in_postgresql_than_it_shows(#[case] view: &str) {
    let subject = Adapter::Postgres.subject().await;
    let table = table_of(&subject, view, MANY).await;
    let Place::Database(database) = &subject.at else { unreachable!("it is in a database") };
    let (views, client) = (PostgresViews::new(database.prepare().await), database.views_stranger().await);
    // Before the server knows anything of what is in the table, and after.
    for analyze in ["", &format!("ANALYZE \"{table}\"")] {
        client.batch_execute(analyze).await.unwrap();
        for (query, wanted) in asked(view) {
            let found = statement(views.dialect(), &table, &query, wanted);
            for mode in ["force_custom_plan", "force_generic_plan"] {
                let plan = explain(&client, &found, mode).await;
                let limit = u64::from(query.limit);
                let scans =
                    nodes(&plan).into_iter().filter(|node| node["Node Type"].as_str().unwrap().contains("Scan"));
                let scans: Vec<&Value> = scans.filter(|node| node["Node Type"] != "Subquery Scan").collect();
                let told = || format!("{wanted:?} of {query:?} {mode} '{analyze}': {plan:#}");
                assert!(scans.iter().all(|scan| scan["Node Type"] != "Seq Scan"), "{}", told());
                let rows: u64 = scans.iter().map(|scan| touched(scan)).sum();
                assert!(rows <= RATIO_MAX * limit, "{rows} rows: {}", told());
                let pages = plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap();
                let descents = DESCENT_PAGES * (found.values.len() as u64).max(1);
                assert!(pages <= RATIO_MAX * limit + descents, "{pages} pages: {}", told());
            }
        }
    }
}

/// Rows that a scan looked at.
fn touched(scan: &Value) -> u64 {
    let of = |name: &str| scan[name].as_f64().unwrap_or(0.0);
    let rows = of("Actual Rows") + of("Rows Removed by Filter") + of("Rows Removed by Index Recheck");
    let rows = (rows * of("Actual Loops")).ceil();
    format!("{rows:.0}").parse().unwrap()
}

fn nodes(plan: &Value) -> Vec<&Value> {
    let below = plan["Plans"].as_array().into_iter().flatten().flat_map(nodes);
    std::iter::once(plan).chain(below).collect()
}

/// How the server answers a prepared statement.
async fn explain(client: &Client, statement: &Statement, mode: &str) -> Value {
    let values: Vec<_> = statement
        .values
        .iter()
        .map(|(_, key)| match key {
            Key::Id(id) => format!("'{id}'"),
            Key::Text(text) => format!("'{text}'"),
            Key::Integer(number) => number.to_string(),
            Key::Null => "NULL".to_owned(),
        })
        .collect();
    let values = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    let sql = format!(
        "SET plan_cache_mode = {mode}; PREPARE asked AS {}; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked{values}; \
         DEALLOCATE asked",
        statement.sql
    );
    let answer = client.simple_query(&sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plans: Value = serde_json::from_str(row.unwrap()).unwrap();
    plans[0]["Plan"].clone()
}
