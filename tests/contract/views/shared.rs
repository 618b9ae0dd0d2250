//! What is asked of a store that several nodes share, and of the server that it is on.
use super::{Adapter, BTreeSet, NEXT, Place, Subject, TOKEN, VIEW, at, document, id};
use crate::wait::eventually;
use futures_util::future::join_all;
use marvin::views::{SealedDocument, State, ViewError, ViewStore, postgres::PostgresViews};
use std::sync::Arc;

impl Subject {
    fn database(&self) -> &super::Database {
        match &self.at {
            Place::Database(database) => database,
            Place::Directory(_) => unreachable!("it is in a database"),
        }
    }

    async fn another_node(&self) -> Arc<PostgresViews> {
        Arc::new(PostgresViews::new(self.database().prepare().await))
    }
}

/// Begun at the same time on two nodes. The first ones find no connection ready, and so hardly meet.
const BEGUN_AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_begin_a_table_at_once_begin_one() {
    let subject = Adapter::Postgres.subject().await;
    let nodes: [Arc<dyn ViewStore>; 2] = [subject.store.clone(), subject.another_node().await];
    for round in 1..=8 {
        let begun = (0..BEGUN_AT_ONCE).map(|number| {
            let (store, view) = (nodes[number % 2].clone(), if number % 4 < 2 { VIEW } else { NEXT });
            tokio::spawn(async move { store.begin(view, 0).await.unwrap().table })
        });
        let begun: Vec<_> = join_all(begun).await.into_iter().map(Result::unwrap).collect();
        let tables: BTreeSet<_> = begun.iter().map(ToString::to_string).collect();
        assert_eq!(tables, [1, 2].map(|version| format!("view_things_{version}_{round}")).into());
        for table in begun {
            subject.store.drop_table(&table).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_node_that_is_cut_off_in_the_middle_of_a_batch_leaves_neither_documents_nor_checkpoint() {
    let subject = Adapter::Postgres.subject().await;
    let table = subject.live(VIEW).await;
    subject.put(&table, vec![document(1, "a", 1), document(5, "a", 1)], 5).await;
    let other = subject.database().views_stranger().await;
    // Somebody has one of the documents: the batch waits for it with all the others written and the checkpoint moved.
    let held = "BEGIN; SELECT FROM view_things_1_1 WHERE id = '00000000-0000-0000-0000-000000000005' FOR UPDATE";
    other.batch_execute(held).await.unwrap();
    let batch: Vec<_> = (1..=5).map(|number| SealedDocument { position: 6, ..document(number, "b", 1) }).collect();
    let (store, to, documents) = (subject.store.clone(), table.clone(), batch.clone());
    let writing = tokio::spawn(async move { store.store(&to, documents, at(6), TOKEN).await });
    let watcher = subject.database().views_stranger().await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    let holder: i32 = other.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    eventually("the batch waits for the document", async || {
        watcher.query_opt(sql, &[&holder]).await.unwrap().map(|row| row.get::<_, bool>(0))
    })
    .await;
    let cut_off = writing.await.unwrap();
    assert!(matches!(cut_off, Err(ViewError::Unavailable(_))), "{cut_off:?}");
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(subject.row(&table).await.unwrap().checkpoint, at(5));
    assert_eq!(subject.all(&table).await, [document(5, "a", 1), document(1, "a", 1)]);
    subject.put(&table, batch, 6).await;
    assert_eq!(subject.store.load(&table, &[id(5)]).await.unwrap().documents[0].position, 6);
}

#[tokio::test]
async fn a_table_that_is_dropped_under_its_readers_and_writers_is_gone() {
    let subject = Adapter::Postgres.subject().await;
    let node = subject.another_node().await;
    let table = subject.live(VIEW).await;
    subject.put(&table, vec![document(1, "a", 1)], 5).await;
    // Both have prepared what they ask.
    subject.store.load(&table, &[id(1)]).await.unwrap();
    node.drop_table(&table).await.unwrap();
    let gone = |outcome: Option<ViewError>| assert!(matches!(outcome, Some(ViewError::Gone)), "{outcome:?}");
    gone(subject.store.load(&table, &[id(1)]).await.err());
    gone(subject.store.store(&table, vec![document(1, "a", 1)], at(6), TOKEN).await.err());
    // By hand, and so with its line left behind.
    let table = subject.live(VIEW).await;
    subject.put(&table, Vec::new(), 5).await;
    subject.tamper("", "DROP TABLE view_things_1_2").await;
    gone(subject.store.load(&table, &[id(1)]).await.err());
    gone(subject.store.store(&table, vec![document(1, "a", 1)], at(6), TOKEN).await.err());
    subject.store.drop_table(&table).await.unwrap();
}

#[tokio::test]
async fn what_another_node_dropped_leaves_nothing_prepared_behind() {
    let subject = Adapter::Postgres.subject().await;
    let (table, other) = (subject.live(VIEW).await, subject.live(NEXT).await);
    let postgres = subject.database().prepare().await;
    let node = PostgresViews::new(postgres.clone());
    node.tables().await.unwrap();
    // One after the other, so that all of it is prepared on the same connection.
    for read in [&table, &other] {
        node.load(read, &[id(1)]).await.unwrap();
    }
    let prepared = async |name: &str| {
        let sql = "SELECT count(*) FROM pg_prepared_statements WHERE strpos(statement, $1) > 0";
        postgres.query(sql, &[&name]).await.unwrap()[0].get::<_, i64>(0)
    };
    assert_eq!((prepared("view_things_1_1").await, prepared("view_things_2_1").await), (1, 1));
    node.tables().await.unwrap();
    assert_eq!(prepared("view_things_2_1").await, 1, "it stays while no table is dropped");
    subject.store.drop_table(&table).await.unwrap();
    node.tables().await.unwrap();
    assert_eq!(prepared("view_things_1_1").await, 0);
    node.load(&other, &[id(1)]).await.unwrap();
}

#[tokio::test]
async fn a_start_gives_the_runtime_back_what_a_restore_left_out() {
    let subject = Adapter::Postgres.subject().await;
    let table = subject.live(VIEW).await;
    subject.put(&table, vec![document(1, "a", 1)], 5).await;
    let (schema, role) =
        (format!("{}_views", subject.database().instance), format!("{}_app", subject.database().instance));
    for lost in [
        format!("REVOKE CREATE ON SCHEMA {schema} FROM {role}"),
        format!("REVOKE USAGE ON SCHEMA {schema} FROM {role}"),
        format!("REVOKE ALL ON tables, builds, notes FROM {role}"),
        format!("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM {role}"),
        format!("ALTER TABLE view_things_1_1 OWNER TO CURRENT_USER; GRANT ALL ON view_things_1_1 TO {role}"),
    ] {
        subject.tamper("", &lost).await;
        let node = subject.another_node().await;
        let rebuilt = node.begin(VIEW, 0).await.expect(&lost).table;
        node.take_over(&rebuilt, TOKEN).await.expect(&lost);
        node.drop_table(&rebuilt).await.expect(&lost);
        let live = node.tables().await.unwrap();
        assert_eq!(live[0].state, State::Live, "{lost}");
        node.make_live(&table, TOKEN).await.expect(&lost);
    }
    let node = subject.another_node().await;
    node.drop_table(&table).await.unwrap();
}

/// The longest name of a projection, for which PostgreSQL takes the longest name of a table as it is.
const NAME_BYTES_MAX: usize = 63 - "view__4294967295_4294967295".len();

#[test]
fn every_projections_tables_have_names_that_fit() {
    for fold in marvin_projections::all() {
        assert!(fold.name().len() <= NAME_BYTES_MAX, "{}", fold.name());
    }
}
