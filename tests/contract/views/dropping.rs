//! Dropping a large table: gone for everyone at once, cleared away behind everybody's back.
use super::{Adapter, NEXT, Place, SealedDocument, Subject, TOKEN, VIEW, at, document, id};
use marvin::views::{State, Table, ViewError, ViewStore, sqlite::SqliteViews};
use rstest::rstest;

/// Enough for many pieces.
const DOCUMENTS: u128 = 20_000;
/// Batches that somebody else writes meanwhile, at the least: a drop in one go lets one or two pass.
const BATCHES_MIN: u64 = 10;

impl Subject {
    async fn large(&self) -> Table {
        let table = self.live(VIEW).await;
        let all = (1..=DOCUMENTS).map(|number| SealedDocument { body: vec![7; 2_000], ..document(number, "a", 1) });
        self.put(&table, all.collect(), 5).await;
        table
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_write_while_a_large_table_is_dropped() {
    let subject = Adapter::Sqlite.subject().await;
    let (large, other) = (subject.large().await, subject.live(NEXT).await);
    let (store, dropped) = (subject.store.clone(), large.clone());
    let dropping = tokio::spawn(async move { store.drop_table(&dropped).await.unwrap() });
    let mut written = 0;
    while !dropping.is_finished() {
        written += 1;
        subject.put(&other, Vec::new(), written).await;
    }
    assert!(written >= BATCHES_MIN, "{written} batches were written");
    assert_eq!(subject.row(&large).await, None);
}

#[rstest]
#[case::before_anything_is_taken_away(0)]
#[case::halfway(DOCUMENTS / 2)]
#[tokio::test]
async fn a_drop_that_a_crash_cut_short_is_not_seen_and_is_finished_by_the_next_start(#[case] taken: u128) {
    let subject = Adapter::Sqlite.subject().await;
    let table = subject.large().await;
    let Place::Directory(directory) = &subject.at else { unreachable!("it is in a file") };
    let path = directory.path().join("views.db");
    subject
        .tamper(
            &format!(
                "UPDATE tables SET state = 'dropped'; \
                 DELETE FROM view_things_1_1 WHERE id <= unhex('{}')",
                id(taken).simple()
            ),
            "",
        )
        .await;
    subject.store.close().await.unwrap();
    let store = SqliteViews::open(&path).unwrap();
    assert_eq!(store.tables().await.unwrap(), []);
    let gone = |outcome: Option<ViewError>| assert!(matches!(outcome, Some(ViewError::Gone)), "{outcome:?}");
    gone(store.load(&table, &[id(DOCUMENTS)]).await.err());
    gone(store.take_over(&table, TOKEN).await.err());
    gone(store.store(&table, Vec::new(), at(6), TOKEN).await.err());
    gone(store.resume(&table).await.err());
    gone(store.cancel(&table).await.err());
    let next = store.begin(VIEW, 0).await.unwrap();
    assert_eq!((next.table.build, next.state), (2, State::Building));
    store.finish_dropping().await.unwrap();
    let tables = "SELECT count(*) FROM sqlite_schema WHERE tbl_name = 'view_things_1_1'";
    let connection = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(connection.query_row(tables, [], |row| row.get::<_, i64>(0)), Ok(0));
    assert_eq!(store.tables().await.unwrap()[0].table, next.table);
}
