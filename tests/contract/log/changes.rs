//! An event that stands is never changed, whoever tries; it is the same after a dump and on a database with other defaults.
use marvin::log::{AppendError, EventLog, ReadError, postgres::PostgresLog, sqlite::SqliteLog};
use std::{process::Stdio, sync::Arc};
use tokio_postgres::Client;

use super::{Adapter, Home, Subject, all, append, events, first, positions, stream};
use crate::postgres::{Database, program};

#[tokio::test]
async fn sqlite_refuses_to_change_delete_or_replace_an_event() {
    let subject = Adapter::Sqlite.log().await;
    let Home::File(directory) = &subject.home else { unreachable!() };
    subject.log.append(append(stream(), 0, 2)).await.unwrap();
    let stranger = rusqlite::Connection::open(directory.path().join("log.db")).unwrap();
    for sql in [
        "UPDATE events SET payload = x'00' WHERE position = 1",
        "DELETE FROM events WHERE position = 2",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 1",
        "INSERT INTO events SELECT 4, aggregate_type, aggregate_id, 9, event_type, event_version, payload, metadata, \
         event_id, x'01', 0, recorded_at FROM events WHERE position = 1",
        // The next position, and a place that an event has in its stream, or in its command.
        "INSERT OR REPLACE INTO events SELECT 3, aggregate_type, aggregate_id, 1, event_type, event_version, x'00', metadata, \
         event_id, x'01', 0, recorded_at FROM events WHERE position = 1",
        "INSERT OR REPLACE INTO events SELECT 3, aggregate_type, aggregate_id, 9, event_type, event_version, x'00', metadata, \
         event_id, command_id, command_index, recorded_at FROM events WHERE position = 1",
        "REPLACE INTO events SELECT * FROM events WHERE position = 2",
        "UPDATE OR REPLACE events SET position = 1 WHERE position = 2",
    ] {
        let refused = stranger.execute(sql, []).expect_err(sql).to_string();
        assert!(refused.contains("append-only") || refused.contains("gapless"), "{sql}: {refused}");
    }
    assert_eq!(positions(&*subject.log).await, [1, 2]);
}

/// As the first version of the program left it.
#[tokio::test]
async fn an_older_file_gets_what_refuses_a_replacing() {
    let subject = Adapter::Sqlite.log().await;
    subject.log.append(append(stream(), 0, 2)).await.unwrap();
    let Subject { home: Home::File(directory), log } = subject else { unreachable!() };
    drop(log);
    let path = directory.path().join("log.db");
    let stranger = rusqlite::Connection::open(&path).unwrap();
    let older = "DROP TRIGGER events_are_never_replaced; DROP TRIGGER incarnations_are_never_replaced; \
                 DELETE FROM refinery_schema_history WHERE version = 2";
    stranger.execute_batch(older).unwrap();
    let log = SqliteLog::open(&path).unwrap();
    let replacing = "INSERT OR REPLACE INTO events SELECT 3, aggregate_type, aggregate_id, 1, event_type, event_version, x'00', \
                     metadata, event_id, x'01', 0, recorded_at FROM events WHERE position = 1";
    let refused = stranger.execute(replacing, []).unwrap_err().to_string();
    assert!(refused.contains("append-only"), "{refused}");
    assert_eq!(positions(&log).await, [1, 2]);
}

const CHANGES: [&str; 5] = [
    "UPDATE events SET payload = '' WHERE position = 1",
    "DELETE FROM events WHERE position = 2",
    "TRUNCATE events",
    "INSERT INTO events SELECT * FROM events WHERE position = 1 ON CONFLICT (position) DO UPDATE SET payload = ''",
    "MERGE INTO events USING (SELECT 1) AS one ON position = 1 WHEN MATCHED THEN DELETE",
];

/// The words in which a statement was refused.
async fn refusal(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error.as_db_error().expect("the server refuses, not the wire").message().to_owned()
}

#[tokio::test]
async fn postgres_refuses_to_change_or_delete_an_event_for_everyone() {
    let subject = Adapter::Postgres.log().await;
    subject.log.append(append(stream(), 0, 2)).await.unwrap();
    let superuser = subject.database().stranger().await;
    for role in ["origin", "replica"] {
        superuser.batch_execute(&format!("SET session_replication_role = {role}")).await.unwrap();
        for sql in CHANGES {
            assert_eq!(refusal(&superuser, sql).await, "events are append-only", "{sql}");
        }
    }
    assert_eq!(positions(&*subject.log).await, [1, 2]);
}

#[tokio::test]
async fn postgres_gives_the_running_program_no_right_to_change_events() {
    let subject = Adapter::Postgres.log().await;
    subject.log.append(append(stream(), 0, 2)).await.unwrap();
    let database = subject.database();
    let running = database.prepare().await.client().await.unwrap();
    let asked = running.query_one("SELECT current_user::text, session_user::text", &[]).await.unwrap();
    assert_eq!(asked.get::<_, String>(0), format!("{}_app", database.instance));
    assert_ne!(asked.get::<_, String>(0), asked.get::<_, String>(1));
    for sql in CHANGES {
        assert!(refusal(&running, sql).await.starts_with("permission denied"), "{sql}");
    }
    for sql in [
        "ALTER TABLE events DISABLE TRIGGER events_are_never_changed",
        "DROP TRIGGER events_are_never_changed ON events",
        "DROP TABLE events",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ] {
        let words = refusal(&running, sql).await;
        assert!(words.starts_with("must be owner") || words.starts_with("permission denied"), "{sql}: {words}");
    }
    assert_eq!(positions(&*subject.log).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_its_order_in_a_database_that_defaults_to_repeatable_read() {
    let database = Database::own().await;
    for default in ["default_transaction_isolation = 'repeatable read'", "synchronous_commit = off"] {
        let sql = format!("ALTER DATABASE {} SET {default}", database.instance);
        database.stranger().await.batch_execute(&sql).await.unwrap();
    }
    let subject = Subject::over(Home::Database(database)).await;
    let other = subject.other_node().await;
    let appends = (0..200).map(|number: usize| {
        let log = if number.is_multiple_of(2) { subject.log.clone() } else { other.clone() };
        tokio::spawn(async move { log.append(append(stream(), 0, 1)).await.unwrap() })
    });
    for written in futures_util::future::join_all(appends).await {
        written.unwrap();
    }
    assert_eq!(positions(&*subject.log).await, (1..=200).collect::<Vec<_>>());
    let running = subject.database().prepare().await.client().await.unwrap();
    let durable = running.query_one("SHOW synchronous_commit", &[]).await.unwrap();
    assert_eq!(durable.get::<_, String>(0), "on");

    let stranger = subject.database().stranger().await;
    let nothing =
        "SELECT append_events('{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}')";
    assert_eq!(
        refusal(&stranger, nothing).await,
        "events are appended under read committed, not under repeatable read"
    );
    stranger.batch_execute("SET default_transaction_isolation = 'read committed'").await.unwrap();
    stranger.batch_execute(nothing).await.unwrap();
}

fn dump_and_restore(from: &Database, to: &Database) {
    let mut dump = program("pg_dump").args(["--dbname", &from.url]).stdout(Stdio::piped()).spawn().unwrap();
    let restored = program("psql")
        .args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--dbname", &to.url])
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(restored.success() && dump.wait().unwrap().success());
}

#[tokio::test]
async fn postgres_dumped_and_restored_is_the_same_log_and_goes_on() {
    let subject = Subject::over(Home::Database(Database::own().await)).await;
    let command = append(stream(), 0, 2);
    let receipt = subject.log.append(command.clone()).await.unwrap();
    for _ in 0..20 {
        subject.log.append(append(stream(), 0, 3)).await.unwrap();
    }
    let before = all(&*subject.log).await;
    let database = subject.database();
    let Database { url, .. } = Database::own().await;
    let copy = Database { url, instance: database.instance.clone() };
    dump_and_restore(database, &copy);
    let restored = Subject::over(Home::Database(copy)).await;
    let key = |event: &marvin::log::StoredEvent| {
        (
            event.position,
            event.event_id,
            event.sequence,
            event.payload.clone(),
            event.metadata.clone(),
            event.recorded_at,
        )
    };
    assert_eq!(
        all(&*restored.log).await.iter().map(key).collect::<Vec<_>>(),
        before.iter().map(key).collect::<Vec<_>>()
    );
    assert_eq!(first(restored.log.append(command).await.unwrap()), receipt);
    assert_eq!(restored.log.append(append(stream(), 0, 1)).await.unwrap().position, before.len() as u64 + 1);
    let superuser = restored.database().stranger().await;
    assert_eq!(refusal(&superuser, "DELETE FROM events").await, "events are append-only");
}

#[tokio::test]
async fn sqlite_copied_by_a_vacuum_is_the_same_log_and_goes_on() {
    let subject = Adapter::Sqlite.log().await;
    let Home::File(directory) = &subject.home else { unreachable!() };
    let command = append(stream(), 0, 2);
    let receipt = subject.log.append(command.clone()).await.unwrap();
    let copy = directory.path().join("copy.db");
    let stranger = rusqlite::Connection::open(directory.path().join("log.db")).unwrap();
    stranger.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let restored = SqliteLog::open(&copy).unwrap();
    assert_eq!(first(restored.append(command).await.unwrap()), receipt);
    assert_eq!(restored.append(append(stream(), 0, 1)).await.unwrap().position, 3);
}

#[tokio::test]
async fn a_database_of_a_newer_marvin_is_refused() {
    let database = Database::shared();
    drop(database.prepare().await);
    let newer = "INSERT INTO refinery_schema_history VALUES (9000, 'newer', '2030-01-01T00:00:00Z', '1')";
    database.stranger().await.batch_execute(newer).await.unwrap();
    let refused = marvin::postgres::Postgres::prepare(&database.url, &database.instance).await.unwrap_err();
    let expected =
        format!("the schema {} was made by a newer Marvin: start that version, or a newer one", database.instance);
    assert_eq!(refused.to_string(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_make_the_tables_once() {
    let database = Arc::new(Database::shared());
    let starts = (0..8).map(|_| {
        let database = database.clone();
        tokio::spawn(async move { PostgresLog::start(database.prepare().await).await.unwrap() })
    });
    for (log, number) in futures_util::future::join_all(starts).await.into_iter().zip(1..) {
        assert_eq!(log.unwrap().append(append(stream(), 0, 1)).await.unwrap().position, number);
    }
}

#[tokio::test]
async fn an_event_of_an_unknown_aggregate_stops_the_reader_at_its_position() {
    let subject = Adapter::Postgres.log().await;
    subject.log.append(append(stream(), 0, 1)).await.unwrap();
    let strange = "INSERT INTO events SELECT 2, 'starship', gen_random_uuid(), 1, event_type, event_version, payload, \
                   metadata, gen_random_uuid(), gen_random_uuid(), 0, recorded_at FROM events";
    subject.database().stranger().await.batch_execute(strange).await.unwrap();
    assert!(matches!(subject.log.read(0, 10).await, Err(ReadError::Corrupt { position: 2, .. })));
    assert_eq!(subject.log.read(0, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_command_that_the_database_cannot_take_fails_alone() {
    let subject = Adapter::Postgres.log().await;
    let mut poison = append(stream(), 0, 1);
    poison.streams[0].events = events(1);
    poison.streams[0].events[0].metadata = "not json".into();
    let (before, refused, after) = tokio::join!(
        subject.log.append(append(stream(), 0, 1)),
        subject.log.append(poison.clone()),
        subject.log.append(append(stream(), 0, 1)),
    );
    assert_eq!((before.unwrap().position, after.unwrap().position), (1, 2));
    assert!(matches!(refused, Err(AppendError::Unavailable(_))));
    assert_eq!(subject.log.find_command(poison.command_id).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_session_makes_for_itself_is_not_what_the_functions_find() {
    let subject = Adapter::Postgres.log().await;
    let database = subject.database();
    let running = database.prepare().await.client().await.unwrap();
    // A view of the system's tables, under their name, that would run as the owner of the functions.
    let trap = "CREATE FUNCTION pg_temp.trap() RETURNS xid LANGUAGE plpgsql AS \
                $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$; \
                CREATE TEMPORARY VIEW pg_class AS SELECT c.oid, c.relname, c.relnamespace, pg_temp.trap() AS relfrozenxid \
                FROM pg_catalog.pg_class c; \
                CREATE TEMPORARY TABLE events (LIKE events); CREATE TEMPORARY TABLE leases (LIKE leases)";
    running.batch_execute(trap).await.unwrap();
    let schema = marvin::postgres::subjects_schema(&database.instance);
    let scrub = format!("SELECT \"{schema}\".scrub('sessions', pg_current_xact_id())");
    running.batch_execute(&scrub).await.unwrap();
    let nothing = "SELECT * FROM append_events('{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}')";
    running.batch_execute(nothing).await.unwrap();
    let paths = "SELECT proname::text FROM pg_proc WHERE pronamespace::regnamespace::text = ANY ($1) \
                 AND NOT coalesce(proconfig::text LIKE '%, pg_catalog, pg_temp%', false)";
    let schemas = [database.instance.clone(), schema];
    let open = database.stranger().await.query(paths, &[&schemas.as_slice()]).await.unwrap();
    assert!(open.is_empty(), "{} functions look into a session's own things first", open.len());
}

#[tokio::test]
async fn only_the_running_program_and_the_owner_may_run_the_functions() {
    let database = Database::shared();
    drop(database.prepare().await);
    let schemas = [database.instance.clone(), marvin::postgres::subjects_schema(&database.instance)];
    let public = "SELECT count(*) FROM pg_proc WHERE pronamespace::regnamespace::text = ANY ($1) \
                  AND has_function_privilege('public', oid, 'EXECUTE')";
    let open = database.stranger().await.query_one(public, &[&schemas.as_slice()]).await.unwrap();
    assert_eq!(open.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn rights_that_a_restored_dump_lacks_are_given_again_at_the_start() {
    let subject = Adapter::Postgres.log().await;
    subject.log.append(append(stream(), 0, 1)).await.unwrap();
    let (stranger, role) = (subject.database().stranger().await, format!("{}_app", subject.database().instance));
    for schema in [subject.database().instance.clone(), marvin::postgres::subjects_schema(&subject.database().instance)]
    {
        let revoke = format!(
            "REVOKE ALL ON SCHEMA {schema} FROM {role}; REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}; \
             REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM {role}"
        );
        stranger.batch_execute(&revoke).await.unwrap();
    }
    let subject = subject.reopen().await;
    assert_eq!(subject.log.append(append(stream(), 0, 1)).await.unwrap().position, 2);
    let table = format!("{}.subjects", marvin::postgres::subjects_schema(&subject.database().instance));
    let granted = stranger.query_one("SELECT has_table_privilege($1, $2, 'DELETE')", &[&role, &table]).await.unwrap();
    assert!(granted.get::<_, bool>(0));
}
