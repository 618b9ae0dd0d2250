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

mod attached;
mod erasure;
mod forgetting;
mod opening;
mod registering;
mod rotation;
mod scrubbing;
mod secrets;

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

/// What an erasure comes to when nothing holds it up.
async fn erase(store: &dyn SubjectStore, people: &[Uuid]) {
    let forgotten = store.forget(people).await.unwrap();
    store.scrub(forgotten).await.unwrap();
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
    erase(&*store, &people[..1]).await;
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
