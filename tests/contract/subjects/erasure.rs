//! What PostgreSQL's files keep of the erased: nothing, once `scrub` has answered.
use super::*;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Client;

/// A store in a database of its own, whose files hold nothing of other tests.
pub async fn alone() -> (tempfile::TempDir, Database, Arc<MasterKey>, PostgresSubjects) {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::own().await);
    let key = master(&directory, "master.key");
    let store = node(&database, &key).await.unwrap();
    (directory, database, key, store)
}

/// The bytes of a column of the store, in the order of ids.
pub async fn column(stranger: &Client, database: &Database, name: &str, table: &str) -> Vec<Vec<u8>> {
    let sql = format!("SELECT {name} FROM {}_subjects.{table} ORDER BY 1", database.instance);
    stranger.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The files of the database in which these bytes stand: tables, indexes, statistics.
pub async fn files_with(stranger: &Client, bytes: &[u8]) -> Vec<String> {
    stranger.batch_execute("CHECKPOINT").await.unwrap();
    let sql = "SELECT name FROM (SELECT 'base/' || oid || '/' AS home FROM pg_database WHERE datname = current_database()) d, \
               LATERAL pg_ls_dir(home) AS name \
               WHERE position($1::bytea IN coalesce(pg_read_binary_file(home || name, 0, 1 << 28, true), '')) > 0";
    stranger.query(sql, &[&bytes]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// So many that the server takes samples of every column, if it may.
const PEOPLE: u128 = 200;

async fn peopled(store: &PostgresSubjects) {
    for n in 1..=PEOPLE {
        store.register(user(n), &format!("user{n}@example.org"), NOW_MS).await.unwrap();
        let mut session = session(0, user(n));
        session.id = user(3000 + n);
        session.token_hash = n.to_be_bytes().repeat(2).try_into().unwrap();
        store.create_session(session).await.unwrap();
        let phc = format!("$argon2id$of-{n:04}$");
        store.put_credential(Credential { phc, ..credential(n, user(n)) }).await.unwrap();
    }
}

#[tokio::test]
async fn no_file_keeps_bytes_of_the_forgotten() {
    let (_directory, database, _, store) = alone().await;
    let stranger = database.stranger().await;
    peopled(&store).await;
    stranger.batch_execute("ANALYZE").await.unwrap();
    let row = format!("SELECT wrapped_key, email_hmac FROM {}_subjects.subjects WHERE user_id = $1", database.instance);
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    // Neighbours: samples are every other value.
    for n in [7, 8] {
        let row = stranger.query_one(&row, &[&user(n)]).await.unwrap();
        let phc = format!("$argon2id$of-{n:04}$").into_bytes();
        secrets.extend([row.get(0), row.get(1), phc, n.to_be_bytes().repeat(2)]);
    }
    for secret in &secrets {
        assert!(!files_with(&stranger, secret).await.is_empty(), "the scan finds what is there");
    }
    for gone in [user(7), user(8), user(7)] {
        erase(&store, &[gone]).await;
    }
    for (which, secret) in secrets.iter().enumerate() {
        assert_eq!(files_with(&stranger, secret).await, Vec::<String>::new(), "secret {which}");
    }
    let left = column(&stranger, &database, "wrapped_key", "subjects").await;
    assert_eq!(left.len() as u128, PEOPLE - 2);
    assert!(!files_with(&stranger, &left[0]).await.is_empty());
}

#[tokio::test]
async fn no_file_keeps_a_key_that_was_wrapped_under_the_old_one() {
    let (_directory, database, key, store) = alone().await;
    let stranger = database.stranger().await;
    peopled(&store).await;
    stranger.batch_execute("ANALYZE").await.unwrap();
    let old = [
        column(&stranger, &database, "wrapped_key", "subjects").await.remove(0),
        column(&stranger, &database, "wrapped", "instance_keys").await.remove(0),
    ];
    key.begin_rotation().unwrap();
    store.rewrap().await.unwrap();
    for wrapped in old {
        assert_eq!(files_with(&stranger, &wrapped).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_erasure_that_an_older_transaction_holds_up_says_so_and_may_be_repeated() {
    let (_directory, database, _, store) = alone().await;
    let stranger = database.stranger().await;
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    let wrapped = column(&stranger, &database, "wrapped_key", "subjects").await.remove(0);
    let reader = database.stranger().await;
    // A snapshot, and no lock on the store's tables.
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await.unwrap();
    let forgotten = store.forget(&[user(1)]).await.unwrap();
    assert!(store.keys(&[user(1)]).await.unwrap().is_empty(), "the key is out of use at once");
    let answer = store.scrub(forgotten).await;
    assert!(matches!(answer, Err(SubjectsError::Unavailable(_))), "{answer:?}");
    assert!(!files_with(&stranger, &wrapped).await.is_empty(), "and still in the file");
    reader.batch_execute("ROLLBACK").await.unwrap();
    store.scrub(forgotten).await.unwrap();
    assert_eq!(files_with(&stranger, &wrapped).await, Vec::<String>::new());
}

/// Less than the 3 s that statements wait for a lock, and far more than one that is not held up takes.
const HELD_UP_MAX: Duration = Duration::from_millis(2_000);

/// A dump holds its lock for as long as it takes; nobody else may wait for that behind an erasure.
#[tokio::test]
async fn an_erasure_that_a_long_reader_holds_up_lets_others_through() {
    let (_directory, database, _, store) = alone().await;
    let store = Arc::new(store);
    store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    let reader = database.stranger().await;
    let lock = format!("BEGIN; LOCK TABLE {}_subjects.subjects IN ACCESS SHARE MODE", database.instance);
    reader.batch_execute(&lock).await.unwrap();
    let forgotten = store.forget(&[user(1)]).await.unwrap();
    let scrubbing = tokio::spawn({
        let store = store.clone();
        async move { store.scrub(forgotten).await }
    });
    while !scrubbing.is_finished() {
        let asked = timeout(HELD_UP_MAX, store.user_by_email("ada@example.org")).await;
        asked.expect("others wait behind the erasure").unwrap();
    }
    let answer = scrubbing.await.unwrap();
    assert!(matches!(answer, Err(SubjectsError::Unavailable(_))), "{answer:?}");
    reader.batch_execute("ROLLBACK").await.unwrap();
    store.scrub(forgotten).await.unwrap();
}
