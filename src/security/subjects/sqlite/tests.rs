//! The port's contract on SQLite, and what only files can break: wrong keys, damage, bytes that outlive an erasure.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::security::keyfile::MasterKey;
use crate::security::subjects::samples::{NOW_MS, credential, session, user};

async fn empty_store() -> (TempDir, Arc<dyn SubjectStore>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    (dir, Arc::new(store))
}

pub fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("subjects.db")
}

fn master(dir: &TempDir, name: &str) -> Arc<dyn KeyWrap> {
    Arc::new(MasterKey::load_or_create(&dir.path().join(name), true).unwrap())
}

async fn open(dir: &TempDir) -> Result<SqliteSubjects, SubjectsError> {
    SqliteSubjects::open(&file(dir), master(dir, "master.key")).await
}

/// A store with one person, closed.
async fn closed_store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    dir
}

fn alter(dir: &TempDir, sql: &str) {
    Connection::open(file(dir)).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_reopened_store_has_the_same_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    let (facts, mac) = (store.facts_key(), store.hmac("x", b"y"));
    let ada = store.keys(&[user(1)]).await.unwrap();
    drop(store);
    let again = open(&dir).await.unwrap();
    assert_eq!((again.facts_key().id, again.facts_key().expose()), (facts.id, facts.expose()));
    assert_eq!(again.hmac("x", b"y"), mac);
    assert_eq!(again.keys(&[user(1)]).await.unwrap()[&user(1)].expose(), ada[&user(1)].expose());
    assert_eq!(again.user_by_email("ada@example.org").await.unwrap(), Some(user(1)));
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let (dir, store) = empty_store().await;
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn a_commit_is_on_the_disk_before_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    let connection = store.connection.lock().await;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    let settings = ["synchronous", "secure_delete", "foreign_keys", "temp_store", "trusted_schema"].map(pragma);
    assert_eq!(settings, [2, 1, 1, 2, 0], "FULL, ON, ON, MEMORY, OFF");
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_key_file_that_does_not_fit_is_refused_and_changes_nothing() {
    let dir = closed_store().await;
    let before = fs::read(file(&dir)).unwrap();
    let error = SqliteSubjects::open(&file(&dir), master(&dir, "other.key")).await.unwrap_err();
    assert!(matches!(&error, SubjectsError::WrongKey(place) if *place == Place::from(&*file(&dir))), "{error:?}");
    let sentence =
        format!("{} was made with another key: put the right key file back; nothing was changed", file(&dir).display());
    assert_eq!(error.to_string(), sentence);
    assert_eq!(fs::read(file(&dir)).unwrap(), before);
    assert_eq!(open(&dir).await.unwrap().user_by_email("ada@example.org").await.unwrap(), Some(user(1)));
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let dir = closed_store().await;
    let whole = fs::read(file(&dir)).unwrap();
    let mut garbled = whole.clone();
    garbled[4096..].fill(0xa5);
    for damaged in [&whole[..whole.len() / 2], &garbled, b"this was never a database, and is long enough"] {
        fs::write(file(&dir), damaged).unwrap();
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error, SubjectsError::Damaged { .. }), "{error:?}");
        assert_eq!(fs::read(file(&dir)).unwrap(), damaged);
    }
}

#[tokio::test]
async fn damage_that_no_key_shows_is_found_at_the_start() {
    let dir = closed_store().await;
    let connection = Connection::open(file(&dir)).unwrap();
    let page: usize = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'sessions_by_expiry'", [], |row| row.get(0))
        .map(|page: i64| page.cast_unsigned() as usize)
        .unwrap();
    drop(connection);
    let mut content = fs::read(file(&dir)).unwrap();
    content[(page - 1) * 4096..page * 4096].fill(0xa5);
    fs::write(file(&dir), content).unwrap();
    let error = open(&dir).await.unwrap_err();
    assert!(matches!(error, SubjectsError::Damaged { .. }), "{error:?}");
}

/// The files as a crash leaves them: what was committed last stands in the write-ahead log only.
#[tokio::test]
async fn after_a_crash_a_wrong_key_changes_nothing_and_the_right_one_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(&dir).await.unwrap();
    running.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let names = ["subjects.db", "subjects.db-wal", "master.key"];
    for name in names {
        fs::copy(dir.path().join(name), crashed.path().join(name)).unwrap();
    }
    let files = || names.map(|name| fs::read(crashed.path().join(name)).unwrap());
    let before = files();
    let answer = SqliteSubjects::open(&file(&crashed), master(&crashed, "other.key")).await;
    assert!(matches!(answer, Err(SubjectsError::WrongKey(_))), "{answer:?}");
    assert!(files() == before, "a refused start leaves every file as it was");
    let store = open(&crashed).await.unwrap();
    assert_eq!(store.user_by_email("ada@example.org").await.unwrap(), Some(user(1)));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = closed_store().await;
    alter(&dir, "INSERT INTO refinery_schema_history VALUES (9000, 'newer', '2030-01-01T00:00:00Z', '1')");
    let before = fs::read(file(&dir)).unwrap();
    let error = open(&dir).await.unwrap_err();
    assert!(matches!(error, SubjectsError::OtherVersion { found: 9000, .. }), "{error:?}");
    assert_eq!(fs::read(file(&dir)).unwrap(), before);
}

#[tokio::test]
async fn a_store_that_lost_its_instance_keys_never_gets_new_ones() {
    for lost in ["DELETE FROM instance_keys", "DELETE FROM instance_keys WHERE name = 'hmac'"] {
        let dir = closed_store().await;
        alter(&dir, lost);
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error, SubjectsError::Damaged { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_wrapped_key_moved_to_another_row_is_refused() {
    let dir = closed_store().await;
    let store = open(&dir).await.unwrap();
    store.register(user(2), "bob@example.org", NOW_MS).await.unwrap();
    drop(store);
    alter(&dir, "UPDATE subjects SET wrapped_key = (SELECT wrapped_key FROM subjects ORDER BY user_id LIMIT 1)");
    let answer = open(&dir).await.unwrap().keys(&[user(2)]).await;
    assert!(matches!(answer, Err(SubjectsError::Damaged { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_file_holds_data_from_its_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!holds_data(&file(&dir)).unwrap());
    fs::write(file(&dir), b"").unwrap();
    assert!(!holds_data(&file(&dir)).unwrap());
    open(&dir).await.unwrap();
    assert!(holds_data(&file(&dir)).unwrap());
}

#[tokio::test]
async fn an_email_never_stands_in_the_files() {
    let (dir, store) = empty_store().await;
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    assert!(!occurs(&dir, b"ada@example"));
}

/// People come and go with rows of many sizes, which makes SQLite move rows between pages.
#[tokio::test]
async fn no_file_keeps_bytes_of_the_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    // What is deleted from the files does not depend on when they are synced.
    store.connection.lock().await.pragma_update(None, "synchronous", "OFF").unwrap();
    let mut secrets = Vec::new();
    for n in 0..400_u128 {
        let id = user(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        store.register(id, &format!("user{n}@example.org"), NOW_MS).await.unwrap();
        let mut kept = credential(n, id);
        kept.phc = format!("phc-{n:04}-{}", "x".repeat((n * 37 % 700) as usize));
        store.put_credential(kept).await.unwrap();
        let wrapped = store.run(move |connection| statements::wrapped_keys(connection, &[id])).await.unwrap();
        secrets.push((id, wrapped[0].1.clone(), format!("phc-{n:04}-").into_bytes()));
    }
    let key = store.keys(&[secrets[0].0]).await.unwrap()[&secrets[0].0].expose().to_vec();
    assert!(occurs(&dir, &secrets[0].1) && occurs(&dir, &secrets[0].2), "the scan finds what is there");
    let (kept, forgotten) = secrets.split_last().unwrap();
    for (id, ..) in forgotten.iter().skip(1).filter(|(id, ..)| id.as_u128() % 8 != 0) {
        store
            .run({
                let id = *id;
                move |connection| statements::delete_subjects(connection, &[id])
            })
            .await
            .unwrap();
    }
    let last = store.forget(&[forgotten[0].0]).await.unwrap();
    store.scrub(last).await.unwrap();
    let files = contents(&dir);
    for (id, wrapped, phc) in forgotten {
        let gone = *id == forgotten[0].0 || id.as_u128() % 8 != 0;
        assert_eq!(stands_in(&files, wrapped), !gone, "wrapped key of {id}");
        assert_eq!(stands_in(&files, phc), !gone, "credential of {id}");
    }
    assert!(!occurs(&dir, &key), "a raw key is never written");
    assert!(occurs(&dir, &kept.1));
    assert_eq!(fs::metadata(dir.path().join("subjects.db-wal")).unwrap().len(), 0);
}

pub fn contents(dir: &TempDir) -> Vec<Vec<u8>> {
    fs::read_dir(dir.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

pub fn stands_in(files: &[Vec<u8>], bytes: &[u8]) -> bool {
    files.iter().any(|content| content.windows(bytes.len()).any(|window| window == bytes))
}

fn occurs(dir: &TempDir, bytes: &[u8]) -> bool {
    stands_in(&contents(dir), bytes)
}

#[tokio::test]
async fn an_erasure_that_a_reader_holds_up_says_so_and_may_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    store.create_session(session(1, user(1))).await.unwrap();
    assert_eq!(store.keys(&[user(1)]).await.unwrap().len(), 1);
    let reader = Connection::open(file(&dir)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM subjects").unwrap();
    let forgotten = store.forget(&[user(1)]).await.unwrap();
    assert!(store.keys(&[user(1)]).await.unwrap().is_empty(), "the key is out of use at once");
    // Far less than other statements wait for a reader, since the next erasure waits behind this.
    let answer = tokio::time::timeout(Duration::from_secs(3), store.scrub(forgotten)).await.expect("it waits for long");
    assert!(matches!(answer, Err(SubjectsError::Unavailable(_))), "{answer:?}");
    reader.execute_batch("ROLLBACK").unwrap();
    store.scrub(forgotten).await.unwrap();
}
