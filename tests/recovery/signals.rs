//! Nothing depends on a signal that may be lost: ready tasks and slots of the dead are found by looking.
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use uuid::Uuid;

use super::support::{Client, Server};

/// A lease of a holder that is gone: long enough that the task is surely submitted before it runs out.
const LEASE: Duration = Duration::from_secs(2);
const A_DAY: Duration = Duration::from_secs(86_400);

async fn rules(admin: &Client, limits: Value) -> String {
    let body = json!({ "name": "Rules", "kind": "rules", "config": { "rules": [] }, "limits": limits });
    admin.post("/api/v1/agents", &body).await.expect(201).id()
}

#[tokio::test]
async fn tasks_of_a_paused_agent_are_found_when_it_is_resumed() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = rules(&admin, json!({ "max_concurrency": 2 })).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let mut tasks = Vec::new();
    for marker in 0..5 {
        tasks.push(admin.submit(&agent, json!({ "marker": marker })).await.id());
    }
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    for task in tasks {
        assert_eq!(admin.task_ended(&task).await["status"], "completed");
    }
}

#[tokio::test]
async fn a_task_whose_signal_died_with_the_process_is_found() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = rules(&admin, json!({})).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let task = admin.submit(&agent, json!({})).await.id();
    let server = server.kill9().start();
    let admin = admin.at(&server);
    let waiting = admin.get_at(&format!("/api/v1/tasks/{task}"), admin.head().await).await.expect(200).json();
    assert_eq!(waiting["status"], "queued");
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    let ended = admin.task_ended(&task).await;
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(1)));
}

/// Gives the agent's only slot to a holder that is not there; answers when that lease runs out.
fn leak_slot(directory: &Path, agent: &str, lease: Duration) -> u128 {
    let expires_at = (SystemTime::now() + lease).duration_since(UNIX_EPOCH).unwrap().as_millis();
    let connection = Connection::open(directory.join("log.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let agent = Uuid::parse_str(agent).unwrap();
    let [task, holder] = [(); 2].map(|()| Uuid::now_v7().as_bytes().to_vec());
    let row = params![agent.as_bytes(), task, holder, i64::try_from(expires_at).unwrap()];
    let insert = "INSERT INTO leases (agent_id, slot, task_id, holder, expires_at) VALUES (?1, 1, ?2, ?3, ?4)";
    connection.execute(insert, row).unwrap();
    expires_at
}

fn millis(time: &Value) -> u128 {
    let time = chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
    u128::try_from(time.timestamp_millis()).unwrap()
}

#[tokio::test]
async fn a_slot_of_a_dead_holder_is_free_once_its_lease_has_run_out() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = rules(&admin, json!({ "max_concurrency": 1 })).await;
    let expires_at = leak_slot(server.data_dir(), &agent, LEASE);
    let ended = admin.task_done(&agent, json!({})).await;
    assert_eq!(ended["status"], "completed");
    assert!(millis(&ended["created_at"]) < expires_at, "the task was ready while the lease stood");
    assert!(millis(&ended["started_at"]) >= expires_at, "the slot counted while its lease stood");
}

#[tokio::test]
async fn slots_of_a_killed_process_are_free_after_the_restart() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = rules(&admin, json!({ "max_concurrency": 1 })).await;
    let expires_at = leak_slot(server.data_dir(), &agent, A_DAY);
    let task = admin.submit(&agent, json!({})).await.id();
    let server = server.kill9().start();
    let ended = admin.at(&server).task_ended(&task).await;
    assert!(millis(&ended["started_at"]) < expires_at);
}
