//! What is in a Redis that several read: of a person who was erased nothing, and of a node that was killed nothing old.
use ::redis::{AsyncCommands, cmd};
use serde_json::json;
use std::fs;

use super::{HITS, Scene};
use crate::support::{Client, Database, Launch, Metrics, eventually, redis};

#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_is_read_from_no_cache_also_where_an_older_one_is_written_back() {
    let scene = Scene::start().await;
    let person = scene.admin.colleague("person", &["member"]).await;
    let task = person.submit(&scene.agent, json!({ "marker": "words of a person" })).await.id();
    assert_eq!(scene.admin.task_ended(&task).await["input"]["marker"], "words of a person");
    let path = format!("/api/v1/tasks/{task}");
    let mut stranger = scene.stranger().await;
    let id = task.replace('-', "");
    let kept = eventually("the task stands in Redis", async || {
        let before = scene.counted().await.sum(HITS);
        scene.admin.get(&path).await.expect(200);
        let keys: Vec<String> = stranger.clone().keys(format!("*:cache:tasks:*{id}")).await.unwrap();
        let is_read = scene.counted().await.sum(HITS) > before;
        (is_read && !keys.is_empty()).then_some(keys)
    })
    .await;
    let mut old = Vec::new();
    for key in kept.iter().flat_map(|key| [key.clone(), format!("{key}:mark")]) {
        let bytes: Vec<u8> = stranger.get(&key).await.unwrap();
        old.push((key, bytes));
    }
    scene.admin.delete(&format!("/api/v1/users/{}", person.user_id())).await.expect(200);
    let words_are_gone = async || {
        let task = scene.admin.get(&path).await.expect(200).json();
        (task["input"].is_null() && task["erased"] == true).then_some(())
    };
    eventually("the words are gone", words_are_gone).await;
    for _ in 0..5 {
        for (key, bytes) in &old {
            cmd("SET").arg(key).arg(bytes).arg("PX").arg(60_000).exec_async(&mut stranger).await.unwrap();
        }
        words_are_gone().await.expect("nothing brings them back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_what_another_one_changed_also_once_that_was_killed() {
    let (redis, database) = (redis::Server::start().await, Database::shared());
    let node = || {
        let launch = Launch::with_admin().on(&database).set("MARVIN_REDIS_URL", &redis.url());
        launch.set("MARVIN_METRICS_LISTEN", "127.0.0.1:0")
    };
    let first = node().start();
    let second = node();
    fs::copy(first.data_dir().join("master.key"), second.data_dir().join("master.key")).unwrap();
    let second = second.start();
    let here = Client::admin(&first).await;
    let there = here.at(&second);
    let path = format!("/api/v1/agents/{}", here.agent("rules", json!({ "rules": [] })).await);
    let changed = async |by: &Client, number: usize| {
        let name = format!("Agent {number}");
        let position = by.patch(&path, &json!({ "name": name })).await.expect(200).position();
        (name, position)
    };
    for number in 0..20 {
        let (one, other) = if number % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let (name, position) = changed(one, number).await;
        assert_eq!(other.get_at(&path, position).await.expect(200).json()["name"], name);
    }
    eventually("both read from Redis", async || {
        let before = Metrics::of(&second).await.sum(HITS);
        there.get(&path).await.expect(200);
        (Metrics::of(&second).await.sum(HITS) > before).then_some(())
    })
    .await;
    first.kill9();
    for number in 20..30 {
        let (name, position) = changed(&there, number).await;
        let seen = eventually("the other one took over", async || {
            let answer = there.get_at(&path, position).await;
            (answer.status == 200).then(|| answer.json()["name"].clone())
        });
        assert_eq!(seen.await, name);
        assert_eq!(there.get(&path).await.expect(200).json()["name"], name, "what was seen is not unseen");
    }
    eventually("it comes from Redis again", async || {
        let before = Metrics::of(&second).await.sum(HITS);
        there.get(&path).await.expect(200);
        (Metrics::of(&second).await.sum(HITS) > before).then_some(())
    })
    .await;
}
