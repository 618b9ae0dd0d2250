//! Registrations that are under way on PostgreSQL when the key-encryption key is rotated.
use super::*;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// The name of the lock that registrations share.
fn lock_of(database: &Database) -> String {
    format!("hashtextextended('{}_subjects registrations', 20261122)", database.instance)
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

#[tokio::test]
async fn a_registration_that_waits_is_kept_under_the_new_key() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::own().await);
    let key = master(&directory, "master.key");
    let store = Arc::new(node(&database, &key).await.unwrap());
    let stranger = database.stranger().await;
    stranger.batch_execute(&format!("SELECT pg_advisory_lock({})", lock_of(&database))).await.unwrap();
    let registering = tokio::spawn({
        let store = store.clone();
        async move { store.register(user(1), "ada@example.org", NOW_MS).await }
    });
    until_waiting(&stranger, 1, || registering.is_finished()).await;
    key.begin_rotation().unwrap();
    stranger.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    registering.await.unwrap().unwrap();
    assert_eq!(store.rewrap().await.unwrap(), 2, "only the keys of the instance were wrapped before");
    key.end_rotation().unwrap();
    assert_eq!(store.keys(&[user(1)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rotation_waits_for_registrations_that_wrapped_under_the_old_key() {
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::own().await);
    let key = master(&directory, "master.key");
    let store = Arc::new(node(&database, &key).await.unwrap());
    let stranger = database.stranger().await;
    // Stops whoever inserts a person for as long as this session holds the lock.
    let halt = format!(
        "CREATE FUNCTION public.halt() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END'; \
         CREATE TRIGGER halt BEFORE INSERT ON {}_subjects.subjects FOR EACH ROW EXECUTE FUNCTION public.halt(); \
         SELECT pg_advisory_lock(1)",
        database.instance
    );
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
