//! Tasks: done by rules and by forecasts, cancelled, retried, ordered, listed.
use serde_json::{Value, json};

use crate::support::{Client, eventually};

mod ends;
mod order;
mod waiting;
mod work;

fn rules(when: &str, then: Value) -> Value {
    json!({ "rules": [{ "name": "big order", "when": when, "then": then }] })
}

fn notify(to: &str) -> Value {
    json!({ "notify": { "to": to, "severity": "warning", "title": "Big: {{ input.amount }}", "body": "By {{ agent.name }}" } })
}

async fn events_of(client: &Client, task: &str) -> Vec<Value> {
    let history = client.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
    history.as_array().unwrap().clone()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Notifications of whoever asks with this severity, as soon as there are `count`.
async fn inbox(client: &Client, severity: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} notifications of severity {severity}"), async || {
        let items = client.get("/api/v1/notifications").await.expect(200).items();
        let items: Vec<_> = items.into_iter().filter(|item| item["severity"] == severity).collect();
        (items.len() >= count).then_some(items)
    })
    .await
}
