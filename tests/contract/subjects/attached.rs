//! What hangs on a person in every store of subjects: credentials and sessions.
use super::*;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn nothing_attaches_to_an_unknown_person(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let nobody = user(9);
    let credential = store.put_credential(credential(1, nobody)).await;
    assert!(matches!(credential, Err(SubjectsError::UnknownUser(id)) if id == nobody));
    let session = store.create_session(session(1, nobody)).await;
    assert!(matches!(session, Err(SubjectsError::UnknownUser(id)) if id == nobody));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_credential_may_be_replaced_by_its_owner_only(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    store.put_credential(credential(1, ada)).await.unwrap();
    let stronger = Credential { phc: "$argon2id$stronger".into(), ..credential(1, ada) };
    store.put_credential(stronger.clone()).await.unwrap();
    assert!(store.put_credential(credential(1, bob)).await.is_err());
    assert_eq!(store.credential(stronger.id).await.unwrap(), Some(stronger));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_password_change_drops_the_other_credentials(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    for credential in [credential(1, ada), credential(2, ada), credential(3, bob)] {
        store.put_credential(credential).await.unwrap();
    }
    store.drop_other_credentials(ada, credential(2, ada).id).await.unwrap();
    assert_eq!(store.credential(credential(1, ada).id).await.unwrap(), None);
    assert!(store.credential(credential(2, ada).id).await.unwrap().is_some());
    assert!(store.credential(credential(3, bob).id).await.unwrap().is_some());
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_session_is_found_by_its_token_until_it_ends(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let ada = registered(&*store, 1).await;
    let kept = session(1, ada);
    store.create_session(kept.clone()).await.unwrap();
    assert_eq!(store.session_by_token(&kept.token_hash).await.unwrap(), Some(kept.clone()));
    assert_eq!(store.session_by_token(&[9; HASH_BYTES]).await.unwrap(), None);
    assert_eq!(store.end_session(ada, kept.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(store.session_by_token(&kept.token_hash).await.unwrap(), None);
    assert_eq!(store.end_session(ada, kept.id).await.unwrap(), None);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn only_its_owner_ends_a_session(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    store.create_session(session(1, ada)).await.unwrap();
    assert_eq!(store.end_session(bob, session(1, ada).id).await.unwrap(), None);
    assert_eq!(store.sessions_of(ada).await.unwrap().len(), 1);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn ending_all_sessions_names_each(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    for session in [session(1, ada), session(2, ada), session(3, bob)] {
        store.create_session(session).await.unwrap();
    }
    assert_eq!(store.sessions_of(ada).await.unwrap(), [session(2, ada), session(1, ada)]);
    let mut ended = store.end_sessions_of(ada).await.unwrap();
    ended.sort_by_key(|session| session.id);
    assert_eq!(ended, [session(1, ada), session(2, ada)]);
    assert!(store.sessions_of(ada).await.unwrap().is_empty());
    assert_eq!(store.sessions_of(bob).await.unwrap().len(), 1);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn sessions_are_purged_when_they_expire(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    let ada = registered(&*store, 1).await;
    for n in 1..=3 {
        store.create_session(session(n, ada)).await.unwrap();
    }
    assert_eq!(store.purge_sessions(session(2, ada).expires_at_ms).await.unwrap(), 2);
    assert_eq!(store.sessions_of(ada).await.unwrap(), [session(3, ada)]);
}
