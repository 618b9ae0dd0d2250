//! A call and its answer: signed, the same id in each attempt, and what each status comes to.
use reqwest::Url;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

use super::{KEY, code, config, hook, reaching, story, verify};
use crate::support::{Client, Launch, Receiver, Reply, eventually};

#[tokio::test]
async fn a_task_is_posted_signed_and_its_answer_is_the_output() {
    let (_server, admin) = reaching().await;
    let receiver = Receiver::answering(200, json!({ "sum": 3 })).await;
    let agent = hook(&admin, config(&receiver, "sync"), 5).await;
    let input = json!({ "numbers": [1, 2], "text": "ü" });
    let task = admin.task_done(&agent, input.clone()).await;
    assert_eq!((&task["status"], &task["output"]), (&json!("completed"), &json!({ "sum": 3 })));
    let [call] = receiver.calls().try_into().unwrap();
    verify(&call, KEY);
    assert!(call.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", call.head);
    assert_eq!(call.header("content-type"), "application/json");
    let told = json!({
        "task_id": task["id"], "agent_id": agent, "conversation_id": null, "attempt": 1, "input": input,
    });
    assert_eq!(call.json(), told);
    let steps = task["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &steps[0]["kind"], &steps[0]["name"]), (1, &json!("webhook"), &json!("answer")));
    assert!(uuid::Uuid::parse_str(call.header("webhook-id")).is_ok());
    assert_eq!(
        story(&admin, task["id"].as_str().unwrap()).await,
        ["submitted", "started", "step_completed", "completed"]
    );
}

#[tokio::test]
async fn an_unsigned_call_has_an_id_and_no_signature_and_an_empty_answer_is_null() {
    let (_server, admin) = reaching().await;
    let receiver = Receiver::start(|_, _| Reply::status(204, "")).await;
    let agent = hook(&admin, json!({ "url": receiver.url }), 1).await;
    let task = admin.task_done(&agent, json!(null)).await;
    assert_eq!((&task["status"], &task["output"]), (&json!("completed"), &Value::Null));
    let call = receiver.call(0).await;
    assert!(!call.header("webhook-id").is_empty() && !call.header("webhook-timestamp").is_empty());
    assert!(!call.headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn each_attempt_carries_the_same_id_until_one_is_answered() {
    let (_server, admin) = reaching().await;
    let receiver = Receiver::start(|number, _| match number {
        0 => Reply::status(500, ""),
        1 => Reply::status(429, "retry-after: 0\r\n"),
        2 => Reply::Bytes(Vec::new()),
        _ => Reply::json(200, &json!("done")),
    })
    .await;
    let agent = hook(&admin, config(&receiver, "sync"), 5).await;
    let task = admin.task_done(&agent, json!(1)).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(4)));
    let calls = receiver.calls();
    assert!(calls.iter().all(|call| call.header("webhook-id") == calls[0].header("webhook-id")));
    calls.iter().for_each(|call| verify(call, KEY));
    assert_eq!(calls.iter().map(|call| call.json()["attempt"].clone()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let other = admin.task_done(&agent, json!(1)).await;
    assert_eq!(other["status"], "completed");
    assert_ne!(receiver.call(4).await.header("webhook-id"), calls[0].header("webhook-id"));
}

#[tokio::test]
async fn a_refusal_lasts_and_a_redirect_is_not_followed() {
    let (_server, admin) = reaching().await;
    let canary = Receiver::answering(200, json!("reached")).await;
    let elsewhere = format!("location: {}\r\n", canary.url);
    for (status, expected) in
        [(400, "webhook_refused"), (404, "webhook_refused"), (302, "webhook_redirected"), (308, "webhook_redirected")]
    {
        let elsewhere = elsewhere.clone();
        let receiver = Receiver::start(move |_, _| Reply::status(status, &elsewhere)).await;
        let agent = hook(&admin, config(&receiver, "sync"), 5).await;
        assert_eq!(code(&admin.task_done(&agent, json!(1)).await), ("failed", expected), "{status}");
        assert_eq!(receiver.calls().len(), 1, "{status}");
    }
    assert_eq!(canary.calls().len(), 0);
}

#[tokio::test]
async fn a_receiver_says_how_long_it_wants_to_be_left_alone_within_an_hour() {
    let (_server, admin) = reaching().await;
    for (status, asked, waits) in [(429, "120", 120), (503, "120", 120), (429, "999999", 3_600)] {
        let receiver = Receiver::start(move |_, _| Reply::status(status, &format!("retry-after: {asked}\r\n"))).await;
        let agent = hook(&admin, config(&receiver, "sync"), 5).await;
        let task = admin.submit(&agent, json!(1)).await.id();
        let scheduled = eventually("a retry is scheduled", async || {
            let events = admin.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
            events.as_array()?.iter().find(|event| event["type"] == "marvin.task.retry_scheduled.v1").cloned()
        })
        .await;
        let moment = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
        let pause = moment(&scheduled["data"]["facts"]["retry_at"]) - moment(&scheduled["time"]);
        assert!((waits - 5..=waits).contains(&pause.num_seconds()), "{status} {asked}: {pause}");
        admin.order(&format!("/api/v1/tasks/{task}/cancel")).await.expect(200);
    }
}

#[tokio::test]
async fn a_cancellation_reaches_the_call_that_is_under_way() {
    let (_server, admin) = reaching().await;
    let receiver = Receiver::start(|_, _| Reply::Hang(Vec::new())).await;
    let agent = hook(&admin, config(&receiver, "sync"), 5).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    receiver.call(0).await;
    assert_eq!(receiver.hung_up(), 0);
    admin.order(&format!("/api/v1/tasks/{task}/cancel")).await.expect(200);
    // Long before the attempt's own time is over, which is a minute.
    let cancelled = std::time::Instant::now();
    eventually("the call is given up", async || (receiver.hung_up() == 1).then_some(())).await;
    eprintln!("given up {} ms after the answer to the cancellation", cancelled.elapsed().as_millis());
    assert_eq!(admin.task_ended(&task).await["status"], "cancelled");
}

#[tokio::test]
async fn the_secret_that_is_named_must_be_there_and_fit_to_sign() {
    let (_server, admin) = reaching().await;
    let receiver = Receiver::answering(200, json!(1)).await;
    admin.put("/api/v1/secrets/plain", &json!({ "value": "Qz7NoKeyAtAll" })).await.expect(201);
    let create = async |secret: &str| {
        let config = json!({ "url": receiver.url, "secret_name": secret });
        admin.post("/api/v1/agents", &json!({ "name": "Hook", "kind": "webhook", "config": config })).await
    };
    for secret in ["nobody", "plain", "not a name", ""] {
        let refused = create(secret).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), ["/config/secret_name"], "{secret}");
        assert!(!String::from_utf8_lossy(&refused.body).contains("Qz7"));
    }
    let agent = create("key").await.expect(201).id();
    let change = json!({ "config": { "url": receiver.url, "secret_name": "nobody" } });
    admin.patch(&format!("/api/v1/agents/{agent}"), &change).await.problem(422);
    // Replaced, it signs the next call; removed, there is no call.
    let another = format!("whsec_{}", "A".repeat(40));
    admin.put("/api/v1/secrets/key", &json!({ "value": another })).await.expect(200);
    assert_eq!(admin.task_done(&agent, json!(1)).await["status"], "completed");
    verify(&receiver.call(0).await, &another);
    admin.put("/api/v1/secrets/key", &json!({ "value": "Qz7NoKeyAtAll" })).await.expect(200);
    assert_eq!(code(&admin.task_done(&agent, json!(1)).await), ("failed", "secret_unusable"));
    admin.delete("/api/v1/secrets/key").await.expect(200);
    assert_eq!(code(&admin.task_done(&agent, json!(1)).await), ("failed", "secret_missing"));
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn a_repeated_key_answers_as_before_also_when_the_secret_is_gone() {
    let (_server, admin) = reaching().await;
    let receiver = Receiver::answering(200, json!(1)).await;
    let agent = json!({ "name": "Hook", "kind": "webhook", "config": config(&receiver, "sync") });
    let made = admin.post_keyed("/api/v1/agents", "once", &agent).await.expect(201);
    admin.delete("/api/v1/secrets/key").await.expect(200);
    assert_eq!(admin.post_keyed("/api/v1/agents", "once", &agent).await.expect(201).id(), made.id());
    admin.post("/api/v1/agents", &agent).await.problem(422);
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_a_pointer() {
    let (_server, admin) = reaching().await;
    for (config, pointers) in [
        (json!([]), vec!["/config"]),
        (json!({}), vec!["/config/url"]),
        (json!({ "url": 7 }), vec!["/config/url"]),
        (json!({ "url": "ftp://example.org/" }), vec!["/config/url"]),
        (json!({ "url": "https://user:password@example.org/" }), vec!["/config/url"]),
        (json!({ "url": "http://169.254.169.254/latest/meta-data" }), vec!["/config/url"]),
        (json!({ "url": "http://0x0a000001/" }), vec!["/config/url"]),
        (json!({ "url": "https://example.org/", "mode": "later" }), vec!["/config/mode"]),
        (json!({ "url": "https://example.org/", "mode": null }), vec!["/config/mode"]),
        (json!({ "url": "https://example.org/", "secret_name": 7 }), vec!["/config/secret_name"]),
        (json!({ "url": "https://example.org/", "hook/s": 7 }), vec!["/config/hook~1s"]),
        (json!({ "url": "", "mode": "", "x": 1 }), vec!["/config/x", "/config/url", "/config/mode"]),
    ] {
        let agent = json!({ "name": "Hook", "kind": "webhook", "config": config });
        let refused = admin.post("/api/v1/agents", &agent).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), pointers, "{config}");
        assert!(!String::from_utf8_lossy(&refused.body).contains("password@"));
    }
}

#[tokio::test]
async fn without_leave_of_the_operator_nothing_on_this_machine_is_called() {
    let launch = Launch::with_admin().reaching_loopback();
    let server = launch.start();
    let admin = Client::admin(&server).await;
    let receiver = Receiver::answering(200, json!(1)).await;
    let made = hook(&admin, json!({ "url": receiver.url }), 5).await;
    assert_eq!(admin.task_done(&made, json!(1)).await["status"], "completed");
    let server = server.stop().launch().clone().unset("MARVIN_EGRESS_ALLOW").start();
    let admin = admin.at(&server);
    // Made while it was allowed.
    assert_eq!(code(&admin.task_done(&made, json!(1)).await), ("failed", "webhook_blocked"));
    let config = json!({ "url": receiver.url });
    let refused = admin.post("/api/v1/agents", &json!({ "name": "Hook", "kind": "webhook", "config": config })).await;
    refused.problem(422);
    assert_eq!(refused.pointers(), ["/config/url"]);
    // What a name leads to is known when it is called.
    let port = Url::parse(&receiver.url).unwrap().port().unwrap();
    let named = hook(&admin, json!({ "url": format!("http://localhost:{port}/hook") }), 5).await;
    assert_eq!(code(&admin.task_done(&named, json!(1)).await), ("failed", "webhook_blocked"));
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn a_wrong_list_of_networks_stops_the_start() {
    let refused = Launch::with_admin().set("MARVIN_EGRESS_ALLOW", "10.1.2.3/8").run(&["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("MARVIN_EGRESS_ALLOW"), "{said}");
}

#[tokio::test]
async fn a_held_call_does_not_hold_up_others() {
    let (_server, admin) = reaching().await;
    let go = Arc::new(Notify::new());
    let held = go.clone();
    let slow = Receiver::start(move |_, _| {
        Reply::Held(held.clone(), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())
    })
    .await;
    let fast = Receiver::answering(200, json!("fast")).await;
    let (slow_agent, fast_agent) =
        (hook(&admin, config(&slow, "sync"), 1).await, hook(&admin, config(&fast, "sync"), 1).await);
    let waiting = admin.submit(&slow_agent, json!(1)).await.id();
    slow.call(0).await;
    assert_eq!(admin.task_done(&fast_agent, json!(1)).await["output"], "fast");
    go.notify_one();
    assert_eq!(admin.task_ended(&waiting).await["status"], "completed");
}
