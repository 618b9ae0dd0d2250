//! A Redis that is emptied, killed, stopped, slow, or away from the start.
use ::redis::cmd;
use rstest::rstest;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{ANSWER_MAX, FAILURES, HITS, Scene};
use crate::support::{
    eventually,
    proxy::{Proxy, Weather},
    redis,
};

/// Looks while Redis is stopped.
const LOOKS: usize = 200;
/// Calls that may fail before everybody passes Redis over: those that are under way by then. Each of the five tables may have a put,
/// and one reader a look, a lease and a fill.
const FAILED_CALLS_MAX: u64 = 8;
/// Readers that look all the time.
const READERS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_from_redis_while_it_is_well() {
    let mut scene = Scene::start().await;
    let id = scene.agent.replace('-', "");
    for _ in 0..3 {
        scene.change().await;
        scene.is_used().await;
        assert!(!scene.keys(|key| key.ends_with(":head")).await.is_empty());
        assert!(!scene.keys(|key| key.ends_with(&id)).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_emptied_costs_nothing_but_time() {
    let mut scene = Scene::start().await;
    let mut stranger = scene.stranger().await;
    for _ in 0..10 {
        cmd("FLUSHALL").exec_async(&mut stranger).await.unwrap();
        scene.shows().await;
        scene.change().await;
        scene.shows().await;
    }
    cmd("FLUSHALL").exec_async(&mut stranger).await.unwrap();
    scene.sessions_hold().await;
    scene.is_used().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_passed_over_and_used_again_when_it_is_back() {
    let mut scene = Scene::start().await;
    for _ in 0..2 {
        scene.redis.kill();
        scene.is_passed_over().await;
        scene.redis.restart();
        scene.is_used().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_redis_is_passed_over_and_used_again_when_it_goes_on() {
    let mut scene = Scene::start().await;
    for _ in 0..2 {
        scene.redis.pause();
        scene.is_passed_over().await;
        scene.redis.go_on();
        scene.is_used().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_answers_late_is_passed_over_until_it_does_not() {
    let redis = redis::Server::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let mut scene = Scene::at(redis, &format!("redis://{}", proxy.address)).await;
    scene.is_used().await;
    proxy.set(Weather::Slow(Duration::from_millis(200)));
    scene.is_passed_over().await;
    proxy.set(Weather::Fine);
    scene.is_used().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_redis_that_stays_stopped() {
    let scene = Scene::start().await;
    scene.redis.pause();
    let mut slowest = Duration::ZERO;
    for look in 0..LOOKS {
        let begun = Instant::now();
        let answer = match look % 2 {
            0 => scene.guest.get(&scene.path()).await,
            _ => scene.admin.get_at(&scene.path(), scene.position).await,
        };
        answer.expect(200);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < ANSWER_MAX, "the slowest of {LOOKS} looks took {slowest:?}");
    let failed = scene.counted().await.sum(FAILURES) - scene.failures;
    assert!((1..=FAILED_CALLS_MAX).contains(&failed), "{failed} calls of Redis failed");
    scene.is_told().await;
}

#[rstest]
#[case::killed(redis::Server::kill)]
#[case::stopped(|redis: &mut redis::Server| redis.pause())]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_without_its_redis_serves_and_uses_it_once_it_is_there(
    #[case] take_away: fn(&mut redis::Server),
) {
    let mut redis = redis::Server::start().await;
    take_away(&mut redis);
    let url = redis.url();
    let mut scene = Scene::at(redis, &url).await;
    scene.shows().await;
    scene.is_told().await;
    scene.sessions_hold().await;
    scene.redis.restart();
    scene.is_used().await;
}

/// Who knows of a change sees it, by whichever way it comes.
#[tokio::test(flavor = "multi_thread")]
async fn no_reader_sees_less_than_before_whatever_happens_to_redis() {
    let mut scene = Scene::start().await;
    let (known, knowing) = tokio::sync::watch::channel(scene.changes);
    let over = AtomicBool::new(false);
    let (guest, path) = (scene.guest.clone(), scene.path());
    let reading = async || {
        let mut looks = 0;
        while !over.load(Ordering::SeqCst) {
            let least = *knowing.borrow();
            let name = guest.get(&path).await.expect(200).json()["name"].as_str().unwrap().to_owned();
            let seen: usize = name.strip_prefix("Agent ").unwrap().parse().unwrap();
            assert!(seen >= least, "{name} is older than {least}, which was seen before");
            looks += 1;
        }
        looks
    };
    let harming = async {
        for round in 0..9 {
            for step in 0..10 {
                match (round % 3, step) {
                    (0, _) => cmd("FLUSHALL").exec_async(&mut scene.stranger().await).await.unwrap(),
                    (1, 2) => scene.redis.pause(),
                    (1, 6) => scene.redis.go_on(),
                    (2, 2) => scene.redis.kill(),
                    (2, 6) => scene.redis.restart(),
                    _ => {}
                }
                scene.change().await;
                scene.shows().await;
                known.send_replace(scene.changes);
            }
            eventually("Redis is used again", async || {
                let before = scene.counted().await.sum(HITS);
                scene.shows().await;
                (scene.counted().await.sum(HITS) > before).then_some(())
            })
            .await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let (looks, ()) = tokio::join!(futures_util::future::join_all((0..READERS).map(|_| reading())), harming);
    assert!(looks.iter().all(|looks| *looks > 50), "{looks:?}");
    scene.is_used().await;
}
