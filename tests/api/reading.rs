//! Reading one's own writes: `Marvin-Min-Position` on queries.
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};

use crate::support::{Client, Server, user};

#[tokio::test]
async fn who_asks_for_the_position_of_a_command_sees_what_it_did() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    for number in 0..20 {
        let name = format!("Agent {number}");
        let body = json!({ "name": name, "kind": "rules", "config": { "rules": [] } });
        let made = admin.post("/api/v1/agents", &body).await.expect(201);
        let path = format!("/api/v1/agents/{}", made.id());
        assert_eq!(admin.get_at(&path, made.position()).await.expect(200).json()["name"], name);
        let paused = admin.order(&format!("{path}/pause")).await.expect(200);
        let listed = admin.get_at("/api/v1/agents?status=paused", paused.position()).await.expect(200);
        assert!(listed.position() >= paused.position() && listed.items()[0]["id"] == made.id());
        let task = admin.submit(&made.id(), json!(number)).await;
        let shown = admin.get_at(&format!("/api/v1/tasks/{}", task.id()), task.position()).await.expect(200);
        assert_eq!((shown.json()["input"].clone(), shown.json()["status"].clone()), (json!(number), json!("queued")));
        let listed = admin.get_at("/api/v1/tasks", task.position()).await.expect(200).items();
        assert_eq!(listed[0]["id"], task.id());
        let query = format!("/api/v1/events?after={}", task.position() - 1);
        let events = admin.get_at(&query, task.position()).await.expect(200).json();
        assert_eq!(events[0]["position"], task.position().to_string());
        assert_eq!(admin.get(&format!("/api/v1/events?after={}", task.position())).await.expect(200).json(), json!([]));
    }
    let bob = admin.post("/api/v1/users", &user("bob@example.org", "Bob", &["member"])).await.expect(201);
    assert_eq!(admin.get_at("/api/v1/users", bob.position()).await.expect(200).items()[0]["id"], bob.id());
}

/// Every query that answers from the log or a view of it.
fn queries(admin: &Client, agent: &str, task: &str) -> Vec<String> {
    let user = admin.user_id();
    vec![
        "/api/v1/session".into(),
        "/api/v1/users".into(),
        format!("/api/v1/users/{user}"),
        format!("/api/v1/users/{user}/history"),
        "/api/v1/agents".into(),
        format!("/api/v1/agents/{agent}"),
        format!("/api/v1/agents/{agent}/history"),
        "/api/v1/tasks".into(),
        format!("/api/v1/tasks/{task}"),
        format!("/api/v1/tasks/{task}/history"),
        "/api/v1/notifications".into(),
        "/api/v1/events".into(),
    ]
}

#[tokio::test]
async fn a_position_that_nothing_reaches_is_503_after_about_five_seconds_on_every_query() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    let waits: Vec<_> = queries(&admin, &agent, &task)
        .into_iter()
        .map(|path| {
            let admin = admin.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                (admin.get_at(&path, 1_000_000).await, begun.elapsed(), path)
            })
        })
        .collect();
    for wait in waits {
        let (answer, waited, path) = wait.await.unwrap();
        assert_eq!(answer.problem(503)["status"], 503, "{path}");
        assert_eq!(answer.header("retry-after"), "1", "{path}");
        assert!((Duration::from_millis(4_900)..Duration::from_secs(10)).contains(&waited), "{path}: {waited:?}");
    }
}

#[tokio::test]
async fn every_query_tells_how_far_it_is_and_refuses_what_is_no_position() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let task = admin.task_done(&agent, json!(1)).await["id"].as_str().unwrap().to_owned();
    for path in queries(&admin, &agent, &task) {
        let answer = admin.get_at(&path, 1).await.expect(200);
        assert!(answer.position() >= 1, "{path}");
        for bad in ["", "-1", "+1", "1.0", "x", "18446744073709551616", "1, 2"] {
            let request = admin.request(Method::GET, &path).header("marvin-min-position", bad);
            assert_eq!(admin.send(request).await.problem(400)["status"], 400, "{path}: {bad:?}");
        }
    }
}
