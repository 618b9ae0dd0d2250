//! Reads of many callers that go to Redis in one command: each gets its own answer, whatever becomes of the others.
use bytes::Bytes;
use futures_util::future::join_all;
use marvin::cache::{Cache, CacheError, Entry, Found, Slot, TableKey, Tenure, redis::RedisCache};
use marvin_domain::Position;
use redis::AsyncCommands;
use std::sync::Arc;
use tokio::{task::JoinHandle, time::timeout};

use super::{id, server};
use crate::{
    proxy::{Proxy, Weather},
    wait::{DEADLINE, eventually},
};

/// A table of a number; what is in it stands at the same position, and says so.
fn table(number: u32) -> TableKey {
    TableKey { name: "tasks".into(), version: 1, build: number }
}

fn position(number: u32) -> Position {
    100 + Position::from(number)
}

fn entry(number: u32, document: u128) -> Entry {
    Entry { id: id(document), position: position(number), body: Bytes::from(format!("{document} of {number}")) }
}

/// Documents 0 to 9 are cached under a head that has just been written.
async fn written(writer: &RedisCache, number: u32) -> Tenure {
    let tenure = writer.begin(&table(number), 1, 0).await.unwrap();
    let entries: Vec<_> = (0..10).map(|document| entry(number, document)).collect();
    writer.put(&table(number), &tenure, &entries, position(number)).await.unwrap()
}

#[track_caller]
fn assert_answers(found: &Found, number: u32, documents: &[u128]) {
    assert_eq!(found.head.map(|head| head.position), Some(position(number)), "the head of table {number}");
    assert_eq!(found.slots.len(), documents.len());
    for (slot, document) in found.slots.iter().zip(documents) {
        match slot {
            Slot::Hit(found) => assert_eq!(*found, entry(number, *document)),
            Slot::Miss(missed) => assert_eq!((missed.id, *document >= 10), (id(*document), true)),
        }
    }
}

async fn get(cache: &RedisCache, number: u32, documents: &[u128]) -> Result<Found, CacheError> {
    let ids: Vec<_> = documents.iter().map(|document| id(*document)).collect();
    timeout(DEADLINE, cache.get(&table(number), &ids)).await.expect("nobody waits for ever")
}

async fn nodes() -> (RedisCache, RedisCache, String) {
    let (url, instance) = (server::shared(), server::instance());
    let (writer, reader) = tokio::join!(server::connect(&url, &instance), server::connect(&url, &instance));
    (writer, reader, instance)
}

#[tokio::test]
async fn each_of_many_readers_of_several_tables_gets_its_own_answer() {
    const TABLES: u32 = 7;
    let (writer, reader, _) = nodes().await;
    for round in 0..5 {
        for number in 0..TABLES {
            written(&writer, number).await;
        }
        // Some ask for documents that are not there, some for none at all, in any order.
        let asked: Vec<(u32, Vec<u128>)> = (0..100)
            .map(|reader: u32| {
                let (first, count) = (u128::from(reader * 7 + round), reader % 5);
                (reader % TABLES, (0..u128::from(count)).map(|step| (first + step * 5) % 13).collect())
            })
            .collect();
        let answers = join_all(asked.iter().map(|(number, documents)| get(&reader, *number, documents))).await;
        for ((number, documents), answer) in asked.iter().zip(answers) {
            assert_answers(&answer.unwrap(), *number, documents);
        }
    }
}

/// How long a head lives is asked for once a table: each reader is told that of its own.
#[tokio::test]
async fn a_head_that_is_not_trusted_is_none_beside_others_that_are() {
    let (writer, reader, instance) = nodes().await;
    let mut stranger = server::stranger(&server::shared()).await;
    for number in [1, 2, 3] {
        written(&writer, number).await;
    }
    let persisted: bool = stranger.persist(format!("{instance}:cache:tasks:1:2:head")).await.unwrap();
    assert!(persisted, "it would expire no more");
    // Of table 4 there is nothing.
    let tables = [4, 2, 1, 3, 2, 4, 3, 1];
    let answers = join_all(tables.iter().map(|number| get(&reader, *number, &[1]))).await;
    for (number, answer) in tables.into_iter().zip(answers) {
        let answer = answer.unwrap();
        match number {
            2 | 4 => assert!(answer.head.is_none() && answer.slots.is_empty(), "table {number}: {answer:?}"),
            _ => assert_answers(&answer, number, &[1]),
        }
    }
}

#[tokio::test]
async fn more_keys_than_one_command_holds_are_all_answered() {
    let (writer, reader, _) = nodes().await;
    for number in 0..3 {
        written(&writer, number).await;
    }
    // One who asks for more than that alone, between many who do together.
    let some: Vec<u128> = (0..40).collect();
    let many: Vec<u128> = (0..600).collect();
    let asked = |reader: u32| if reader == 20 { &many } else { &some };
    let answers = join_all((0..50).map(|number| get(&reader, number % 3, asked(number)))).await;
    for (number, answer) in (0..50).zip(answers) {
        assert_answers(&answer.unwrap(), number % 3, asked(number));
    }
}

/// A reader that reaches Redis through a proxy, and knows a table's generation.
struct Exposed {
    proxy: Proxy,
    writer: RedisCache,
    reader: Arc<RedisCache>,
}

impl Exposed {
    async fn new() -> Self {
        let (url, instance) = (server::shared(), server::instance());
        let proxy = Proxy::to(url.trim_start_matches("redis://").to_owned()).await;
        let reader = server::connect(&format!("redis://{}", proxy.address), &instance).await;
        let writer = server::connect(&url, &instance).await;
        written(&writer, 1).await;
        assert_answers(&get(&reader, 1, &[1]).await.unwrap(), 1, &[1]);
        Self { proxy, writer, reader: Arc::new(reader) }
    }

    /// Asks for one document each; they are on their way then, or wait for those that are.
    async fn asking(&self, documents: impl IntoIterator<Item = u128>) -> Vec<JoinHandle<Result<Found, CacheError>>> {
        let ask = |document| {
            let reader = self.reader.clone();
            tokio::spawn(async move { get(&reader, 1, &[document]).await })
        };
        let asking = documents.into_iter().map(ask).collect();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        asking
    }
}

/// How often Redis was asked for documents.
async fn commands(stranger: &mut redis::aio::MultiplexedConnection) -> usize {
    let said: String = redis::cmd("INFO").arg("commandstats").query_async(stranger).await.unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn what_fills_a_command_waits_for_no_other_one() {
    let server = server::Server::start().await;
    let (url, instance) = (server.url(), server::instance());
    let proxy = Proxy::to(url.trim_start_matches("redis://").to_owned()).await;
    let reader = Arc::new(server::connect(&format!("redis://{}", proxy.address), &instance).await);
    let writer = server::connect(&url, &instance).await;
    let mut stranger = server::stranger(&url).await;
    written(&writer, 1).await;
    get(&reader, 1, &[1]).await.unwrap();
    proxy.set(Weather::Unanswered);
    let before = commands(&mut stranger).await;
    let ask = |documents: Vec<u128>| {
        let reader = reader.clone();
        tokio::spawn(async move { get(&reader, 1, &documents).await })
    };
    let first = ask(vec![1]);
    eventually("the first is on its way", async || (commands(&mut stranger).await > before).then_some(())).await;
    let many = ask((0..600).collect());
    eventually("a full one is, too", async || (commands(&mut stranger).await > before + 1).then_some(())).await;
    // Of a few that come now, none goes by itself.
    let few: Vec<_> = (0..10).map(|document| ask(vec![document])).collect();
    proxy.set(Weather::Fine);
    assert_answers(&first.await.unwrap().unwrap(), 1, &[1]);
    assert_answers(&many.await.unwrap().unwrap(), 1, &(0..600).collect::<Vec<_>>());
    for (document, asked) in (0..).zip(few) {
        assert_answers(&asked.await.unwrap().unwrap(), 1, &[document]);
    }
}

#[test]
fn who_asks_on_a_runtime_that_has_ended_is_told_at_once() {
    let (url, instance) = (server::shared(), server::instance());
    let (ended, here) = (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    let reader = ended.block_on(server::connect(&url, &instance));
    ended.shutdown_background();
    for _ in 0..2 {
        let answer = here.block_on(get(&reader, 1, &[1]));
        assert!(matches!(answer, Err(CacheError::Unavailable(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn who_gave_up_does_not_disturb_the_others() {
    let exposed = Exposed::new().await;
    written(&exposed.writer, 1).await;
    get(&exposed.reader, 1, &[]).await.unwrap();
    exposed.proxy.set(Weather::Silent);
    let mut asking = exposed.asking(0..5).await;
    asking.extend(exposed.asking(5..10).await);
    for gave_up in [0, 2, 5, 7] {
        asking[gave_up].abort();
    }
    exposed.proxy.set(Weather::Fine);
    for (document, asking) in (0..).zip(asking) {
        match asking.await {
            Ok(answer) => assert_answers(&answer.unwrap(), 1, &[document]),
            Err(gave_up) => assert!(gave_up.is_cancelled() && [0, 2, 5, 7].contains(&document)),
        }
    }
}

#[tokio::test]
async fn a_broken_connection_fails_everybody_on_it_and_the_next_probe_makes_another() {
    let exposed = Exposed::new().await;
    exposed.proxy.set(Weather::Silent);
    let mut asking = exposed.asking(0..5).await;
    asking.extend(exposed.asking(5..10).await);
    let ended = exposed.proxy.ended();
    exposed.proxy.set(Weather::Cut);
    for asking in asking {
        let answer = timeout(DEADLINE / 2, asking).await.expect("nobody waits for the next connection").unwrap();
        assert!(matches!(answer, Err(CacheError::Unavailable(_))), "{answer:?}");
    }
    eventually("the connection is gone", async || (exposed.proxy.ended() > ended).then_some(())).await;
    let none = get(&exposed.reader, 1, &[1]).await;
    assert!(matches!(none, Err(CacheError::Unavailable(_))), "{none:?}");
    exposed.proxy.set(Weather::Fine);
    eventually("a probe connects again", async || exposed.reader.probe().await.ok()).await;
    written(&exposed.writer, 1).await;
    let asking = exposed.asking(0..10).await;
    for (document, answer) in (0..).zip(join_all(asking).await) {
        assert_answers(&answer.unwrap().unwrap(), 1, &[document]);
    }
}
