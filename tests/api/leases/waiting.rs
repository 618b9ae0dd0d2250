//! Workers that wait for tasks: woken when there is one, and forgotten when they leave.
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::{Shop, ask, lease};
use crate::support::{Client, Launch, Metrics, Server, eventually};

async fn shop() -> Shop {
    let server = Launch::with_admin().set("MARVIN_METRICS_LISTEN", "127.0.0.1:0").start();
    Shop::at(server, json!({ "max_concurrency": 1 })).await
}

/// As soon as so many wait.
async fn are_waiting(server: &Server, count: u64) {
    eventually(&format!("{count} workers wait"), async || {
        (Metrics::of(server).await.sum("marvin_workers_waiting") == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_waits_is_given_a_task_as_soon_as_it_is_submitted() {
    let shop = shop().await;
    let submitting = async {
        are_waiting(&shop.server, 1).await;
        shop.submit(json!(1)).await
    };
    let (leased, task) = tokio::join!(lease(&shop.worker, &shop.agent, 5, 30), submitting);
    assert_eq!(leased.iter().map(|leased| &leased.task).collect::<Vec<_>>(), [&task]);
    are_waiting(&shop.server, 0).await;
}

#[tokio::test]
async fn who_waits_in_vain_is_told_so() {
    let shop = shop().await;
    assert!(lease(&shop.worker, &shop.agent, 5, 1).await.is_empty());
    assert!(lease(&shop.worker, &shop.agent, 5, 0).await.is_empty());
    are_waiting(&shop.server, 0).await;
}

#[tokio::test]
async fn who_waits_is_given_a_task_when_a_slot_is_freed_or_the_agent_is_resumed() {
    let shop = shop().await;
    let first = shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    let second = shop.submit(json!(2)).await;
    let completing = async {
        are_waiting(&shop.server, 1).await;
        shop.complete(&leased, json!(1)).await.expect(200);
    };
    let (next, ()) = tokio::join!(lease(&shop.worker, &shop.agent, 1, 30), completing);
    assert_eq!((leased.task, &next[0].task), (first, &second));
    shop.admin.order(&format!("/api/v1/agents/{}/pause", shop.agent)).await.expect(200);
    shop.complete(&next[0], json!(1)).await.expect(200);
    let third = shop.submit(json!(3)).await;
    let resuming = async {
        are_waiting(&shop.server, 1).await;
        shop.admin.order(&format!("/api/v1/agents/{}/resume", shop.agent)).await.expect(200);
    };
    let (last, ()) = tokio::join!(lease(&shop.worker, &shop.agent, 1, 30), resuming);
    assert_eq!(last[0].task, third);
}

/// Sends a call that waits, over a connection of its own.
fn call_and_wait(server: &Server, worker: &Client, agent: &str) -> TcpStream {
    let body = json!({ "max": 1, "wait_s": 30 }).to_string();
    let head = format!(
        "POST /api/v1/agents/{agent}/lease HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nX-CSRF-Token: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        server.address(),
        worker.cookie(),
        worker.csrf(),
        body.len(),
    );
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    connection
}

#[tokio::test]
async fn nothing_is_leased_to_a_worker_that_left_while_it_waited() {
    let shop = shop().await;
    let gone = call_and_wait(&shop.server, &shop.worker, &shop.agent);
    are_waiting(&shop.server, 1).await;
    gone.shutdown(Shutdown::Both).unwrap();
    drop(gone);
    let task = shop.submit(json!(1)).await;
    are_waiting(&shop.server, 0).await;
    let leased = shop.lease_one().await;
    assert_eq!((leased.task, &leased.told["task"]["attempt"]), (task, &json!(1)));
}

#[tokio::test]
async fn nothing_is_leased_to_a_worker_whose_session_ended_while_it_waited() {
    let shop = shop().await;
    let other = Client::sign_in(&shop.server, "worker@example.org", crate::support::PASSWORD).await;
    let ending = async {
        are_waiting(&shop.server, 1).await;
        shop.worker.delete("/api/v1/session").await.expect(204);
        shop.submit(json!(1)).await
    };
    let (answer, task) = tokio::join!(ask(&shop.worker, &shop.agent, 1, 30), ending);
    assert_eq!(answer.expect(200).json()["tasks"], json!([]));
    assert_eq!(lease(&other, &shop.agent, 1, 0).await[0].task, task);
}

/// Calls that may wait at one server.
const WAITING_MAX: usize = 256;

#[tokio::test]
async fn one_more_than_may_wait_is_told_to_come_back() {
    let shop = shop().await;
    // So that those who wait do not look, which a busy machine would feel.
    shop.admin.order(&format!("/api/v1/agents/{}/pause", shop.agent)).await.expect(200);
    let mut waiting: Vec<_> =
        (0..WAITING_MAX).map(|_| call_and_wait(&shop.server, &shop.worker, &shop.agent)).collect();
    are_waiting(&shop.server, WAITING_MAX as u64).await;
    let refused = ask(&shop.worker, &shop.agent, 1, 30).await;
    refused.problem(429);
    assert_eq!(refused.header("retry-after"), "1");
    ask(&shop.worker, &shop.agent, 1, 0).await.expect(200);
    waiting.truncate(WAITING_MAX - 1);
    are_waiting(&shop.server, WAITING_MAX as u64 - 1).await;
    ask(&shop.worker, &shop.agent, 1, 1).await.expect(200);
}

#[tokio::test]
async fn a_server_that_stops_lets_nobody_wait() {
    let shop = shop().await;
    let mut waiting = call_and_wait(&shop.server, &shop.worker, &shop.agent);
    are_waiting(&shop.server, 1).await;
    let stopping = std::time::Instant::now();
    shop.server.stop();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""tasks":[]"#), "{answer}");
    assert!(stopping.elapsed().as_secs() < 20, "it would have waited for half a minute");
}
