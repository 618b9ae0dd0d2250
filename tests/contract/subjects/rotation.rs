//! Rotations of the key-encryption key on PostgreSQL, with registrations under way and other nodes at work.
use super::*;
use crate::wait::eventually;
use marvin::upkeep::{Upkeep, UpkeepError};
use std::fs;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// The name of the lock that registrations share.
fn lock_of(database: &Database) -> String {
    format!("hashtextextended('{}_subjects registrations', 20261122)", database.instance)
}

/// Stops whoever does this to a person's row for as long as the session that runs it keeps its advisory lock.
fn halting(database: &Database, event: &str) -> String {
    format!(
        "CREATE FUNCTION public.halt() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END'; \
         CREATE TRIGGER halt BEFORE {event} ON {}_subjects.subjects FOR EACH ROW EXECUTE FUNCTION public.halt(); \
         SELECT pg_advisory_lock(1)",
        database.instance
    )
}

/// Waits until so many wait for advisory locks in this database, or `over` says that nobody will.
async fn until_waiting(stranger: &Client, count: i64, over: impl Fn() -> bool) {
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let begun = Instant::now();
    while stranger.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < count && !over() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody came to wait");
    }
}

/// What a node has whose key file was copied from the one at `from`.
fn copied(from: &MasterKey, name: &str) -> Arc<MasterKey> {
    let to = from.path().with_file_name(name);
    fs::copy(from.path(), &to).unwrap();
    Arc::new(MasterKey::load_or_create(&to, false).unwrap())
}

async fn rotate(store: &dyn SubjectStore, key: &MasterKey) -> u64 {
    store.await_rotation().await.unwrap();
    key.begin_rotation().unwrap();
    let rewrapped = store.rewrap().await.unwrap();
    key.end_rotation().unwrap();
    rewrapped
}

/// Whether a node says that its key file has to be brought up to date; everything else fails the test.
#[track_caller]
fn waits<T: std::fmt::Debug>(answer: &Result<T, SubjectsError>) -> bool {
    match answer {
        Ok(_) => false,
        Err(SubjectsError::Unavailable(why)) => {
            assert!(why.to_string().contains("key file has not been brought up to date after a rotation"), "{why}");
            true
        }
        other => panic!("{other:?}"),
    }
}

/// People whose keys do not open for a node that starts now with the file at `key` and nothing else.
async fn unopened(database: &Database, key: &MasterKey, people: &[Uuid]) -> usize {
    let alone = copied(key, "alone.key");
    assert_eq!(fs::read_to_string(alone.path()).unwrap().lines().count(), 1);
    let node = node(database, &alone).await.unwrap();
    people.len() - node.keys(people).await.unwrap().len()
}

#[tokio::test]
async fn a_registration_that_waits_behind_a_rotation_is_kept_under_the_new_key() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::own().await);
    let key = master(&directory, "master.key");
    let store = Arc::new(node(&database, &key).await.unwrap());
    let stranger = database.stranger().await;
    stranger.batch_execute(&format!("SELECT pg_advisory_lock({})", lock_of(&database))).await.unwrap();
    key.begin_rotation().unwrap();
    let rewrapping = tokio::spawn({
        let store = store.clone();
        async move { store.rewrap().await }
    });
    until_waiting(&stranger, 1, || rewrapping.is_finished()).await;
    // The keys of the instance still stand under the old key, and so is this one wrapped.
    let registering = tokio::spawn({
        let store = store.clone();
        async move { store.register(user(1), "ada@example.org", NOW_MS).await }
    });
    until_waiting(&stranger, 2, || registering.is_finished()).await;
    stranger.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    registering.await.unwrap().unwrap();
    assert_eq!(rewrapping.await.unwrap().unwrap(), 2, "only the keys of the instance were wrapped under the old key");
    key.end_rotation().unwrap();
    assert_eq!(unopened(&database, &key, &[user(1)]).await, 0);
}

#[tokio::test]
async fn a_registration_between_the_new_file_and_the_first_new_row_is_kept() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let key = master(&directory, "master.key");
    let store = node(&database, &key).await.unwrap();
    key.begin_rotation().unwrap();
    registered(&store, 1).await;
    // As after a kill at this point: the next start finishes, and until then the old key is what others have.
    let restarted = node(&database, &copied(&key, "restarted.key")).await.unwrap();
    registered(&restarted, 2).await;
    assert_eq!(store.rewrap().await.unwrap(), 4);
    key.end_rotation().unwrap();
    assert_eq!(unopened(&database, &key, &[user(1), user(2)]).await, 0);
}

#[tokio::test]
async fn a_node_with_the_old_key_file_registers_nobody_until_it_has_the_new_one() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let key = master(&directory, "master.key");
    let here = node(&database, &key).await.unwrap();
    let elsewhere = copied(&key, "elsewhere.key");
    let there = node(&database, &elsewhere).await.unwrap();
    key.begin_rotation().unwrap();
    here.rewrap().await.unwrap();
    assert!(waits(&there.register(user(1), "ada@example.org", NOW_MS).await), "during the rotation");
    key.end_rotation().unwrap();
    assert!(waits(&there.register(user(1), "ada@example.org", NOW_MS).await), "after it");
    assert_eq!(here.user_by_email("ada@example.org").await.unwrap(), None, "no row was left");
    fs::copy(key.path(), elsewhere.path()).unwrap();
    let registered = eventually("it goes on by itself", async || {
        let answer = there.register(user(1), "ada@example.org", NOW_MS).await;
        (!waits(&answer)).then(|| answer.unwrap())
    });
    assert_eq!(registered.await, Registration::Created { user_id: user(1) });
    assert_eq!(unopened(&database, &key, &[user(1)]).await, 0);
}

#[tokio::test]
async fn a_node_with_the_old_key_file_opens_rewrapped_keys_once_it_has_the_new_one() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let key = master(&directory, "master.key");
    let here = node(&database, &key).await.unwrap();
    let elsewhere = copied(&key, "elsewhere.key");
    let there = node(&database, &elsewhere).await.unwrap();
    let ada = registered(&here, 1).await;
    let before = here.keys(&[ada]).await.unwrap();
    assert_eq!(rotate(&here, &key).await, 3);
    assert!(waits(&there.keys(&[ada]).await));
    assert_eq!(there.user_by_email("user1@example.org").await.unwrap(), Some(ada), "what needs no key is answered");
    fs::copy(key.path(), elsewhere.path()).unwrap();
    let opened = eventually("it goes on by itself", async || {
        let answer = there.keys(&[ada]).await;
        (!waits(&answer)).then(|| answer.unwrap())
    });
    assert_eq!(print(&opened.await[&ada]), print(&before[&ada]));
    let late = node(&database, &master(&directory, "other.key")).await;
    assert!(matches!(late, Err(SubjectsError::WrongKey(_))), "a start with another key is refused as ever");
}

/// Registrations at once, over two nodes, while the key is rotated.
const RACERS: u128 = 32;
const RACES: u128 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_that_race_a_rotation_all_open_with_the_new_key_alone() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let keys = [master(&directory, "master.key"), master(&directory, "master.key")];
    let nodes =
        [Arc::new(node(&database, &keys[0]).await.unwrap()), Arc::new(node(&database, &keys[1]).await.unwrap())];
    let mut people = Vec::new();
    for race in 0..RACES {
        let register = |n: u128| {
            let (store, n) = (nodes[(n % 2) as usize].clone(), RACERS * race + n + 1);
            people.push(user(n));
            tokio::spawn(async move { store.register(user(n), &format!("user{n}@example.org"), NOW_MS).await })
        };
        let racing: Vec<_> = (0..RACERS).map(register).collect();
        // Now the one node rotates, now the other.
        let rotating = (race % 2) as usize;
        rotate(&*nodes[rotating], &keys[rotating]).await;
        for registered in join_all(racing).await {
            registered.unwrap().unwrap();
        }
        assert_eq!(unopened(&database, &keys[0], &people).await, 0, "race {race}");
    }
}

#[tokio::test]
async fn of_two_nodes_that_rotate_copies_of_the_key_file_one_does_and_no_key_is_lost() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::own().await);
    let key = master(&directory, "master.key");
    let here = Arc::new(node(&database, &key).await.unwrap());
    let elsewhere = copied(&key, "elsewhere.key");
    let there = Arc::new(node(&database, &elsewhere).await.unwrap());
    let ada = registered(&*here, 1).await;
    key.begin_rotation().unwrap();
    elsewhere.begin_rotation().unwrap();
    // Both have read the keys of the instance when the first replaces them, and it comes no further before the other is done.
    let stranger = database.stranger().await;
    let lock = lock_of(&database);
    stranger
        .batch_execute(&format!("{}; SELECT pg_advisory_lock({lock})", halting(&database, "UPDATE")))
        .await
        .unwrap();
    let rewrap = |store: Arc<PostgresSubjects>| tokio::spawn(async move { store.rewrap().await });
    let first = rewrap(here);
    until_waiting(&stranger, 1, || first.is_finished()).await;
    let second = rewrap(there.clone());
    until_waiting(&stranger, 2, || second.is_finished()).await;
    stranger.batch_execute(&format!("SELECT pg_advisory_unlock({lock})")).await.unwrap();
    assert!(waits(&second.await.unwrap()));
    stranger.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 3);
    key.end_rotation().unwrap();
    assert_eq!(unopened(&database, &key, &[ada]).await, 0);
    fs::copy(key.path(), elsewhere.path()).unwrap();
    assert_eq!(rotate(&*there, &elsewhere).await, 3, "with the file of the other it goes on");
    assert_eq!(unopened(&database, &elsewhere, &[ada]).await, 0);
}

#[tokio::test]
async fn a_node_with_the_old_key_file_draws_no_key_and_with_the_new_one_it_does() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::shared());
    let key = master(&directory, "master.key");
    let here = node(&database, &key).await.unwrap();
    let elsewhere = copied(&key, "elsewhere.key");
    let there = Arc::new(node(&database, &elsewhere).await.unwrap());
    let ada = registered(&here, 1).await;
    rotate(&here, &key).await;
    let standing = fs::read(elsewhere.path()).unwrap();
    let upkeep = Upkeep::of_keys(there.clone(), elsewhere.clone());
    let refused = upkeep.rotate_keys().await;
    assert!(matches!(&refused, Err(UpkeepError::Subjects(SubjectsError::Unavailable(_)))), "{refused:?}");
    assert!(fs::read(elsewhere.path()).unwrap() == standing, "the file was written to");
    // Nothing was asked of the node since; it must not take the file for a strange one.
    fs::copy(key.path(), elsewhere.path()).unwrap();
    assert_eq!(upkeep.rotate_keys().await.unwrap(), 3);
    assert_eq!(unopened(&database, &elsewhere, &[ada]).await, 0);
}

#[tokio::test]
async fn a_rotation_waits_for_registrations_that_wrapped_under_the_old_key() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::own().await);
    let key = master(&directory, "master.key");
    let store = Arc::new(node(&database, &key).await.unwrap());
    let stranger = database.stranger().await;
    let halt = halting(&database, "INSERT");
    stranger.batch_execute(&halt).await.unwrap();
    let registering = tokio::spawn({
        let store = store.clone();
        async move { store.register(user(1), "ada@example.org", NOW_MS).await }
    });
    until_waiting(&stranger, 1, || registering.is_finished()).await;
    key.begin_rotation().unwrap();
    let rewrapping = tokio::spawn({
        let store = store.clone();
        async move { store.rewrap().await }
    });
    until_waiting(&stranger, 2, || rewrapping.is_finished()).await;
    stranger.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    registering.await.unwrap().unwrap();
    assert_eq!(rewrapping.await.unwrap().unwrap(), 3, "the keys of the instance, and the one that came in meanwhile");
}
