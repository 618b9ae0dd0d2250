//! A whole server with a Redis of the test's own, which is taken away, slowed down and written over: whoever asks the server sees
//! what is true, soon, and stays signed in or out; and the server says what it does without.
use ::redis::{AsyncCommands, aio::MultiplexedConnection};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use super::support::{Client, Launch, Metrics, PASSWORD, Server, eventually, redis};

mod faults;
mod planted;
mod shared;

/// How soon what a view has reached is answered, whatever Redis does. It may add 100 ms; the rest is for a debug build on a busy
/// machine. Less than the second after which a call of Redis ends by itself.
const ANSWER_MAX: Duration = Duration::from_millis(900);
/// Changes that are made and read while Redis is not well.
const ROUNDS: usize = 10;

const GUEST: &str = "guest@example.org";
const HITS: &str = "marvin_cache_hits_total";
const MISSES: &str = "marvin_cache_misses_total";
const FAILURES: &str = "marvin_cache_failures_total";
const OPEN: &str = "marvin_cache_open";

/// A server, its Redis, and people who read an agent that keeps changing.
struct Scene {
    redis: redis::Server,
    server: Server,
    admin: Client,
    guest: Client,
    /// Sessions of guests who have signed out.
    ended: Vec<Client>,
    agent: String,
    changes: usize,
    /// Of the last change.
    position: u64,
    /// Failed calls, counted when Redis was last seen in use.
    failures: u64,
}

impl Scene {
    async fn start() -> Self {
        let redis = redis::Server::start().await;
        let url = redis.url();
        let mut scene = Self::at(redis, &url).await;
        scene.is_used().await;
        scene
    }

    /// With a Redis that is reached at `url`, and may be away.
    async fn at(redis: redis::Server, url: &str) -> Self {
        let launch = Launch::with_admin().set("MARVIN_REDIS_URL", url).set("MARVIN_METRICS_LISTEN", "127.0.0.1:0");
        let server = launch.start();
        let admin = Client::admin(&server).await;
        let guest = admin.colleague("guest", &["member"]).await;
        let agent = admin.agent("rules", json!({ "rules": [] })).await;
        let mut scene =
            Self { redis, server, admin, guest, ended: vec![], agent, changes: 0, position: 0, failures: 0 };
        scene.change().await;
        scene
    }

    /// A connection to Redis that knows nothing of Marvin.
    async fn stranger(&self) -> MultiplexedConnection {
        redis::stranger(&self.redis.url()).await
    }

    /// The keys in Redis of the agent's documents, with their marks, or of the heads above them.
    async fn keys(&self, of: impl Fn(&str) -> bool) -> Vec<String> {
        let keys: Vec<String> = self.stranger().await.keys("*:cache:agents:*").await.unwrap();
        keys.into_iter().filter(|key| of(key)).collect()
    }

    async fn counted(&self) -> Metrics {
        Metrics::of(&self.server).await
    }

    fn path(&self) -> String {
        format!("/api/v1/agents/{}", self.agent)
    }

    /// Gives the agent another name.
    async fn change(&mut self) {
        self.changes += 1;
        let change = json!({ "name": format!("Agent {}", self.changes) });
        self.position = self.admin.patch(&self.path(), &change).await.expect(200).position();
    }

    /// Everybody sees the last change, and soon once the view has it.
    async fn shows(&self) {
        let (path, name) = (self.path(), format!("Agent {}", self.changes));
        let who_changed_it = self.admin.get_at(&path, self.position).await.expect(200);
        assert_eq!(who_changed_it.json()["name"], name);
        let begun = Instant::now();
        let who_just_asks = self.guest.get(&path).await.expect(200);
        assert_eq!(who_just_asks.json()["name"], name);
        let again = self.admin.get_at(&path, self.position).await.expect(200);
        assert_eq!(again.json()["name"], name);
        let took = begun.elapsed();
        assert!(took < ANSWER_MAX, "two answers took {took:?}");
    }

    async fn degraded(&self) -> Value {
        Client::stranger(&self.server).get("/readyz").await.expect(200).json()["degraded"].clone()
    }

    /// Documents come from Redis, and nothing is said of it.
    async fn is_used(&mut self) {
        self.comes_from_redis().await;
        self.sessions_hold().await;
        eventually("the cache is well", async || {
            let before = self.counted().await;
            self.shows().await;
            let after = self.counted().await;
            let is_used = after.sum(HITS) > before.sum(HITS) && after.sum(OPEN) == 0;
            self.failures = before.sum(FAILURES);
            (is_used && self.degraded().await == json!([])).then_some(())
        })
        .await;
    }

    /// The agent as it is now stands in Redis, and is shown from there.
    async fn comes_from_redis(&self) {
        eventually("the agent comes from Redis", async || {
            let before = self.counted().await;
            self.shows().await;
            let after = self.counted().await;
            (after.sum(HITS) >= before.sum(HITS) + 3 && after.sum(MISSES) == before.sum(MISSES)).then_some(())
        })
        .await;
    }

    /// What changes is shown as ever without Redis, and that it is away or slow is told and counted.
    async fn is_passed_over(&mut self) {
        for _ in 0..ROUNDS {
            self.change().await;
            self.shows().await;
        }
        self.is_told().await;
        assert!(self.counted().await.sum(FAILURES) > self.failures);
        self.sessions_hold().await;
        self.change().await;
        self.shows().await;
    }

    async fn is_told(&self) {
        let told = json!([{ "name": "cache", "reason": "unreachable or slow" }]);
        eventually("the cache is degraded", async || (self.degraded().await == told).then_some(())).await;
        assert_eq!(self.counted().await.sum(OPEN), 1);
    }

    /// A session that ended stays ended, and a live one stays live.
    async fn sessions_hold(&mut self) {
        let next = Client::sign_in(&self.server, GUEST, PASSWORD).await;
        let guest = std::mem::replace(&mut self.guest, next);
        guest.get("/api/v1/session").await.expect(200);
        guest.delete("/api/v1/session").await.expect(204);
        self.ended.push(guest);
        for ended in &self.ended {
            for path in ["/api/v1/session", &self.path()] {
                ended.get(path).await.problem(401);
            }
        }
        for live in [&self.admin, &self.guest] {
            live.get("/api/v1/session").await.expect(200);
        }
    }
}
