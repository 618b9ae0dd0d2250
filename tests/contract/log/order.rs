//! Positions are 1, 2, 3 … in commit order, whoever writes, reads, or holds a transaction open meanwhile.
use futures_util::future::join_all;
use marvin::log::EventLog;
use rstest::rstest;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Adapter, Home, Subject, all, append, positions, stream};

const WRITERS: u64 = 32;
const READERS: usize = 32;
const COMMANDS: u64 = 25;

/// Follows a log from its beginning until the writers are done; answers the event ids in the order it saw them.
fn reader(log: Arc<dyn EventLog>, done: Arc<AtomicU64>) -> JoinHandle<Vec<Uuid>> {
    tokio::spawn(async move {
        let mut seen: Vec<Uuid> = Vec::new();
        loop {
            let finished = done.load(Ordering::SeqCst) == WRITERS;
            let page = log.read(seen.len() as u64, 50).await.unwrap();
            if finished && page.is_empty() {
                return seen;
            }
            for event in page {
                assert_eq!(event.position, seen.len() as u64 + 1, "a reader met a gap, or an event came late");
                seen.push(event.event_id);
            }
            tokio::task::yield_now().await;
        }
    })
}

fn writer(log: Arc<dyn EventLog>, done: Arc<AtomicU64>, events: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        let stream = stream();
        for command in 0..COMMANDS {
            log.append(append(stream, command * events as u64, events)).await.unwrap();
        }
        done.fetch_add(1, Ordering::SeqCst);
    })
}

/// Somebody else's open transaction, which has written where it can and has seen an older state of the log.
enum Stranger {
    File(rusqlite::Connection),
    Database(tokio_postgres::Client),
}

impl Stranger {
    async fn begin(subject: &Subject) -> Self {
        match &subject.home {
            Home::File(directory) => {
                let connection = rusqlite::Connection::open(directory.path().join("log.db")).unwrap();
                connection.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
                Self::File(connection)
            }
            Home::Database(database) => {
                let client = database.stranger().await;
                let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE strange (number integer); \
                           INSERT INTO strange VALUES (1); SELECT count(*) FROM events";
                client.batch_execute(sql).await.unwrap();
                Self::Database(client)
            }
        }
    }

    async fn end(self) {
        match self {
            Self::File(connection) => connection.execute_batch("COMMIT").unwrap(),
            Self::Database(client) => client.batch_execute("COMMIT").await.unwrap(),
        }
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_gapless_and_never_late_under_parallel_writers_and_readers(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let other = subject.other_node().await;
    let node = |number: usize| if number.is_multiple_of(2) { subject.log.clone() } else { other.clone() };
    let done = Arc::new(AtomicU64::new(0));
    let stranger = Stranger::begin(&subject).await;
    let readers: Vec<_> = (0..READERS).map(|number| reader(node(number), done.clone())).collect();
    let events = |writer: usize| writer % 3 + 1;
    let writers = (0..WRITERS as usize).map(|number| writer(node(number), done.clone(), events(number)));
    join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    stranger.end().await;
    let stored = all(&*subject.log).await;
    let expected: u64 = (0..WRITERS as usize).map(|writer| events(writer) as u64 * COMMANDS).sum();
    assert_eq!(stored.iter().map(|event| event.position).collect::<Vec<_>>(), (1..=expected).collect::<Vec<_>>());
    assert!(stored.is_sorted_by_key(|event| event.recorded_at));
    let stored: Vec<_> = stored.iter().map(|event| event.event_id).collect();
    for reader in readers {
        assert!(reader.await.unwrap() == stored, "a reader saw another order than the log has now");
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn the_head_moves_on_every_node_without_being_asked(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let (here, there) = (subject.log.head(), subject.other_node().await);
    let mut there = there.head();
    for expected in 0..5 {
        let receipt = subject.log.append(append(stream(), 0, 2)).await.unwrap();
        assert_eq!(receipt.position, (expected + 1) * 2);
        assert_eq!(*here.borrow(), receipt.position);
        there.wait_for(|head| *head >= receipt.position).await.unwrap();
        assert_eq!(*there.borrow(), receipt.position);
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_log_that_is_opened_again_goes_on_where_it_ended(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    subject.log.append(append(stream(), 0, 3)).await.unwrap();
    let subject = subject.reopen().await;
    assert_eq!(*subject.log.head().borrow(), 3);
    assert_eq!(subject.log.append(append(stream(), 0, 1)).await.unwrap().position, 4);
    assert_eq!(positions(&*subject.log).await, [1, 2, 3, 4]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_page_ends_at_its_bytes_and_holds_one_event_at_least(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let mut heavy = append(stream(), 0, 4);
    for event in &mut heavy.streams[0].events {
        event.payload = vec![7; marvin::log::PAYLOAD_BYTES_MAX];
    }
    subject.log.append(heavy).await.unwrap();
    subject.log.append(append(stream(), 0, 3)).await.unwrap();
    let page = subject.log.read(0, 100).await.unwrap();
    let bytes: usize = page.iter().map(|event| event.payload.len()).sum();
    assert!(bytes <= marvin::log::PAGE_BYTES_MAX + marvin::log::PAYLOAD_BYTES_MAX && page.len() == 2, "{bytes}");
    assert_eq!(positions(&*subject.log).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(subject.log.read(6, 100).await.unwrap().len(), 1);
    assert!(subject.log.read(7, 100).await.unwrap().is_empty());
    assert!(subject.log.read(u64::MAX, 100).await.unwrap().is_empty());
    assert_eq!(subject.log.read(0, 0).await.unwrap().len(), 0);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_event_older_than_the_one_before_it(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    subject.log.append(append(stream(), 0, 1)).await.unwrap();
    let ahead = "INSERT INTO events SELECT 2, aggregate_type, aggregate_id, 2, event_type, event_version, payload, metadata, \
                 event_id, command_id, 1, recorded_at + HOUR FROM events";
    match &subject.home {
        Home::File(directory) => {
            let stranger = rusqlite::Connection::open(directory.path().join("log.db")).unwrap();
            stranger.execute(&ahead.replace("HOUR", "3600000"), []).unwrap();
        }
        Home::Database(database) => {
            let stranger = database.stranger().await;
            stranger.batch_execute(&ahead.replace("HOUR", "interval '1 hour'")).await.unwrap();
        }
    }
    subject.log.append(append(stream(), 0, 1)).await.unwrap();
    let stored = all(&*subject.log).await;
    assert!(stored[1].recorded_at > stored[0].recorded_at, "else this proves nothing");
    assert_eq!(stored[2].recorded_at, stored[1].recorded_at);
}

#[tokio::test]
async fn news_that_somebody_else_makes_up_moves_no_head() {
    let subject = Adapter::Postgres.log().await;
    let liar = subject.database().stranger().await;
    let channel = format!("marvin_{}", subject.database().instance);
    for lie in ["18446744073709551615", "77", "no number", "-1", ""] {
        liar.execute("SELECT pg_notify($1, $2)", &[&channel, &lie]).await.unwrap();
    }
    let other = subject.other_node().await;
    let receipt = other.append(append(stream(), 0, 1)).await.unwrap();
    subject.log.head().wait_for(|head| *head >= receipt.position).await.unwrap();
    assert_eq!(*subject.log.head().borrow(), receipt.position);
}
