//! A rotation on SQLite: cut short at every step, with others at work, and what the files keep of the old key's wrapping.
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::tests::{contents, file, stands_in};
use super::*;
use crate::security::cipher::KEY_BYTES;
use crate::security::keyfile::{MasterKey, WrapError};
use crate::security::subjects::samples::{NOW_MS, user};

/// Several pages of rows, the last one not full.
const PEOPLE: u128 = 600;

fn key_file(dir: &TempDir) -> PathBuf {
    dir.path().join("master.key")
}

fn load(dir: &TempDir) -> Arc<MasterKey> {
    Arc::new(MasterKey::load_or_create(&key_file(dir), true).unwrap())
}

async fn open(dir: &TempDir) -> (SqliteSubjects, Arc<MasterKey>) {
    let key = load(dir);
    (SqliteSubjects::open(&file(dir), key.clone()).await.unwrap(), key)
}

async fn empty_store() -> (TempDir, Arc<dyn SubjectStore>, Arc<MasterKey>) {
    let dir = tempfile::tempdir().unwrap();
    let (store, key) = open(&dir).await;
    // What is under test here does not depend on when files are synced.
    store.connection.lock().await.pragma_update(None, "synchronous", "OFF").unwrap();
    (dir, Arc::new(store), key)
}

/// Everything that a rotation must not change, as the raw bytes of keys.
#[derive(PartialEq, Eq)]
struct Keys(Vec<[u8; KEY_BYTES]>);

async fn keys_of(store: &dyn SubjectStore) -> Keys {
    let ids: Vec<Uuid> = (1..=PEOPLE).map(user).collect();
    let people = store.keys(&ids).await.unwrap();
    assert_eq!(people.len(), ids.len());
    let people = ids.iter().map(|id| *people[id].expose());
    Keys([*store.facts_key().expose(), store.hmac("a", b"data")].into_iter().chain(people).collect())
}

/// A closed store with people, and its keys.
async fn peopled() -> (TempDir, Keys) {
    let (dir, store, _) = empty_store().await;
    for n in 1..=PEOPLE {
        store.register(user(n), &format!("user{n}@example.org"), NOW_MS).await.unwrap();
    }
    let keys = keys_of(&*store).await;
    store.close().await.unwrap();
    (dir, keys)
}

fn copy(dir: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["subjects.db", "master.key"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn first_line(dir: &TempDir) -> String {
    fs::read_to_string(key_file(dir)).unwrap().lines().next().unwrap().to_owned()
}

const STEPS: usize = 7;

/// The steps of a rotation in their order, up to `count` of them.
async fn rotate_steps(store: &SqliteSubjects, key: &MasterKey, count: usize) {
    let mut after = None;
    for step in 0..count {
        match step {
            0 => key.begin_rotation().unwrap(),
            1 => assert_eq!(rewrap::instance_keys(&store.keyring, store).await.unwrap(), 2),
            2..=4 => {
                let (found, last) = rewrap::page(&store.keyring, store, after).await.unwrap();
                assert!(found > 0);
                after = last;
            }
            5 => assert!(store.run(|connection| statements::scrub(connection)).await.unwrap()),
            _ => key.end_rotation().unwrap(),
        }
    }
    if count > 4 {
        assert_eq!(rewrap::page(&store.keyring, store, after).await.unwrap(), (0, None), "those steps are all");
    }
}

#[tokio::test]
async fn a_rotation_cut_short_after_any_step_opens_everything_and_is_finished_by_the_next() {
    let (whole, keys) = peopled().await;
    for count in 0..=STEPS {
        let dir = copy(&whole);
        let (store, key) = open(&dir).await;
        rotate_steps(&store, &key, count).await;
        let begun = first_line(&dir);
        drop((store, key));
        let (store, key) = open(&dir).await;
        assert!(keys_of(&store).await == keys, "after {count} steps");
        key.begin_rotation().unwrap();
        store.rewrap().await.unwrap();
        key.end_rotation().unwrap();
        drop((store, key));
        if (1..STEPS).contains(&count) {
            assert_eq!(first_line(&dir), begun, "after {count} steps no further key is drawn");
        }
        let (store, _) = open(&dir).await;
        assert!(keys_of(&store).await == keys, "finished after {count} steps");
        drop(store);
        fs::copy(key_file(&whole), key_file(&dir)).unwrap();
        let refused = SqliteSubjects::open(&file(&dir), load(&dir)).await.unwrap_err();
        assert!(matches!(refused, SubjectsError::WrongKey(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn the_old_key_alone_is_refused_at_the_start_as_soon_as_a_row_needs_the_new_one() {
    let (whole, _) = peopled().await;
    for count in 2..=STEPS {
        let dir = copy(&whole);
        let (store, key) = open(&dir).await;
        rotate_steps(&store, &key, count).await;
        drop((store, key));
        fs::copy(key_file(&whole), key_file(&dir)).unwrap();
        let refused = SqliteSubjects::open(&file(&dir), load(&dir)).await.unwrap_err();
        assert!(matches!(refused, SubjectsError::WrongKey(_)), "after {count} steps: {refused:?}");
    }
}

async fn wrapped_keys(store: &SqliteSubjects) -> Vec<Vec<u8>> {
    let instance = store.run(|connection| statements::instance_keys(connection)).await.unwrap();
    let people = store.run(|connection| statements::wrapped_page(connection, None, 10_000)).await.unwrap();
    assert_eq!(people.len() as u128, PEOPLE);
    instance.into_iter().map(|key| key.wrapped).chain(people.into_iter().map(|(_, wrapped)| wrapped)).collect()
}

#[tokio::test]
async fn no_file_keeps_a_key_that_was_wrapped_under_the_old_one() {
    let (dir, keys) = peopled().await;
    let (store, key) = open(&dir).await;
    let old = wrapped_keys(&store).await;
    let files = contents(&dir);
    assert!(old.iter().all(|wrapped| stands_in(&files, wrapped)), "the scan finds what is there");
    key.begin_rotation().unwrap();
    store.rewrap().await.unwrap();
    let files = contents(&dir);
    for (index, wrapped) in old.iter().enumerate() {
        // Also the ciphertext alone: a page may keep the end of a row.
        assert!(!stands_in(&files, &wrapped[wrapped.len() - KEY_BYTES..]), "wrapped key {index}");
    }
    assert!(wrapped_keys(&store).await.iter().all(|wrapped| stands_in(&files, wrapped)));
    assert!(keys_of(&store).await == keys);
}

#[tokio::test]
async fn a_key_that_does_not_unwrap_stops_the_rotation_and_nothing_is_lost() {
    let (dir, _) = peopled().await;
    fs::copy(key_file(&dir), dir.path().join("old.key")).unwrap();
    let last_byte = "cast(substr(wrapped_key, 1, length(wrapped_key) - 1) || 'x' AS BLOB)";
    let first_row = "user_id = (SELECT min(user_id) FROM subjects)";
    let alter = format!("UPDATE subjects SET wrapped_key = {last_byte} WHERE {first_row}");
    Connection::open(file(&dir)).unwrap().execute_batch(&alter).unwrap();
    let (store, key) = open(&dir).await;
    key.begin_rotation().unwrap();
    for _ in 0..2 {
        let refused = store.rewrap().await.unwrap_err();
        assert!(matches!(&refused, SubjectsError::Damaged { detail, .. } if detail.contains(&user(1).to_string())));
    }
    drop((store, key));
    let old = Arc::new(MasterKey::load_or_create(&dir.path().join("old.key"), false).unwrap());
    let refused = SqliteSubjects::open(&file(&dir), old).await.unwrap_err();
    assert!(
        matches!(refused, SubjectsError::WrongKey(_)),
        "the keys of the instance were rewrapped first: {refused:?}"
    );
    let (store, _) = open(&dir).await;
    let others: Vec<Uuid> = (2..=PEOPLE).map(user).collect();
    assert_eq!(store.keys(&others).await.unwrap().len(), others.len());
}

/// A registration that wrapped its key and waits for its turn when a rotation begins.
#[tokio::test]
async fn a_registration_under_way_is_kept_under_the_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let (store, key) = open(&dir).await;
    let store = Arc::new(store);
    let turn = store.connection.lock().await;
    let registering = tokio::spawn({
        let store = store.clone();
        async move { store.register(user(1), "ada@example.org", NOW_MS).await }
    });
    // On this single thread it now runs up to where it waits.
    tokio::task::yield_now().await;
    key.begin_rotation().unwrap();
    drop(turn);
    registering.await.unwrap().unwrap();
    let row = store.run(|connection| statements::wrapped_keys(connection, &[user(1)])).await.unwrap();
    assert!(key.is_current(&row[0].1));
}

/// Stops at its first unwrapping until it is let go.
#[derive(Debug)]
struct Halting {
    key: Arc<MasterKey>,
    halts: AtomicBool,
    reached: Semaphore,
    go_on: Semaphore,
}

#[async_trait]
impl KeyWrap for Halting {
    async fn wrap_key(&self, context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError> {
        self.key.wrap_key(context, key).await
    }

    async fn unwrap_key(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, WrapError> {
        if self.halts.swap(false, Ordering::SeqCst) {
            self.reached.add_permits(1);
            self.go_on.acquire().await.unwrap().forget();
        }
        self.key.unwrap_key(context, wrapped).await
    }

    async fn wrap_like(&self, like: &[u8], context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError> {
        self.key.wrap_like(like, context, key).await
    }

    fn is_current(&self, wrapped: &[u8]) -> bool {
        self.key.is_current(wrapped)
    }

    async fn look_for(&self, wrapped: &[u8]) -> bool {
        self.key.look_for(wrapped).await
    }

    async fn reread_for(&self, wrapped: &[u8]) -> bool {
        self.key.reread_for(wrapped).await
    }
}

/// Somebody read a row that stands under the old key; before they unwrap it, the rotation is over.
#[tokio::test]
async fn a_reading_under_way_survives_the_end_of_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let key = load(&dir);
    let halts = AtomicBool::new(false);
    let wrap = Arc::new(Halting { key: key.clone(), halts, reached: Semaphore::new(0), go_on: Semaphore::new(0) });
    let store = Arc::new(SqliteSubjects::open(&file(&dir), wrap.clone()).await.unwrap());
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    wrap.halts.store(true, Ordering::SeqCst);
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.keys(&[user(1)]).await }
    });
    wrap.reached.acquire().await.unwrap().forget();
    key.begin_rotation().unwrap();
    assert_eq!(store.rewrap().await.unwrap(), 3);
    key.end_rotation().unwrap();
    wrap.go_on.add_permits(1);
    assert_eq!(reading.await.unwrap().unwrap().len(), 1);
}
