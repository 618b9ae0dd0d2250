//! Registrations on every store of subjects: one row an email, one email an id, however many ask at once.
use super::*;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn an_email_is_registered_once(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let first = store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    assert_eq!(first, Registration::Created { user_id: user(1) });
    for candidate in [user(2), user(1)] {
        let again = store.register(candidate, "ada@example.org", NOW_MS).await.unwrap();
        assert_eq!(again, Registration::Existing { user_id: user(1) });
    }
    assert!(store.keys(&[user(2)]).await.unwrap().is_empty());
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn an_id_is_registered_for_one_email(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let ada = registered(&*store, 1).await;
    assert!(store.register(ada, "other@example.org", NOW_MS).await.is_err());
    assert_eq!(store.user_by_email("user1@example.org").await.unwrap(), Some(ada));
    assert_eq!(store.user_by_email("other@example.org").await.unwrap(), None);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn an_email_is_found_in_any_letter_case(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    store.register(user(1), "  Änne@Example.ORG ", NOW_MS).await.unwrap();
    assert_eq!(store.user_by_email("änne@example.org").await.unwrap(), Some(user(1)));
    assert_eq!(store.user_by_email("anne@example.org").await.unwrap(), None);
    let other_case = store.register(user(2), "ÄNNE@example.org", NOW_MS).await.unwrap();
    assert_eq!(other_case, Registration::Existing { user_id: user(1) });
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn two_registrations_at_once_get_one_row(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let (one, two) = tokio::join!(
        store.register(user(1), "ada@example.org", NOW_MS),
        store.register(user(2), "ada@example.org", NOW_MS),
    );
    let answers = [one.unwrap(), two.unwrap()];
    let owner = store.user_by_email("ada@example.org").await.unwrap().unwrap();
    assert!(answers.contains(&Registration::Created { user_id: owner }), "{answers:?}");
    assert!(answers.contains(&Registration::Existing { user_id: owner }), "{answers:?}");
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_persons_key_stays_the_same(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let ids = [registered(&*store, 1).await, registered(&*store, 2).await, user(3)];
    let keys = store.keys(&ids).await.unwrap();
    assert_eq!((keys.len(), keys[&ids[0]].id), (2, ids[0]));
    let sealed = cipher::seal(Suite::default(), &keys[&ids[0]], b"", b"", b"words");
    let again = store.keys(&ids).await.unwrap();
    assert_eq!(cipher::open(&again[&ids[0]], b"", b"", &sealed).unwrap(), b"words");
    assert_ne!(print(&keys[&ids[0]]), print(&keys[&ids[1]]));
}

/// Registrations of one email at the same time.
const RIVALS: u128 = 32;
/// The first ones find no connection ready, and so hardly meet.
const ROUNDS: u128 = 8;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_registrations_at_once_one_makes_the_row_and_all_name_it(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    for round in 0..ROUNDS {
        let email = format!("user{round}@example.org");
        let register = |n: u128| {
            let (store, email) = (subject.nodes[(n % 2) as usize].clone(), email.clone());
            tokio::spawn(async move { store.register(user(1000 * round + n), &email, NOW_MS).await.unwrap() })
        };
        let answers: Vec<_> = join_all((0..RIVALS).map(register)).await.into_iter().map(Result::unwrap).collect();
        let owner = subject.nodes[0].user_by_email(&email).await.unwrap().unwrap();
        let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count() as u128;
        assert_eq!(count(Registration::Created { user_id: owner }), 1);
        assert_eq!(count(Registration::Existing { user_id: owner }), RIVALS - 1);
    }
}

/// A registration that was killed before its event: the next one is told whose row stands there, and has its key.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_registration_cut_short_is_adopted_with_its_key(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let [dead, next] = &subject.nodes;
    dead.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    let left = dead.keys(&[user(1)]).await.unwrap();
    let found = next.register(user(2), "ada@example.org", NOW_MS).await.unwrap();
    assert_eq!(found, Registration::Existing { user_id: user(1) });
    assert_eq!(print(&next.keys(&[user(1)]).await.unwrap()[&user(1)]), print(&left[&user(1)]));
}
