//! One writer a table: whoever took over last writes, and begins where the one before got to.
use super::{Adapter, Subject, TOKEN, VIEW, at, document};
use futures_util::future::join;
use marvin::views::{State, Stopped, ViewError};
use rstest::rstest;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn an_older_token_neither_stores_nor_stops_nor_makes_live(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let store = &subject.store;
    let table = subject.begun(VIEW).await;
    subject.put(&table, vec![document(1, "a", 1)], 5).await;
    assert_eq!(store.take_over(&table, TOKEN + 1).await.unwrap(), at(5), "what the one before wrote last");
    let stopped = Stopped { position: 6, reason: "late".into() };
    for token in [0, TOKEN, TOKEN + 2] {
        let fenced = |outcome: Option<ViewError>| assert!(matches!(outcome, Some(ViewError::Fenced)), "{outcome:?}");
        fenced(store.store(&table, vec![document(1, "late", 2)], at(6), token).await.err());
        fenced(store.stop(&table, token, stopped.clone()).await.err());
        fenced(store.make_live(&table, token).await.err());
        if token <= TOKEN {
            fenced(store.take_over(&table, token).await.err());
        }
    }
    let row = subject.row(&table).await.unwrap();
    assert_eq!((row.state, row.checkpoint, row.token, row.stopped), (State::Building, at(5), TOKEN + 1, None));
    assert_eq!(subject.all(&table).await, [document(1, "a", 1)]);
    assert_eq!(store.take_over(&table, TOKEN + 1).await.unwrap(), at(5), "repeating changes nothing");
    store.store(&table, Vec::new(), at(6), TOKEN + 1).await.unwrap();
}

/// Enough that both find the other in their way.
const ROUNDS: u64 = 30;

/// Two that each believe the table is theirs, one of them rightly: whatever the order, only the newer one's writes stand from its
/// takeover on, and nothing of the older one's is lost that it was told is written.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_projectors_at_once_only_the_newer_ones_writes_stand(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.begun(VIEW).await;
    for round in 1..=ROUNDS {
        let (older, newer) = (TOKEN + 2 * round, TOKEN + 2 * round + 1);
        let start = subject.store.take_over(&table, older).await.unwrap().position;
        let write = |position: u64, rank: i64, token: u64| {
            let documents = vec![document(u128::from(position), "x", rank)];
            let (store, table) = (subject.store.clone(), table.clone());
            let documents =
                documents.into_iter().map(move |document| marvin::views::SealedDocument { position, ..document });
            async move { store.store(&table, documents.collect(), at(position), token).await }
        };
        let (late, (from, ours)) = join(tokio::spawn(write(start + 1, 1, older)), async {
            let from = subject.store.take_over(&table, newer).await.unwrap().position;
            (from, write(from + 1, 2, newer).await)
        })
        .await;
        ours.unwrap();
        match late.unwrap() {
            Ok(()) => assert_eq!(from, start + 1, "it was first, and the takeover saw it"),
            Err(error) => {
                assert!(matches!(error, ViewError::Fenced), "{error}");
                assert_eq!(from, start);
            }
        }
        let row = subject.row(&table).await.unwrap();
        assert_eq!((row.checkpoint, row.token), (at(from + 1), newer));
        let found = subject.store.load(&table, &[super::id(u128::from(from + 1))]).await.unwrap().documents;
        assert_eq!(found[0].keys[1], marvin_projections::Key::Integer(2));
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_write_that_comes_late_changes_nothing_and_sets_no_checkpoint_back(#[case] adapter: Adapter) {
    let subject = adapter.subject().await;
    let table = subject.live(VIEW).await;
    let Subject { store, .. } = &subject;
    subject.put(&table, vec![document(1, "new", 1)], 9).await;
    store.store(&table, vec![document(1, "old", 1), document(2, "old", 1)], at(4), TOKEN).await.unwrap();
    assert_eq!(subject.row(&table).await.unwrap().checkpoint, at(9));
    assert_eq!(subject.all(&table).await, [document(1, "new", 1)]);
}
