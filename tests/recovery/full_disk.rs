//! A disk without room: nothing is acknowledged that is not kept, and the server goes on once there is room again.
use reqwest::Method;
use serde_json::json;
use std::process::Command;

use super::{
    doctor::diagnose,
    journal,
    kills::views_reach,
    support::{Answer, Client, Launch, Server, eventually},
};

/// Tasks before the disk is full, and tasks tried while it is.
const TASKS: usize = 10;

/// No file of the server may grow beyond so many bytes. The signal of that is ignored, so that a write fails: as an I/O error, where a
/// file without room is another one (the contract tests of the log have that).
fn limit_files(server: &Server, bytes: &str) {
    let limit = format!("--fsize={bytes}:unlimited");
    let status = Command::new("prlimit").args(["--pid", &server.pid().to_string(), &limit]).status();
    assert!(status.expect("util-linux has prlimit").success());
}

async fn submit(client: &Client, agent: &str, marker: usize) -> Answer {
    let path = format!("/api/v1/agents/{agent}/tasks");
    let request = client.request(Method::POST, &path).header("idempotency-key", format!("order-{marker}"));
    client.send(request.json(&json!({ "input": { "marker": marker } }))).await
}

#[tokio::test]
async fn a_full_disk_refuses_for_a_while_and_loses_nothing() {
    let server = Launch::with_admin().by(r#"trap "" XFSZ; exec "$@""#).start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    let mut ids = Vec::new();
    for marker in 0..TASKS {
        ids.push(submit(&admin, &agent, marker).await.expect(202).id());
    }
    for id in &ids {
        admin.task_ended(id).await;
    }
    let wal = std::fs::metadata(server.data_dir().join("log.db-wal")).unwrap().len();
    limit_files(&server, &wal.to_string());
    for marker in TASKS..2 * TASKS {
        let refused = submit(&admin, &agent, marker).await;
        refused.problem(503);
        assert_eq!(refused.header("retry-after"), "1");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("sent again under its Idempotency-Key it is carried out once"), "{detail}");
    }
    admin.get("/healthz").await.expect(200);
    limit_files(&server, "unlimited");
    for marker in TASKS..2 * TASKS {
        ids.push(submit(&admin, &agent, marker).await.expect(202).id());
    }
    for (marker, id) in ids.iter().enumerate() {
        assert_eq!(admin.task_ended(id).await["status"], "completed");
        assert_eq!(submit(&admin, &agent, marker).await.expect(202).id(), *id);
    }
    let mut events = Vec::new();
    eventually("everyone is told", async || {
        journal::read_on(&admin, &mut events).await;
        (journal::notifications(&events).len() == ids.len()).then_some(())
    })
    .await;
    journal::check_contiguous(&events);
    let tasks = journal::tasks(&events);
    let mut found: Vec<&str> = tasks.keys().copied().collect();
    ids.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, ids, "each task is there once, and no other");
    let head = events.last().unwrap().position;
    views_reach(&admin, head).await;
    let ready = admin.get("/readyz").await.expect(200).json();
    assert_eq!(ready["degraded"], json!([]));
    diagnose(server.stop().launch()).expect_equal(head);
}
