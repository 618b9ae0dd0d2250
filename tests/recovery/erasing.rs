//! An erasure that a kill cut short is finished after the restart.
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::{fs, path::Path};
use uuid::Uuid;

use super::support::{Client, Server, Stopped, eventually};

/// How many questions the server answers between the erasure and the kill: each is a little later.
const DELAYS: [usize; 7] = [0, 1, 2, 4, 8, 16, 64];
/// Values of a series that a debug build works on for some tenths of a second.
const LONG_SERIES: usize = 6_000;

/// Rows that still belong to a person, over all tables of `subjects.db`.
fn rows_of(directory: &Path, person: &str) -> i64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(directory.join("subjects.db"), flags).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let id = Uuid::parse_str(person).unwrap();
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE user_id = ?1");
        connection.query_row(&sql, [id.as_bytes()], |row| row.get(0)).unwrap()
    };
    count("subjects") + count("credentials") + count("sessions")
}

/// The agents that a person's tasks are given to: one works for long, one is paused, one notifies.
async fn agents(admin: &Client) -> Vec<(String, Value)> {
    let values: Vec<usize> = (0..LONG_SERIES).map(|index| index * index % 97).collect();
    let slow = admin.agent("insight", json!({})).await;
    let paused = admin.agent("rules", json!({ "rules": [] })).await;
    admin.order(&format!("/api/v1/agents/{paused}/pause")).await.expect(200);
    let notify = json!({ "notify": { "to": "requester", "severity": "info", "title": "Done", "body": "It is." } });
    let telling = json!({ "rules": [{ "name": "tell", "when": "true", "then": [notify] }] });
    let telling = admin.agent("rules", telling).await;
    vec![(slow, json!({ "values": values })), (paused, json!({})), (telling, json!({}))]
}

/// A person with a task at each of the agents; their id and those of the tasks.
async fn busy_person(admin: &Client, name: &str, agents: &[(String, Value)]) -> (String, Vec<String>) {
    let person = admin.colleague(name, &["member"]).await;
    let mut tasks = Vec::new();
    for (agent, input) in agents {
        tasks.push(person.submit(agent, input.clone()).await.id());
    }
    (person.user_id().to_owned(), tasks)
}

/// The key is destroyed, the words are gone from everywhere, no task is left open, and nothing that follows the log is stuck.
async fn expect_erased(server: &Server, admin: &Client, person: &str, tasks: &[String]) {
    eventually("the key and all rows are gone", async || (rows_of(server.data_dir(), person) == 0).then_some(())).await;
    let user = admin.get_at(&format!("/api/v1/users/{person}"), admin.head().await).await.expect(200).json();
    assert_eq!((&user["status"], &user["erased"]), (&json!("erased"), &json!(true)));
    assert_eq!((&user["email"], &user["display_name"]), (&Value::Null, &Value::Null));
    for id in tasks {
        admin.task_ended(id).await;
        eventually("the task's words are gone", async || {
            let task = admin.get(&format!("/api/v1/tasks/{id}")).await.expect(200).json();
            (task["input"].is_null() && task["output"].is_null() && task["erased"] == true).then_some(())
        })
        .await;
        let history = admin.get(&format!("/api/v1/tasks/{id}/history")).await.expect(200).json();
        for event in history.as_array().unwrap() {
            assert!(event["data"]["personal"].is_null(), "{event}");
        }
    }
    let ready = admin.get("/readyz").await.expect(200).json();
    assert_eq!(ready["degraded"], json!([]));
}

/// Whoever is told of ends is still told: no follower waits for a key that will never come.
async fn expect_followers_alive(admin: &Client, telling: &(String, Value)) {
    let task = admin.task_done(&telling.0, telling.1.clone()).await;
    eventually("the administrator is told", async || {
        let items = admin.get("/api/v1/notifications").await.expect(200).items();
        let of_task = items.iter().filter(|item| item["link"]["id"] == task["id"]).count();
        (of_task == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_erasure_is_finished_however_soon_the_server_is_killed() {
    let mut server = Server::start();
    let mut admin = Client::admin(&server).await;
    let agents = agents(&admin).await;
    for (round, delay) in DELAYS.into_iter().enumerate() {
        let (person, tasks) = busy_person(&admin, &format!("person{round}"), &agents).await;
        admin.delete(&format!("/api/v1/users/{person}")).await.expect(200);
        for _ in 0..delay {
            admin.get("/healthz").await.expect(200);
        }
        let stopped = server.kill9();
        println!("after {delay} answers: {} rows were left", rows_of(stopped.data_dir(), &person));
        server = stopped.start();
        admin = admin.at(&server);
        expect_erased(&server, &admin, &person, &tasks).await;
        let statuses = admin.get(&format!("/api/v1/tasks/{}", tasks[1])).await.expect(200).json();
        assert_eq!(statuses["status"], "cancelled", "a task that waited is cancelled");
        expect_followers_alive(&admin, &agents[2]).await;
    }
}

/// Sets the data back to where the event stood in the log and nothing had followed it yet.
fn undo_what_followed(stopped: &Stopped, subjects: &[u8], position: u64) {
    let directory = stopped.data_dir();
    fs::write(directory.join("subjects.db"), subjects).unwrap();
    for side in ["subjects.db-wal", "subjects.db-shm"] {
        fs::remove_file(directory.join(side)).ok();
    }
    let log = Connection::open(directory.join("log.db")).unwrap();
    let names = "'erasure', 'cancel_tasks_of_erased'";
    let sql = format!("DELETE FROM checkpoints WHERE name IN ({names}) AND position >= {position}");
    log.execute_batch(&sql).unwrap();
}

#[tokio::test]
async fn an_erasure_that_stands_only_in_the_log_is_carried_out() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agents = agents(&admin).await;
    let (person, tasks) = busy_person(&admin, "person", &agents[1..]).await;
    admin.task_ended(&tasks[1]).await;
    let stopped = server.stop();
    let subjects = fs::read(stopped.data_dir().join("subjects.db")).unwrap();
    let server = stopped.start();
    let erased = admin.at(&server).delete(&format!("/api/v1/users/{person}")).await.expect(200);
    let stopped = server.kill9();
    undo_what_followed(&stopped, &subjects, erased.position());
    assert!(rows_of(stopped.data_dir(), &person) > 0);
    let server = stopped.start();
    let admin = admin.at(&server);
    expect_erased(&server, &admin, &person, &tasks).await;
    expect_followers_alive(&admin, &agents[2]).await;
}
