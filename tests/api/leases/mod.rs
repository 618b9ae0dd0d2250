//! Tasks of `worker` agents: leased by programs outside, kept by heartbeats, completed, failed, lost.
use serde_json::{Value, json};

use crate::support::{Answer, Client, Server, eventually};

mod answers;
mod refusals;
mod times;
mod waiting;
mod work;

/// As a lease looks, and none that was ever given out.
pub const NO_LEASE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// An administrator, somebody who works for an agent, and the agent.
struct Shop {
    server: Server,
    admin: Client,
    worker: Client,
    agent: String,
}

impl Shop {
    async fn open(limits: Value) -> Self {
        Self::at(Server::start(), limits).await
    }

    async fn at(server: Server, limits: Value) -> Self {
        let admin = Client::admin(&server).await;
        let worker = admin.colleague("worker", &["integrator"]).await;
        let agent = admin.post("/api/v1/agents", &agent(limits)).await.expect(201).id();
        Self { server, admin, worker, agent }
    }

    /// Gives the agent a task; answers its id.
    async fn submit(&self, input: Value) -> String {
        self.admin.submit(&self.agent, input).await.id()
    }

    /// What is ready now, at most so many.
    async fn lease(&self, max: u32) -> Vec<Leased> {
        lease(&self.worker, &self.agent, max, 0).await
    }

    /// The only task.
    async fn lease_one(&self) -> Leased {
        let [leased] = <[Leased; 1]>::try_from(self.lease(10).await).expect("one task is ready");
        leased
    }

    async fn say(&self, task: &str, what: &str, body: &Value) -> Answer {
        self.worker.post(&format!("/api/v1/tasks/{task}/{what}"), body).await
    }

    async fn heartbeat(&self, leased: &Leased) -> Answer {
        self.say(&leased.task, "heartbeat", &json!({ "lease": leased.lease })).await
    }

    async fn complete(&self, leased: &Leased, output: Value) -> Answer {
        self.say(&leased.task, "complete", &json!({ "lease": leased.lease, "output": output })).await
    }

    async fn fail(&self, leased: &Leased, retry: bool) -> Answer {
        let body = json!({ "lease": leased.lease, "code": "no_luck", "message": "It rains", "retry": retry });
        self.say(&leased.task, "fail", &body).await
    }

    /// The task once it has this status.
    async fn with_status(&self, task: &str, status: &str) -> Value {
        eventually(&format!("task {task} is {status}"), async || {
            let shown = self.admin.get(&format!("/api/v1/tasks/{task}")).await;
            let shown = (shown.status == 200).then(|| shown.json())?;
            (shown["status"] == status).then_some(shown)
        })
        .await
    }

    async fn history(&self, task: &str) -> Vec<Value> {
        let history = self.admin.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
        history.as_array().unwrap().clone()
    }
}

fn agent(limits: Value) -> Value {
    json!({ "name": "Outside", "kind": "worker", "config": {}, "limits": limits })
}

#[derive(Debug)]
struct Leased {
    task: String,
    lease: String,
    /// All that was told.
    told: Value,
}

async fn lease(client: &Client, agent: &str, max: u32, wait_s: u32) -> Vec<Leased> {
    let answer = ask(client, agent, max, wait_s).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let told = answer.json()["tasks"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told.into_iter().map(|told| Leased { task: text(&told["task"]["id"]), lease: text(&told["lease"]), told }).collect()
}

async fn ask(client: &Client, agent: &str, max: u32, wait_s: u32) -> Answer {
    client.post(&format!("/api/v1/agents/{agent}/lease"), &json!({ "max": max, "wait_s": wait_s })).await
}

fn kind_of(answer: &Answer, status: u16) -> String {
    answer.problem(status)["type"].as_str().unwrap().to_owned()
}
