//! Receivers that answer badly: each task ends with a named code, the server goes on, and its memory stays bounded.
use serde_json::json;

use super::{code, config, hook, reaching};
use crate::support::{Client, Receiver, Reply};

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), body].concat()
}

/// Two attempts of at most half a second each.
async fn hasty(admin: &Client, receiver: &Receiver, mode: &str) -> String {
    let limits = json!({ "max_attempts": 2, "timeout_ms": 500, "backoff_initial_ms": 1, "backoff_max_ms": 1 });
    let agent = json!({ "name": "Hasty", "kind": "webhook", "config": config(receiver, mode), "limits": limits });
    admin.post("/api/v1/agents", &agent).await.expect(201).id()
}

#[tokio::test]
async fn an_answer_that_is_no_output_fails_the_task_by_name() {
    let (_server, admin) = reaching().await;
    let json_head = "content-type: application/json\r\nconnection: close";
    let (deep, large) = ("[".repeat(100_000), format!("\"{}\"", "x".repeat(1024 * 1024)));
    for (bytes, expected) in [
        (answer(json_head, b"{\"a\": "), "webhook_answer_not_json"),
        (answer(json_head, b"\xff\xfe"), "webhook_answer_not_json"),
        (answer(json_head, deep.as_bytes()), "webhook_answer_not_json"),
        (answer("content-type: text/html\r\nconnection: close", b"<html>"), "webhook_answer_not_json"),
        (answer(&format!("{json_head}\r\ncontent-encoding: gzip"), b"\x1f\x8b\x08\x00"), "webhook_answer_not_json"),
        (answer("content-type: application/json\r\ncontent-length: 10000000000", b"{"), "webhook_answer_too_large"),
        (answer(json_head, large.as_bytes()), "webhook_answer_too_large"),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let receiver = Receiver::start(move |_, _| Reply::Bytes(bytes.clone())).await;
        let agent = hook(&admin, config(&receiver, "sync"), 3).await;
        assert_eq!(code(&admin.task_done(&agent, json!(1)).await), ("failed", expected), "{shown}");
        assert_eq!(receiver.calls().len(), 1, "{shown}");
    }
}

#[tokio::test]
async fn a_receiver_that_breaks_off_or_speaks_no_http_is_asked_again_then_given_up() {
    let (_server, admin) = reaching().await;
    for bytes in [b"".to_vec(), b"SSH-2.0-OpenSSH\r\n".to_vec(), answer("content-length: 10", b"{"), vec![0; 1_000]] {
        let receiver = Receiver::start(move |_, _| Reply::Bytes(bytes.clone())).await;
        let agent = hook(&admin, config(&receiver, "sync"), 2).await;
        assert_eq!(code(&admin.task_done(&agent, json!(1)).await), ("dead", "webhook_unreachable"));
        assert_eq!(receiver.calls().len(), 2);
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let (_server, admin) = reaching().await;
    let ten_gigabytes = 10 * 1024 * 1024 * 1024;
    for head in ["content-type: application/json", "content-type: application/json\r\ncontent-encoding: gzip"] {
        let start = answer(head, &vec![b'['; 64 * 1024]);
        let receiver = Receiver::start(move |_, _| Reply::Endless(start.clone(), ten_gigabytes)).await;
        let agent = hook(&admin, config(&receiver, "sync"), 1).await;
        let task = admin.task_done(&agent, json!(1)).await;
        assert_eq!(task["status"], "failed", "{task}");
        assert!(["webhook_answer_too_large", "webhook_answer_not_json"].contains(&code(&task).1), "{task}");
        crate::support::eventually("the receiver notices", async || (receiver.hung_up() == 1).then_some(())).await;
        // What the sockets between the two hold comes on top of the limit.
        assert!(receiver.written() < 64 * 1024 * 1024, "{}", receiver.written());
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_runs_into_the_agents_own_limit() {
    let (_server, admin) = reaching().await;
    for bytes in [
        Vec::new(),
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        answer("content-type: application/json\r\ncontent-length: 9", b"{"),
    ] {
        let receiver = Receiver::start(move |_, _| Reply::Hang(bytes.clone())).await;
        let agent = hasty(&admin, &receiver, "sync").await;
        assert_eq!(code(&admin.task_done(&agent, json!(1)).await), ("dead", "timeout"));
        assert_eq!(receiver.calls().len(), 2);
    }
}

#[tokio::test]
async fn a_callback_that_never_comes_ends_the_task_without_another_call() {
    let (_server, admin) = reaching().await;
    let receiver = Receiver::start(|_, _| Reply::status(202, "")).await;
    let agent = hasty(&admin, &receiver, "callback").await;
    assert_eq!(code(&admin.task_done(&agent, json!(1)).await), ("dead", "timeout"));
    assert_eq!(receiver.calls().len(), 1, "it was taken on once");
}
