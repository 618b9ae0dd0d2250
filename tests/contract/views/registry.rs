//! A table's life: begun once, live in its predecessor's place, retired, cancelled and taken up again, dropped.
use super::{Adapter, FIELDS, NEXT, Subject, TOKEN, VIEW, at, document, newest};
use marvin::{
    log::checkpoint::Checkpoint,
    views::{State, Stopped, TableRow, ViewError},
};
use rstest::rstest;
use std::time::Duration;

fn named(name: &str, state: State) -> (String, State) {
    (name.to_owned(), state)
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_table_begins_empty_and_is_begun_once(#[case] adapter: Adapter) {
    let Subject { store, .. } = &adapter.subject().await;
    assert_eq!(store.tables().await.unwrap(), []);
    let before = chrono::Utc::now();
    let first = store.begin(VIEW, 40).await.unwrap();
    let TableRow { table, state, checkpoint, token, stopped, begun_at, target, unread_for } = first.clone();
    assert_eq!((table.name.as_str(), table.version, table.build, &*table.fields), ("things", 1, 1, FIELDS));
    assert_eq!(table.to_string(), "view_things_1_1");
    assert_eq!((state, checkpoint, token, stopped, target), (State::Building, Checkpoint::START, 0, None, 40));
    let minute = chrono::TimeDelta::minutes(1);
    assert!(before - minute < begun_at && begun_at < chrono::Utc::now() + minute);
    assert!(unread_for < Duration::from_secs(60));
    let again = store.begin(VIEW, 90).await.unwrap();
    assert_eq!((&again.table, again.target), (&table, 40), "the one that is being built");
    assert_eq!(store.tables().await.unwrap().len(), 1);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_built_table_takes_the_place_of_the_one_of_its_version_and_of_no_other(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let (first, next) = (subject.live(VIEW).await, subject.live(NEXT).await);
    subject.put(&first, vec![document(1, "a", 1)], 5).await;
    let second = subject.begun(VIEW).await;
    assert_eq!((second.build, subject.all(&second).await), (2, vec![]));
    subject.put(&second, vec![document(2, "b", 1)], 6).await;
    assert_eq!(subject.all(&first).await, [document(1, "a", 1)], "builds stand side by side");
    subject.store.make_live(&second, TOKEN).await.unwrap();
    subject.store.make_live(&second, TOKEN).await.unwrap();
    let expected = [
        named("view_things_1_1", State::Retired),
        named("view_things_1_2", State::Live),
        named("view_things_2_1", State::Live),
    ];
    assert_eq!(subject.states().await, expected);
    assert_eq!(subject.all(&first).await, [document(1, "a", 1)], "whoever reads it yet may finish");
    let late = subject.store.store(&first, vec![document(3, "c", 1)], at(7), TOKEN).await;
    assert!(matches!(late, Err(ViewError::Gone)), "{late:?}");
    assert!(matches!(subject.store.take_over(&first, 99).await, Err(ViewError::Gone)));
    subject.put(&next, Vec::new(), 9).await;
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_cancelled_table_is_written_by_nobody_until_it_is_taken_up_where_it_stood(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let store = &subject.store;
    let live = subject.live(VIEW).await;
    assert!(matches!(store.cancel(&live).await, Err(ViewError::Gone)), "what is live is not being built");
    let rebuilt = subject.begun(VIEW).await;
    subject.put(&rebuilt, vec![document(1, "a", 1)], 5).await;
    store.cancel(&rebuilt).await.unwrap();
    assert_eq!(subject.row(&rebuilt).await.unwrap().state, State::Cancelled);
    assert!(matches!(store.store(&rebuilt, Vec::new(), at(6), TOKEN).await, Err(ViewError::Gone)));
    assert!(matches!(store.make_live(&rebuilt, TOKEN).await, Err(ViewError::Gone)));
    assert!(matches!(store.cancel(&rebuilt).await, Err(ViewError::Gone)));
    let again = store.begin(VIEW, 70).await.unwrap();
    assert_eq!((&again.table, again.state, again.checkpoint, again.target), (&rebuilt, State::Building, at(5), 70));
    assert_eq!(store.take_over(&rebuilt, TOKEN + 1).await.unwrap(), at(5));
    assert_eq!(subject.all(&rebuilt).await, [document(1, "a", 1)]);
    store.make_live(&rebuilt, TOKEN + 1).await.unwrap();
    assert_eq!(subject.row(&live).await.unwrap().state, State::Retired);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_dropped_table_is_gone_and_its_number_is_not_used_again(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let store = &subject.store;
    let table = subject.live(VIEW).await;
    subject.put(&table, vec![document(1, "a", 1)], 5).await;
    for _ in 0..2 {
        store.drop_table(&table).await.unwrap();
        assert_eq!(store.tables().await.unwrap(), []);
    }
    let gone = |outcome: Option<ViewError>| assert!(matches!(outcome, Some(ViewError::Gone)), "{outcome:?}");
    gone(store.load(&table, &[]).await.err());
    gone(store.list(&table, newest(Vec::new(), None, 1)).await.err());
    gone(store.find(&table, newest(Vec::new(), None, 1)).await.err());
    gone(store.take_over(&table, TOKEN).await.err());
    gone(store.store(&table, vec![document(1, "a", 1)], at(6), TOKEN).await.err());
    gone(store.make_live(&table, TOKEN).await.err());
    gone(store.stop(&table, TOKEN, Stopped { position: 6, reason: String::new() }).await.err());
    gone(store.resume(&table).await.err());
    gone(store.cancel(&table).await.err());
    assert_eq!(store.begin(VIEW, 0).await.unwrap().table.build, 2);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_stopped_a_table_stands_in_the_registry_until_it_is_resumed(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    subject.put(&table, Vec::new(), 5).await;
    let stopped = Stopped { position: 6, reason: "it's \"bad\"; --".into() };
    subject.store.stop(&table, TOKEN, stopped.clone()).await.unwrap();
    let row = subject.row(&table).await.unwrap();
    assert_eq!((row.state, row.checkpoint, row.stopped), (State::Live, at(5), Some(stopped)));
    for _ in 0..2 {
        subject.store.resume(&table).await.unwrap();
        assert_eq!(subject.row(&table).await.unwrap().stopped, None);
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_table_is_unread_for_the_time_in_which_somebody_was_there(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let (read, unread) = (subject.live(VIEW).await, subject.live(NEXT).await);
    subject.store.read_by_now(&[read.clone(), unread.clone()]).await.unwrap();
    let passes = async |table: &str, moment: &str, minutes: u32| {
        let sqlite = format!("UPDATE {table} SET {moment} = {moment} - {}", minutes * 60_000);
        let postgres = format!("UPDATE {table} SET {moment} = {moment} - interval '{minutes} minutes'");
        subject.tamper(&sqlite, &postgres).await;
    };
    let minutes = async |table| subject.row(table).await.unwrap().unread_for.as_secs() / 60;
    for _ in 0..3 {
        passes("tables", "read_at", 4).await;
        passes("notes", "noted_at", 4).await;
        subject.store.read_by_now(std::slice::from_ref(&read)).await.unwrap();
    }
    assert_eq!((minutes(&read).await, minutes(&unread).await), (0, 12), "a few notes may be lost");
    passes("tables", "read_at", 10_000).await;
    passes("notes", "noted_at", 10_000).await;
    subject.put(&unread, Vec::new(), 5).await;
    assert_eq!(
        (minutes(&read).await, minutes(&unread).await),
        (10_000, 10_012),
        "nobody has said yet that they are there"
    );
    for _ in 0..2 {
        subject.store.read_by_now(&[]).await.unwrap();
        assert_eq!((minutes(&read).await, minutes(&unread).await), (0, 12));
    }
}
