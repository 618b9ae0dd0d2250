//! A writer's put that is late or whose answer is lost.
use marvin::cache::{Cache, CacheError, Tenure, redis::RedisCache};
use redis::{AsyncCommands, aio::MultiplexedConnection, cmd};
use std::sync::Arc;
use tokio::task::JoinHandle;

use super::{
    entry, look,
    server::{self, Server},
    table,
};
use crate::{
    proxy::{Proxy, Weather},
    wait::eventually,
};

/// A writer that reaches Redis through a proxy, and a reader around it.
struct Exposed {
    proxy: Proxy,
    writer: Arc<RedisCache>,
    reader: RedisCache,
    stranger: MultiplexedConnection,
    head: String,
}

impl Exposed {
    async fn new() -> Self {
        let (url, instance) = (server::shared(), server::instance());
        let proxy = Proxy::to(url.trim_start_matches("redis://").to_owned()).await;
        let writer = server::connect(&format!("redis://{}", proxy.address), &instance).await;
        let (reader, stranger) = (server::connect(&url, &instance).await, server::stranger(&url).await);
        Self { proxy, writer: Arc::new(writer), reader, stranger, head: format!("{instance}:cache:tasks:1:1:head") }
    }

    /// Document 1 is cached at position 5.
    async fn begun(&self) -> Tenure {
        let tenure = self.writer.begin(&table(), 1, 4).await.unwrap();
        self.writer.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap()
    }

    fn put(&self, tenure: &Tenure, position: u64) -> JoinHandle<Result<Tenure, CacheError>> {
        let (writer, tenure) = (self.writer.clone(), tenure.clone());
        tokio::spawn(async move { writer.put(&table(), &tenure, &[entry(1, position)], position).await })
    }

    async fn left_ms(&self) -> i64 {
        self.stranger.clone().pttl(&self.head).await.unwrap()
    }
}

#[tokio::test]
async fn a_put_that_comes_after_its_writer_began_anew_does_nothing() {
    let exposed = Exposed::new().await;
    let tenure = exposed.begun().await;
    exposed.proxy.set(Weather::Silent);
    let late = exposed.put(&tenure, 6);
    // The same node on another connection, once it gave up.
    tokio::task::yield_now().await;
    exposed.reader.begin(&table(), 1, 7).await.unwrap();
    exposed.proxy.set(Weather::Fine);
    let late = late.await.unwrap();
    assert!(matches!(late, Err(CacheError::Lost)), "{late:?}");
    assert_eq!(look(&exposed.reader, &[1]).await, (Some(7), vec![None]));
}

#[tokio::test]
async fn a_put_that_comes_late_leaves_a_head_that_expires_as_if_it_had_come_in_time() {
    let exposed = Exposed::new().await;
    let tenure = exposed.begun().await;
    exposed.proxy.set(Weather::Silent);
    let late = exposed.put(&tenure, 6);
    let half = async || (exposed.left_ms().await < 1_400).then_some(());
    eventually("the head has lived for a while", half).await;
    exposed.proxy.set(Weather::Fine);
    late.await.unwrap().unwrap();
    assert_eq!(look(&exposed.reader, &[1]).await, (Some(6), vec![Some(6)]));
    let left_ms = exposed.left_ms().await;
    assert!(left_ms < 1_500, "{left_ms} ms are left, though it was sent more than half a second ago");
}

#[tokio::test]
async fn a_put_that_comes_after_its_head_expired_does_nothing() {
    let exposed = Exposed::new().await;
    let tenure = exposed.begun().await;
    exposed.proxy.set(Weather::Silent);
    let late = exposed.put(&tenure, 6);
    eventually("the head expires", async || (exposed.left_ms().await < 0).then_some(())).await;
    exposed.proxy.set(Weather::Fine);
    // Nobody waited that long for an answer.
    late.await.unwrap().unwrap_err();
    exposed.writer.probe().await.ok();
    assert_eq!(look(&exposed.reader, &[1]).await, (None, vec![]));
    exposed.reader.begin(&table(), 1, 7).await.unwrap();
    assert_eq!(look(&exposed.reader, &[1]).await, (Some(7), vec![None]));
}

#[tokio::test]
async fn a_put_that_was_done_without_an_answer_is_in_order() {
    let exposed = Exposed::new().await;
    let tenure = exposed.begun().await;
    exposed.proxy.set(Weather::AnswersCut);
    let outcome = exposed.put(&tenure, 6).await.unwrap();
    assert!(matches!(outcome, Err(CacheError::Unavailable(_))), "{outcome:?}");
    assert_eq!(look(&exposed.reader, &[1]).await, (Some(6), vec![Some(6)]));
    let again = exposed.put(&tenure, 7).await.unwrap();
    assert!(
        matches!(again, Err(CacheError::Unavailable(_))),
        "nothing is sent on a connection that is gone: {again:?}"
    );
    exposed.proxy.set(Weather::Fine);
    eventually("a probe connects again", async || exposed.writer.probe().await.ok()).await;
    let again = exposed.put(&tenure, 7).await.unwrap();
    assert!(matches!(again, Err(CacheError::Lost)), "{again:?}");
    assert_eq!(look(&exposed.reader, &[1]).await, (Some(6), vec![Some(6)]));
}

/// Both have seen that there is no head.
#[tokio::test]
async fn of_two_that_begin_at_once_the_later_does_not() {
    let server = Server::start().await;
    let (one, other) = (server::connect(&server.url(), "t").await, server::connect(&server.url(), "t").await);
    let mut stranger = server::stranger(&server.url()).await;
    // What is only read is answered meanwhile.
    cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").exec_async(&mut stranger).await.unwrap();
    let begin = |cache: RedisCache| {
        tokio::spawn(async move { cache.begin(&table(), 1, 4).await.map(|tenure| (cache, tenure)) })
    };
    let (first, second) = (begin(one), begin(other));
    eventually("both want to write", async || {
        let clients: String = cmd("CLIENT").arg("LIST").query_async(&mut stranger).await.unwrap();
        (clients.matches("flags=b").count() == 2).then_some(())
    })
    .await;
    cmd("CLIENT").arg("UNPAUSE").exec_async(&mut stranger).await.unwrap();
    let (winner, lost) = match (first.await.unwrap(), second.await.unwrap()) {
        (Ok(winner), Err(lost)) | (Err(lost), Ok(winner)) => (winner, lost),
        both => panic!("not one of two: {:?}", (both.0.is_ok(), both.1.is_ok())),
    };
    assert!(matches!(lost, CacheError::Lost), "{lost:?}");
    winner.0.put(&table(), &winner.1, &[entry(1, 5)], 5).await.unwrap();
}
