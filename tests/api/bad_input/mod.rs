//! What nobody should send: each entrance refuses it with a complete problem document, and the log stays as it was.
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    leases::NO_LEASE,
    support::{ADMIN_EMAIL, Answer, Client, PASSWORD, Server, user},
};

mod addresses;
mod bodies;
mod values;
mod wire;

/// Bytes of a body, and of a submission.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const TASK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The administrator, and an agent of each kind.
struct House {
    server: Server,
    admin: Client,
    rules: String,
    insight: String,
    schedule: String,
    head: u64,
}

impl House {
    async fn build() -> Self {
        let server = Server::start();
        let admin = Client::admin(&server).await;
        let rules = admin.agent("rules", json!({ "rules": [] })).await;
        let insight = admin.agent("insight", json!({})).await;
        let schedule = admin.post("/api/v1/schedules", &schedule(&rules)).await.expect(201).id();
        let head = admin.head().await;
        Self { server, admin, rules, insight, schedule, head }
    }

    /// Every call that takes a JSON body, with the most bytes that it takes and a body that it would take.
    fn entrances(&self) -> Vec<(Method, String, usize, Value)> {
        let agent = format!("/api/v1/agents/{}", self.rules);
        // One that there is not: nothing else of it is looked at before the body.
        let task = format!("/api/v1/tasks/{}", uuid::Uuid::now_v7());
        let set_up = json!({ "token": "x", "email": "x@example.org", "password": PASSWORD, "display_name": "X" });
        vec![
            (Method::POST, "/api/v1/setup".into(), BODY_BYTES_MAX, set_up),
            (Method::POST, "/api/v1/session".into(), BODY_BYTES_MAX, json!({ "email": ADMIN_EMAIL, "password": "" })),
            (Method::POST, "/api/v1/users".into(), BODY_BYTES_MAX, user("bob@example.org", "Bob", &["member"])),
            (Method::POST, "/api/v1/agents".into(), BODY_BYTES_MAX, self::agent(json!({ "rules": [] }))),
            (Method::POST, "/api/v1/schedules".into(), BODY_BYTES_MAX, self::schedule(&self.rules)),
            (
                Method::PATCH,
                format!("/api/v1/schedules/{}", self.schedule),
                BODY_BYTES_MAX,
                json!({ "cron": "0 0 2 1 *" }),
            ),
            (Method::PATCH, agent.clone(), BODY_BYTES_MAX, json!({ "name": "B" })),
            (Method::POST, format!("{agent}/try"), BODY_BYTES_MAX, json!({ "input": 1 })),
            (Method::POST, format!("{agent}/tasks"), TASK_BYTES_MAX, json!({ "input": 1 })),
            (Method::POST, format!("{agent}/lease"), BODY_BYTES_MAX, json!({ "max": 1, "wait_s": 0 })),
            (Method::POST, format!("{task}/heartbeat"), BODY_BYTES_MAX, json!({ "lease": NO_LEASE })),
            (Method::POST, format!("{task}/complete"), BODY_BYTES_MAX, json!({ "lease": NO_LEASE, "output": 1 })),
            (
                Method::POST,
                format!("{task}/fail"),
                BODY_BYTES_MAX,
                json!({ "lease": NO_LEASE, "code": "a", "message": "b", "retry": true }),
            ),
            (
                Method::POST,
                "/api/v1/projections/tasks/skip".into(),
                BODY_BYTES_MAX,
                json!({ "position": 1, "reason": "Because" }),
            ),
        ]
    }

    async fn send(&self, method: &Method, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.admin.request(method.clone(), path).header("content-type", media_type).body(body);
        self.admin.send(request).await
    }

    /// Nothing was appended, and the server still works.
    async fn is_untouched(&self) {
        assert_eq!(self.admin.head().await, self.head, "the log has the events that it had");
        let task = self.admin.task_done(&self.rules, json!(1)).await;
        assert_eq!(task["status"], "completed");
    }
}

fn agent(config: Value) -> Value {
    json!({ "name": "A", "kind": "rules", "config": config })
}

/// One that does not fire while a test runs.
fn schedule(agent: &str) -> Value {
    json!({ "name": "S", "agent_id": agent, "input": 1, "cron": "0 0 1 1 *" })
}
