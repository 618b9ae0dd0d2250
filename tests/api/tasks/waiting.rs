//! Why a task waits, as its list and its own answer say it.
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::rules;
use crate::support::{Answer, Client, Launch, Receiver, Reply, Server, eventually};

fn word(task: &Value) -> &str {
    task["waiting_reason"].as_str().and_then(|reason| reason.split_once(": ")).map_or("", |(word, _)| word)
}

fn reason(task: &Value) -> &str {
    task["waiting_reason"].as_str().unwrap_or_default()
}

/// The task as of when this was answered.
async fn shown(client: &Client, at: &Answer, task: &str) -> Value {
    client.get_at(&format!("/api/v1/tasks/{task}"), at.position()).await.expect(200).json()
}

/// The tasks of an agent as its list shows them, by when they were given.
async fn listed(client: &Client, at: &Answer, agent: &str) -> Vec<Value> {
    let mut items = client.get_at(&format!("/api/v1/tasks?agent_id={agent}"), at.position()).await.expect(200).items();
    items.reverse();
    items
}

async fn worker_agent(admin: &Client, limits: Value) -> String {
    let agent = json!({ "name": "Outside", "kind": "worker", "config": {}, "limits": limits });
    admin.post("/api/v1/agents", &agent).await.expect(201).id()
}

#[tokio::test]
async fn a_task_of_a_paused_agent_waits_for_the_agent_until_it_is_resumed() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", rules("true", json!([]))).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let given = admin.submit(&agent, json!({})).await;
    let task = shown(&admin, &given, &given.id()).await;
    assert_eq!((task["status"].as_str(), word(&task)), (Some("queued"), "agent_paused"), "{task}");
    assert_eq!(listed(&admin, &given, &agent).await[0]["waiting_reason"], task["waiting_reason"]);
    let resumed = admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    let task = shown(&admin, &resumed, &given.id()).await;
    assert_ne!(word(&task), "agent_paused", "the agent is asked as of the position that was asked for");
    let done = admin.task_ended(&given.id()).await;
    assert_eq!((&done["status"], &done["waiting_reason"]), (&json!("completed"), &Value::Null));
}

#[tokio::test]
async fn a_task_says_its_place_in_line_by_priority_then_age_and_that_the_limit_is_reached() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({ "max_concurrency": 1 })).await;
    let path = format!("/api/v1/agents/{agent}/tasks");
    let mut given = Vec::new();
    for priority in [5, 1, 5, 9] {
        given.push(admin.post(&path, &json!({ "input": {}, "priority": priority })).await.expect(202));
    }
    let last = given.last().unwrap();
    let before = [(0, "number 2 in line"), (1, "number 4 in line"), (2, "number 3 in line"), (3, "next in line")];
    for (number, place) in before {
        let task = shown(&admin, last, &given[number].id()).await;
        assert_eq!(word(&task), "waiting_for_worker", "{task}");
        assert!(reason(&task).contains(place), "{number}: {task}");
    }
    let lease = format!("/api/v1/agents/{agent}/lease");
    let leased = admin.post(&lease, &json!({ "max": 4, "wait_s": 0 })).await.expect(200).json();
    assert_eq!(leased["tasks"].as_array().unwrap().len(), 1);
    let running = admin.head().await;
    let at_head = admin.get_at(&format!("/api/v1/tasks/{}", given[3].id()), running).await.expect(200);
    assert_eq!((&at_head.json()["status"], &at_head.json()["waiting_reason"]), (&json!("running"), &Value::Null));
    let task = shown(&admin, &at_head, &given[2].id()).await;
    assert_eq!(word(&task), "limit_reached", "{task}");
    assert!(reason(&task).contains("1 of at most 1") && reason(&task).contains("number 2 in line"), "{task}");
    let listed = listed(&admin, &at_head, &agent).await;
    assert_eq!(listed.iter().map(word).collect::<Vec<_>>(), ["limit_reached", "limit_reached", "limit_reached", ""]);
    assert_eq!(listed[2]["waiting_reason"], task["waiting_reason"], "a list says it as the task itself does");
}

#[tokio::test]
async fn a_task_that_is_tried_again_later_says_when() {
    let receiver = Receiver::start(|_, _| Reply::status(503, "")).await;
    let server = Launch::with_admin().reaching_loopback().start();
    let admin = Client::admin(&server).await;
    let limits = json!({ "backoff_initial_ms": 3_600_000, "backoff_max_ms": 3_600_000 });
    let config = json!({ "url": receiver.url, "mode": "sync" });
    let agent = json!({ "name": "Hook", "kind": "webhook", "config": config, "limits": limits });
    let agent = admin.post("/api/v1/agents", &agent).await.expect(201).id();
    // A random share of an hour: almost never is it over while this is looked at.
    let given = admin.submit(&agent, json!({})).await;
    let task = eventually("the task waits for its second attempt", async || {
        let task = shown(&admin, &given, &given.id()).await;
        (task["status"] == "retrying").then_some(task)
    })
    .await;
    assert_eq!(word(&task), "backoff", "{task}");
    assert!(reason(&task).contains("Attempt 2"), "{task}");
    let at = reason(&task).split(' ').find_map(|word| DateTime::parse_from_rfc3339(word).ok()).unwrap();
    let ahead = at.to_utc() - Utc::now();
    assert!(ahead.num_seconds() <= 3_600, "{task}");
    let paused = admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    assert_eq!(word(&shown(&admin, &paused, &given.id()).await), "agent_paused", "what is paused is not tried again");
}

/// More than are counted.
#[tokio::test]
async fn a_task_far_behind_in_line_says_how_many_are_before_it_at_least() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let mut given = Vec::new();
    for _ in 0..=100 {
        given.push(admin.submit(&agent, json!({})).await);
    }
    let last = given.last().unwrap();
    assert!(reason(&shown(&admin, last, &given[99].id()).await).contains("number 100 in line"));
    assert!(reason(&shown(&admin, last, &last.id()).await).contains("At least 100 tasks are before it"));
}

#[tokio::test]
async fn a_page_with_tasks_of_many_agents_says_why_each_of_them_waits() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let mut last = None;
    for number in 0..12 {
        let agent = worker_agent(&admin, json!({})).await;
        if number % 2 == 0 {
            admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
        }
        last = Some(admin.submit(&agent, json!({})).await);
    }
    let tasks = admin.get_at("/api/v1/tasks", last.unwrap().position()).await.expect(200).items();
    let words: Vec<&str> = tasks.iter().rev().map(word).collect();
    assert_eq!(words, ["agent_paused", "waiting_for_worker"].repeat(6));
}
