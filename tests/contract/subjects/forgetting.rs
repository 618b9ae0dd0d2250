//! Forgetting on every store of subjects: the person is gone with everything, and everyone else stays.
use super::*;
use crate::wait::eventually;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_forgotten_person_is_gone_with_everything(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let ada = registered(&*store, 1).await;
    store.put_credential(credential(1, ada)).await.unwrap();
    store.create_session(session(1, ada)).await.unwrap();
    assert_eq!(store.keys(&[ada]).await.unwrap().len(), 1);
    erase(&*store, &[ada]).await;
    assert!(store.keys(&[ada]).await.unwrap().is_empty());
    assert_eq!(store.user_by_email("user1@example.org").await.unwrap(), None);
    assert_eq!(store.credential(credential(1, ada).id).await.unwrap(), None);
    assert_eq!(store.session_by_token(&session(1, ada).token_hash).await.unwrap(), None);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn forgetting_spares_everyone_else(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    store.put_credential(credential(2, bob)).await.unwrap();
    store.create_session(session(2, bob)).await.unwrap();
    erase(&*store, &[ada]).await;
    assert_eq!(store.keys(&[bob]).await.unwrap().len(), 1);
    assert_eq!(store.user_by_email("user2@example.org").await.unwrap(), Some(bob));
    assert_eq!(store.credential(credential(2, bob).id).await.unwrap(), Some(credential(2, bob)));
    assert_eq!(store.sessions_of(bob).await.unwrap(), [session(2, bob)]);
}

/// A key that a node holds unwrapped is not used for long without a look at its row.
#[tokio::test]
async fn who_is_forgotten_by_one_node_is_soon_forgotten_by_the_others() {
    let subject = Adapter::Postgres.subjects().await;
    let [one, other] = &subject.nodes;
    let ada = registered(&**one, 1).await;
    assert_eq!(other.keys(&[ada]).await.unwrap().len(), 1);
    erase(&**one, &[ada]).await;
    assert!(one.keys(&[ada]).await.unwrap().is_empty(), "where it was done, at once");
    let gone = async || other.keys(&[ada]).await.unwrap().is_empty().then_some(());
    eventually("the other node has let go of the key", gone).await;
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn forgetting_may_be_repeated(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let ada = registered(&*store, 1).await;
    for _ in 0..2 {
        erase(&*store, &[ada]).await;
    }
    erase(&*store, &[user(9)]).await;
    erase(&*store, &[]).await;
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_forgotten_email_is_free_again(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let ada = registered(&*store, 1).await;
    let old = store.keys(&[ada]).await.unwrap();
    erase(&*store, &[ada]).await;
    let again = store.register(ada, "user1@example.org", NOW_MS).await.unwrap();
    assert_eq!(again, Registration::Created { user_id: ada });
    let new = store.keys(&[ada]).await.unwrap();
    assert_ne!(print(&old[&ada]), print(&new[&ada]));
}
