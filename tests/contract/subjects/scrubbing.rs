//! Erasures on PostgreSQL while something holds up the rewriting of files, and with several nodes at it.
use super::erasure::{alone, column, files_with};
use super::*;
use crate::wait::eventually;
use marvin::{
    erasure::{Eraser, Scrubber, followed},
    log::subscription::Follower,
};
use marvin_domain::{
    Actor, AggregateKind, Envelope, Event, Metadata, StreamId,
    user::{UserErased, UserEvent},
};
use tokio_postgres::Client;

fn erased(position: u64, user: Uuid) -> Arc<Envelope> {
    let id = Uuid::from_u128(5000 + u128::from(position));
    let metadata =
        Metadata { actor: Actor::System, subject: Some(user), correlation: id, causation: None, digest: None };
    Arc::new(Envelope {
        position,
        stream: StreamId { kind: AggregateKind::User, id: user },
        sequence: 2,
        event_id: id,
        command_id: id,
        recorded_at: Default::default(),
        metadata,
        event: Event::User(UserEvent::Erased(UserErased {})),
    })
}

/// A transaction that may still see everything deleted from now on, and has no lock on the store's tables.
async fn snapshot(database: &Database) -> Client {
    let reader = database.stranger().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await.unwrap();
    reader
}

async fn held_up(scrubber: &mut Scrubber) {
    let answer = scrubber.settle().await;
    assert!(matches!(answer, Err(SubjectsError::Unavailable(_))), "{answer:?}");
}

async fn position(store: &dyn SubjectStore) -> Option<u64> {
    followed(store).await.unwrap().map(|checkpoint| checkpoint.position)
}

/// Names the files of the tables, which change with each rewriting.
async fn files(stranger: &Client, database: &Database) -> Vec<i64> {
    let sql = format!(
        "SELECT pg_relation_filenode('{0}_subjects.' || t)::bigint FROM unnest(ARRAY['subjects', 'credentials', 'sessions']) t",
        database.instance
    );
    stranger.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn an_erasure_that_cannot_be_scrubbed_holds_up_no_later_one() {
    let (_directory, database, _, store) = alone().await;
    let (store, stranger): (Arc<dyn SubjectStore>, _) = (Arc::new(store), database.stranger().await);
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    let secrets = column(&stranger, &database, "wrapped_key", "subjects").await;
    let reader = snapshot(&database).await;
    let (mut eraser, mut scrubber) = Eraser::new(store.clone());
    eraser.take(&[erased(1, ada)]).await.unwrap();
    held_up(&mut scrubber).await;
    eraser.take(&[erased(2, bob)]).await.unwrap();
    assert!(store.keys(&[ada, bob]).await.unwrap().is_empty());
    assert!(column(&stranger, &database, "wrapped_key", "subjects").await.is_empty(), "their rows stand");
    held_up(&mut scrubber).await;
    assert_eq!(position(&*store).await, None, "the checkpoint moved past what is not finished");
    reader.batch_execute("ROLLBACK").await.unwrap();
    scrubber.settle().await.unwrap();
    assert_eq!(position(&*store).await, Some(2));
    for secret in secrets {
        assert_eq!(files_with(&stranger, &secret).await, Vec::<String>::new());
    }
}

/// Long transactions that overlap are always open; those that began after an erasure do not hold it up.
#[tokio::test]
async fn transactions_that_begin_later_do_not_put_off_an_erasure() {
    let (_directory, database, _, store) = alone().await;
    let store: Arc<dyn SubjectStore> = Arc::new(store);
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    let first = snapshot(&database).await;
    let (mut eraser, mut scrubber) = Eraser::new(store.clone());
    eraser.take(&[erased(1, ada)]).await.unwrap();
    held_up(&mut scrubber).await;
    let second = snapshot(&database).await;
    eraser.take(&[erased(2, bob)]).await.unwrap();
    first.batch_execute("ROLLBACK").await.unwrap();
    held_up(&mut scrubber).await;
    assert_eq!(position(&*store).await, Some(1), "the later erasure put off the first");
    second.batch_execute("ROLLBACK").await.unwrap();
    scrubber.settle().await.unwrap();
    assert_eq!(position(&*store).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_erase_at_once_all_finish_and_one_rewrites() {
    let (_directory, database, key, store) = alone().await;
    let stranger = database.stranger().await;
    let (here, there) = (store, node(&database, &key).await.unwrap());
    let (ada, bob) = (registered(&here, 1).await, registered(&here, 2).await);
    let secrets = column(&stranger, &database, "wrapped_key", "subjects").await;
    let (ada_gone, bob_gone) = ([ada], [bob]);
    let (one, two) = tokio::join!(here.forget(&ada_gone), there.forget(&bob_gone));
    let finish = async |node: &PostgresSubjects, forgotten| {
        // Others' transactions on this server may hold it up for a while, as may the other node.
        eventually("it finishes", async || node.scrub(forgotten).await.ok()).await
    };
    tokio::join!(finish(&here, one.unwrap()), finish(&there, two.unwrap()));
    for secret in secrets {
        assert_eq!(files_with(&stranger, &secret).await, Vec::<String>::new());
    }
    let rewritten = files(&stranger, &database).await;
    // What follows on every node, some later than others: all are told of both erasures.
    for node in [&here, &there] {
        erase(node, &[ada, bob]).await;
    }
    assert_eq!(files(&stranger, &database).await, rewritten, "what is out of the files was rewritten again");
    let cleo = registered(&here, 3).await;
    erase(&there, &[cleo]).await;
    assert!(files(&stranger, &database).await.iter().zip(&rewritten).all(|(now, before)| now != before));
}

/// A VACUUM moves the mark that a rewriting leaves in the catalogue, and leaves bytes in the file.
#[tokio::test]
async fn a_vacuum_is_not_taken_for_a_rewriting() {
    let (_directory, database, _, store) = alone().await;
    let stranger = database.stranger().await;
    let ada = registered(&store, 1).await;
    erase(&store, &[ada]).await;
    let before = files(&stranger, &database).await;
    let bob = registered(&store, 2).await;
    let forgotten = store.forget(&[bob]).await.unwrap();
    stranger.batch_execute("VACUUM FREEZE").await.unwrap();
    store.scrub(forgotten).await.unwrap();
    assert!(files(&stranger, &database).await.iter().zip(&before).all(|(now, before)| now != before));
}

/// Numbers of transactions come with a dump into a server that has not counted so far.
#[tokio::test]
async fn a_store_from_another_server_is_scrubbed_all_the_same() {
    let (_directory, database, _, store) = alone().await;
    let stranger = database.stranger().await;
    let (ada, bob) = (registered(&store, 1).await, registered(&store, 2).await);
    erase(&store, &[ada]).await;
    let before = files(&stranger, &database).await;
    let ahead = format!(
        "UPDATE {0}_subjects.last_erasure SET gone = '4611686018427387904'; \
         UPDATE {0}_subjects.scrubbed SET passed = '4611686018427387904'",
        database.instance
    );
    stranger.batch_execute(&ahead).await.unwrap();
    erase(&store, &[ada]).await;
    let after = files(&stranger, &database).await;
    assert!(after.iter().zip(&before).all(|(now, before)| now != before));
    erase(&store, &[bob]).await;
    assert!(files(&stranger, &database).await.iter().zip(&after).all(|(now, before)| now != before));
}
