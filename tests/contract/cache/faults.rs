//! A Redis that is killed, stopped, emptied, slow or full: answers stay right, nobody waits for it, and it is told.
use marvin::{
    cache::{Cache, guarded::Guarded, publisher::Publisher, reader::Reader},
    health::{Degraded, Health},
};
use marvin_domain::Position;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use redis::cmd;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    entry, id, look,
    reading::Store,
    server::{self, Server},
    table,
};
use crate::{
    proxy::{Proxy, Weather},
    wait::eventually,
};

/// What a request may lose to the cache, whatever that does.
const ADDED_MAX: Duration = Duration::from_millis(100);

/// A node on a Redis of its own.
struct Node {
    server: Server,
    health: Health,
    guarded: Guarded,
    store: Arc<Store>,
    reader: Reader,
    publisher: Publisher,
    position: Position,
    counted: PrometheusHandle,
    _counting: metrics::LocalRecorderGuard<'static>,
}

impl Node {
    async fn new() -> Self {
        let server = Server::start().await;
        let url = server.url();
        Self::at(server, &url).await
    }

    async fn at(server: Server, url: &str) -> Self {
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let (counted, counting) = (recorder.handle(), metrics::set_default_local_recorder(recorder));
        let health = Health::default();
        let redis = marvin::cache::redis::RedisCache::new(url, "marvin", server::key()).unwrap();
        let guarded = Guarded::new(Arc::new(redis), health.clone());
        let cache: Arc<dyn Cache> = Arc::new(guarded.clone());
        let mut node = Self {
            server,
            health,
            guarded,
            store: Arc::default(),
            reader: Reader::new(cache.clone()),
            publisher: Publisher::new(cache, table(), 1),
            position: 1,
            counted,
            _counting: counting,
        };
        node.works().await;
        node
    }

    /// Changes document 1 and tells the cache; answers how long the writer was kept.
    async fn commit(&mut self) -> Duration {
        self.position += 1;
        let changed = [entry(1, self.position)];
        self.store.commit(&changed, self.position);
        let begun = Instant::now();
        self.publisher.publish(&changed, self.position).await;
        begun.elapsed()
    }

    /// Reads as one does who wants what is committed, and as one who does not; answers how long the slower took.
    async fn read(&self) -> Duration {
        let begun = Instant::now();
        assert_eq!(self.store.read(&self.reader, &[1], self.position).await.1, [self.position]);
        let first = begun.elapsed();
        self.store.read(&self.reader, &[1], 0).await;
        first.max(begun.elapsed() - first)
    }

    /// The cache is in use again, and right.
    async fn works(&mut self) {
        eventually("a document comes from the cache", async || {
            self.commit().await;
            let asked = self.store.asked();
            self.read().await;
            (self.store.asked() == asked).then_some(())
        })
        .await;
        assert!(!self.guarded.is_open() && self.health.degraded().is_empty());
        assert!(self.counted.render().contains("marvin_cache_open 0\n"));
    }

    /// The cache is away: nobody waits for it, and it is told.
    async fn is_passed_over(&mut self) {
        for _ in 0..20 {
            let (read, written) = (self.read().await, self.commit().await);
            assert!(read < ADDED_MAX, "a reader waited {read:?}");
            assert!(written < ADDED_MAX, "the writer waited {written:?}");
        }
        eventually("the cache is degraded", async || (!self.health.degraded().is_empty()).then_some(())).await;
        let degraded = Degraded { name: "cache".to_owned(), reason: "unreachable or slow".to_owned(), position: None };
        assert_eq!(self.health.degraded(), [degraded]);
        let text = self.counted.render();
        assert!(text.contains("marvin_cache_open 1\n"), "{text}");
        assert!(text.contains("marvin_cache_failures_total{call="), "{text}");
        assert!(text.contains("marvin_cache_misses_total "), "{text}");
    }
}

#[tokio::test]
async fn a_stopped_redis_delays_nobody_and_is_used_again_when_it_goes_on() {
    let mut node = Node::new().await;
    node.server.pause();
    node.is_passed_over().await;
    node.server.go_on();
    node.works().await;
    // Now the writer finds it first.
    node.server.pause();
    let written = node.commit().await;
    assert!(written < ADDED_MAX, "the writer waited {written:?}");
    node.is_passed_over().await;
    node.server.go_on();
    node.works().await;
}

/// As a server does with one that was idle for long.
#[tokio::test]
async fn a_connection_that_redis_closed_is_made_anew_without_an_alarm() {
    let mut node = Node::new().await;
    let mut stranger = server::stranger(&node.server.url()).await;
    for _ in 0..5 {
        cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes").exec_async(&mut stranger).await.unwrap();
        eventually("the connection is found closed and made anew", async || {
            node.commit().await;
            assert_eq!(node.health.degraded(), []);
            (look_at(&node).await == Some(node.position)).then_some(())
        })
        .await;
    }
}

async fn look_at(node: &Node) -> Option<Position> {
    node.guarded.get(&table(), &[id(1)]).await.ok()?.head.map(|head| head.position)
}

#[tokio::test]
async fn a_killed_redis_delays_nobody_and_is_used_again_when_it_is_back() {
    let mut node = Node::new().await;
    node.server.kill();
    node.is_passed_over().await;
    node.server.restart();
    node.works().await;
}

#[tokio::test]
async fn a_redis_that_answers_late_is_passed_over_until_it_does_not() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let url = format!("redis://{}", proxy.address);
    let mut node = Node::at(server, &url).await;
    proxy.set(Weather::Slow(Duration::from_millis(200)));
    node.is_passed_over().await;
    proxy.set(Weather::Fine);
    node.works().await;
}

#[tokio::test]
async fn a_redis_that_cannot_be_reached_is_passed_over_until_it_can() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let url = format!("redis://{}", proxy.address);
    let mut node = Node::at(server, &url).await;
    for weather in [Weather::Silent, Weather::Lost, Weather::Cut, Weather::AnswersCut] {
        proxy.set(weather);
        node.is_passed_over().await;
        proxy.set(Weather::Fine);
        node.works().await;
    }
}

/// Reads work there, and a probe that only asked would find it well.
#[tokio::test]
async fn a_redis_that_takes_nothing_more_is_passed_over_until_it_does() {
    let mut node = Node::new().await;
    let mut stranger = server::stranger(&node.server.url()).await;
    cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec_async(&mut stranger).await.unwrap();
    node.is_passed_over().await;
    cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec_async(&mut stranger).await.unwrap();
    node.works().await;
}

#[tokio::test]
async fn a_redis_that_was_emptied_answers_nothing_until_the_writer_begins_anew() {
    let mut node = Node::new().await;
    let mut stranger = server::stranger(&node.server.url()).await;
    for _ in 0..20 {
        cmd("FLUSHALL").exec_async(&mut stranger).await.unwrap();
        assert_eq!(look(&node.guarded, &[1]).await, (None, vec![]));
        assert_eq!(node.store.read(&node.reader, &[1], 0).await.1, [node.position]);
        node.commit().await;
        assert_eq!(node.store.read(&node.reader, &[1], 0).await, (node.position, vec![node.position]));
    }
    node.works().await;
    assert!(node.health.degraded().is_empty(), "nothing failed");
}

/// Emptied and stopped again and again under readers and a writer: who knows of a change always sees it.
#[tokio::test]
async fn no_reader_sees_less_than_it_knows_of_whatever_happens_to_redis() {
    const ROUNDS: usize = 12;
    let mut node = Node::new().await;
    let mut stranger = server::stranger(&node.server.url()).await;
    let (known, knowing) = tokio::sync::watch::channel(node.position);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, reader, knowing) = (node.store.clone(), node.reader.clone(), knowing.clone());
            tokio::spawn(async move {
                let mut reads = 0;
                while knowing.has_changed().is_ok() {
                    let least = *knowing.borrow();
                    let (position, documents) = store.read(&reader, &[1], least).await;
                    assert!(position >= least && documents[0] >= least, "{documents:?} at {position}, not {least}");
                    reads += 1;
                    tokio::task::yield_now().await;
                }
                reads
            })
        })
        .collect();
    for round in 0..ROUNDS {
        for _ in 0..50 {
            node.commit().await;
            known.send_replace(node.position);
        }
        match round % 3 {
            0 => cmd("FLUSHALL").exec_async(&mut stranger).await.unwrap(),
            1 => {
                node.server.pause();
                node.commit().await;
                node.server.go_on();
            }
            _ => {
                node.server.kill();
                node.commit().await;
                node.server.restart();
                stranger = server::stranger(&node.server.url()).await;
            }
        }
    }
    node.works().await;
    drop((known, knowing));
    for reader in readers {
        assert!(reader.await.unwrap() > 100);
    }
}

#[tokio::test]
async fn without_a_redis_from_the_start_everything_works_without_it() {
    let mut server = Server::start().await;
    server.kill();
    let health = Health::default();
    let redis = marvin::cache::redis::RedisCache::new(&server.url(), "marvin", server::key()).unwrap();
    let guarded = Guarded::new(Arc::new(redis), health.clone());
    assert!(guarded.get(&table(), &[id(1)]).await.is_err());
    eventually("the cache is degraded", async || (health.degraded().len() == 1).then_some(())).await;
    server.restart();
    eventually("the cache is well", async || (!guarded.is_open()).then_some(())).await;
    assert!(health.degraded().is_empty());
}
