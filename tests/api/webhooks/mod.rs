//! `webhook` agents: the real server calls a receiver in the test.
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{Call, Client, Launch, Receiver, Server};

mod callbacks;
mod calls;
mod hostile;
mod interrupted;

/// A key to sign with; another one than in the standard's examples.
const KEY: &str = "whsec_Qz7PlantedQz7PlantedQz7PlantedQz7Planted";

/// A server that may call this machine, its administrator, and the secret `key`.
async fn reaching() -> (Server, Client) {
    let server = Launch::with_admin().reaching_loopback().start();
    let admin = Client::admin(&server).await;
    admin.put("/api/v1/secrets/key", &json!({ "value": KEY })).await.expect(201);
    (server, admin)
}

fn config(receiver: &Receiver, mode: &str) -> Value {
    json!({ "url": receiver.url, "secret_name": "key", "mode": mode })
}

/// An agent with attempts that come fast.
async fn hook(admin: &Client, config: Value, attempts: u32) -> String {
    let limits = json!({ "max_attempts": attempts, "backoff_initial_ms": 1, "backoff_max_ms": 1 });
    let agent = json!({ "name": "Hook", "kind": "webhook", "config": config, "limits": limits });
    admin.post("/api/v1/agents", &agent).await.expect(201).id()
}

/// As a receiver does it, with the library of the standard.
#[track_caller]
fn verify(call: &Call, key: &str) {
    let headers: &HeaderMap = &call.headers;
    Webhook::new(key).unwrap().verify(&call.body, headers).unwrap();
}

/// The code that a task ended with.
fn code(task: &Value) -> (&str, &str) {
    (task["status"].as_str().unwrap(), task["error"]["code"].as_str().unwrap_or_default())
}

/// The short types of a task's events.
async fn story(client: &Client, task: &str) -> Vec<String> {
    let events = client.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
    let short = |event: &Value| event["type"].as_str().unwrap().split('.').nth(2).unwrap().to_owned();
    events.as_array().unwrap().iter().map(short).collect()
}
