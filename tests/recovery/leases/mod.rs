//! Workers outside come and go, and so do servers: the task is done once, by whoever has it.
use futures_util::future::join_all;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::{collections::HashSet, path::Path, time::Duration};
use uuid::Uuid;

use super::{
    nodes::{first_node, next_node},
    support::{Answer, Client, Database, Server, eventually},
};

mod examples;

pub(super) async fn worker_agent(admin: &Client, limits: Value) -> String {
    let body = json!({ "name": "Outside", "kind": "worker", "config": {}, "limits": limits });
    admin.post("/api/v1/agents", &body).await.expect(201).id()
}

/// Each leased task with its lease.
pub(super) async fn lease(client: &Client, agent: &str, max: u32, wait_s: u32) -> Vec<(String, String)> {
    let ask = json!({ "max": max, "wait_s": wait_s });
    let answer = client.post(&format!("/api/v1/agents/{agent}/lease"), &ask).await.expect(200).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    answer["tasks"].as_array().unwrap().iter().map(|told| (text(&told["task"]["id"]), text(&told["lease"]))).collect()
}

async fn heartbeat(client: &Client, (task, lease): &(String, String)) -> Answer {
    client.post(&format!("/api/v1/tasks/{task}/heartbeat"), &json!({ "lease": lease })).await
}

async fn complete(client: &Client, (task, lease): &(String, String), output: Value) -> Answer {
    client.post(&format!("/api/v1/tasks/{task}/complete"), &json!({ "lease": lease, "output": output })).await
}

async fn types(client: &Client, task: &str) -> Vec<String> {
    let history = client.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
    let kind = |event: &Value| event["type"].as_str().unwrap().replace("marvin.task.", "").replace(".v1", "");
    history.as_array().unwrap().iter().map(kind).collect()
}

/// Makes half a minute without a heartbeat pass at once.
pub(super) fn lapse(data_dir: &Path, task: &str) {
    let connection = Connection::open(data_dir.join("log.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let task = Uuid::parse_str(task).unwrap();
    let sql = "UPDATE leases SET expires_at = 0 WHERE task_id = ?1";
    assert_eq!(connection.execute(sql, params![task.as_bytes()]).unwrap(), 1);
}

#[tokio::test]
async fn a_lease_stands_while_the_server_is_killed_and_started_again() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({ "max_concurrency": 1 })).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    let leased = lease(&admin, &agent, 1, 0).await.remove(0);
    let next = admin.submit(&agent, json!(2)).await.id();
    let server = server.kill9().start();
    let admin = admin.at(&server);
    assert!(lease(&admin, &agent, 1, 2).await.is_empty(), "the slot is still held");
    heartbeat(&admin, &leased).await.expect(200);
    let completed = complete(&admin, &leased, json!("done")).await.expect(200);
    let server = server.kill9().start();
    let admin = admin.at(&server);
    assert_eq!(complete(&admin, &leased, json!("done")).await.expect(200).json(), completed.json());
    assert_eq!(types(&admin, &task).await, ["submitted", "started", "completed"]);
    assert_eq!(lease(&admin, &agent, 1, 30).await[0].0, next);
}

#[tokio::test]
async fn a_worker_that_vanishes_loses_its_task_to_another_and_its_result_is_late() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({ "max_concurrency": 1 })).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    let vanished = lease(&admin, &agent, 1, 0).await.remove(0);
    lapse(server.data_dir(), &task);
    let other = lease(&admin, &agent, 1, 30).await.remove(0);
    assert_eq!(other.0, task);
    for late in [heartbeat(&admin, &vanished).await, complete(&admin, &vanished, json!("late")).await] {
        assert_eq!(late.problem(409)["type"], "/problems/late-result");
    }
    heartbeat(&admin, &other).await.expect(200);
    complete(&admin, &other, json!("in time")).await.expect(200);
    assert_eq!(complete(&admin, &vanished, json!("late")).await.status, 409);
    let done = admin.task_ended(&task).await;
    assert_eq!((&done["output"], &done["attempt"]), (&json!("in time"), &json!(2)));
    assert_eq!(types(&admin, &task).await, ["submitted", "started", "heartbeat_lost", "started", "completed"]);
}

#[tokio::test]
async fn a_task_whose_workers_all_vanish_is_given_up() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({ "max_attempts": 2 })).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    for _ in 0..2 {
        assert_eq!(lease(&admin, &agent, 1, 30).await[0].0, task);
        lapse(server.data_dir(), &task);
    }
    let dead = admin.task_ended(&task).await;
    assert_eq!((&dead["status"], &dead["error"]["code"]), (&json!("dead"), &json!("heartbeat_lost")));
}

const TASKS: usize = 60;
const SLOTS: usize = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_two_nodes_lease_each_task_once_never_more_than_slots_and_each_knows_the_others_leases() {
    let database = Database::shared();
    let first = first_node(&database);
    let second = next_node(&database, &first);
    let here = Client::admin(&first).await;
    let nodes = [here.clone(), here.at(&second)];
    let agent = worker_agent(&here, json!({ "max_concurrency": SLOTS })).await;
    let submitted = join_all((0..TASKS).map(async |number| nodes[number % 2].submit(&agent, json!(number)).await.id()));
    let submitted: HashSet<String> = submitted.await.into_iter().collect();
    let mut done = HashSet::new();
    while done.len() < TASKS {
        let leased = join_all((0..6).map(|call| lease(&nodes[call % 2], &agent, 5, 2))).await;
        let leased: Vec<_> = leased
            .into_iter()
            .enumerate()
            .flat_map(|(call, leased)| leased.into_iter().map(move |leased| (call % 2, leased)))
            .collect();
        assert!(leased.len() <= SLOTS, "{} at once", leased.len());
        for (node, leased) in &leased {
            // At the other node, which may not have heard of the start yet.
            heartbeat(&nodes[1 - node], leased).await.expect(200);
            complete(&nodes[1 - node], leased, json!(null)).await.expect(200);
            assert!(done.insert(leased.0.clone()), "{} was leased twice", leased.0);
        }
    }
    assert_eq!(done, submitted);
    let task = here.submit(&agent, json!(1)).await.id();
    let leased = lease(&here, &agent, 1, 30).await.remove(0);
    here.order(&format!("/api/v1/tasks/{task}/cancel")).await.expect(200);
    let told = eventually("the other node tells of the cancellation", async || {
        let answer = heartbeat(&nodes[1], &leased).await;
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(told.await.problem(409)["type"], "/problems/cancelled");
}
