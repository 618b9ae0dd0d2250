//! What every store of subjects promises: one row an email, keys that stay until they are erased, and what hangs on a person.
use futures_util::future::join_all;
use marvin::security::{
    cipher::{self, DataKey, MAC_BYTES, Suite},
    keyfile::MasterKey,
    subjects::{
        Checkpoint, Credential, HASH_BYTES, PostgresSubjects, Registration, SessionRow, SqliteSubjects, SubjectStore,
        SubjectsError,
    },
};
use rstest::rstest;
use std::sync::Arc;
use uuid::Uuid;

use super::postgres::Database;

mod erasure;
mod opening;
mod rotation;

enum Adapter {
    Sqlite,
    Postgres,
}

/// An empty store, as two nodes see it. A file has one process, so there both are the same.
struct Subject {
    _directory: tempfile::TempDir,
    key: Arc<MasterKey>,
    nodes: [Arc<dyn SubjectStore>; 2],
}

impl Adapter {
    async fn subjects(&self) -> Subject {
        let directory = tempfile::tempdir().unwrap();
        let key = master(&directory, "master.key");
        let nodes: [Arc<dyn SubjectStore>; 2] = match self {
            Self::Sqlite => {
                let path = directory.path().join("subjects.db");
                let store = Arc::new(SqliteSubjects::open(&path, key.clone()).await.unwrap());
                [store.clone(), store]
            }
            Self::Postgres => {
                let database = Database::shared();
                [Arc::new(node(&database, &key).await.unwrap()), Arc::new(node(&database, &key).await.unwrap())]
            }
        };
        Subject { _directory: directory, key, nodes }
    }
}

fn master(directory: &tempfile::TempDir, name: &str) -> Arc<MasterKey> {
    Arc::new(MasterKey::load_or_create(&directory.path().join(name), true).unwrap())
}

/// What a node does at its start.
async fn node(database: &Database, key: &Arc<MasterKey>) -> Result<PostgresSubjects, SubjectsError> {
    PostgresSubjects::open(database.prepare().await, key.clone(), true).await
}

/// Tells keys apart without showing them.
fn print(key: &DataKey) -> [u8; MAC_BYTES] {
    key.mac("print", b"")
}

/// A moment; the store has no clock of its own.
const NOW_MS: i64 = 1_790_000_000_000;

fn user(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn session(n: u8, user_id: Uuid) -> SessionRow {
    SessionRow {
        id: Uuid::from_u128(1000 + u128::from(n)),
        user_id,
        token_hash: [n; HASH_BYTES],
        created_at_ms: NOW_MS + i64::from(n),
        expires_at_ms: NOW_MS + 1000 * i64::from(n),
    }
}

fn credential(n: u128, user_id: Uuid) -> Credential {
    Credential { id: Uuid::from_u128(2000 + n), user_id, phc: format!("$argon2id${n}"), created_at_ms: NOW_MS }
}

async fn registered(store: &dyn SubjectStore, n: u128) -> Uuid {
    store.register(user(n), &format!("user{n}@example.org"), NOW_MS).await.unwrap();
    user(n)
}

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
    store.forget(ada).await.unwrap();
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
    store.forget(ada).await.unwrap();
    assert_eq!(store.keys(&[bob]).await.unwrap().len(), 1);
    assert_eq!(store.user_by_email("user2@example.org").await.unwrap(), Some(bob));
    assert_eq!(store.credential(credential(2, bob).id).await.unwrap(), Some(credential(2, bob)));
    assert_eq!(store.sessions_of(bob).await.unwrap(), [session(2, bob)]);
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
        store.forget(ada).await.unwrap();
    }
    store.forget(user(9)).await.unwrap();
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
    store.forget(ada).await.unwrap();
    let again = store.register(ada, "user1@example.org", NOW_MS).await.unwrap();
    assert_eq!(again, Registration::Created { user_id: ada });
    let new = store.keys(&[ada]).await.unwrap();
    assert_ne!(print(&old[&ada]), print(&new[&ada]));
}

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

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_checkpoint_is_the_last_one_put(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    assert_eq!(store.checkpoint("erasure").await.unwrap(), None);
    for position in [3, 7] {
        let checkpoint = Checkpoint { position, event_id: user(position.into()) };
        store.put_checkpoint("erasure", checkpoint).await.unwrap();
        assert_eq!(store.checkpoint("erasure").await.unwrap(), Some(checkpoint));
    }
    assert_eq!(store.checkpoint("other").await.unwrap(), None);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn macs_depend_on_their_label(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let store = subject.nodes[0].clone();
    assert_eq!(store.hmac("a", b"data"), store.hmac("a", b"data"));
    assert_ne!(store.hmac("a", b"data"), store.hmac("b", b"data"));
}

/// More people than any adapter takes in one batch.
const CROWD: u128 = 600;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_rotation_changes_no_key_and_leaves_none_under_the_old_one(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let (store, key) = (subject.nodes[0].clone(), &subject.key);
    let mut people = Vec::new();
    for n in 1..=CROWD {
        people.push(registered(&*store, n).await);
    }
    let (facts, mac) = (store.facts_key(), store.hmac("a", b"data"));
    let before = store.keys(&people).await.unwrap();
    key.begin_rotation().unwrap();
    let late = registered(&*store, CROWD + 1).await;
    store.forget(people[0]).await.unwrap();
    // In a file there is nobody else: who comes late is under the new key at once. Nodes go by the rows, which are old yet.
    let late_too = u128::from(matches!(adapter, Adapter::Postgres));
    // Everyone who was there and was not forgotten, and the two keys of the instance.
    assert_eq!(store.rewrap().await.unwrap(), u64::try_from(CROWD - 1 + 2 + late_too).unwrap());
    key.end_rotation().unwrap();
    let after = store.keys(&people).await.unwrap();
    assert_eq!(after.len(), people.len() - 1);
    assert!(after.iter().all(|(id, key)| print(key) == print(&before[id])));
    assert_eq!(store.keys(&[late]).await.unwrap().len(), 1);
    assert_eq!((print(&store.facts_key()), store.hmac("a", b"data")), (print(&facts), mac));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_rewrapping_repeated_finds_nothing(#[case] adapter: Adapter) {
    let subject = adapter.subjects().await;
    let (store, key) = (subject.nodes[0].clone(), &subject.key);
    registered(&*store, 1).await;
    assert_eq!(store.rewrap().await.unwrap(), 0, "all is under the current key");
    key.begin_rotation().unwrap();
    assert_eq!(store.rewrap().await.unwrap(), 3);
    assert_eq!(store.rewrap().await.unwrap(), 0);
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
