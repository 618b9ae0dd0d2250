//! Answers that come later, over the address that the call named.
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

use super::{KEY, code, config, hook, reaching, story, verify};
use crate::support::{Answer, Client, Receiver, Reply, Server, eventually};

async fn accepting() -> Receiver {
    Receiver::start(|_, _| Reply::status(202, "")).await
}

/// Answers as a receiver does: with nothing but the address.
async fn tell(server: &Server, url: &str, body: &Value) -> Answer {
    let path = &url[url.find("/api/").unwrap()..];
    let stranger = Client::stranger(server);
    stranger.send(stranger.bare(Method::POST, path).json(body)).await
}

/// A task whose call was taken on, and the address for its answer.
async fn handed_over(admin: &Client, agent: &str, receiver: &Receiver) -> (String, String) {
    let number = receiver.calls().len();
    let task = admin.submit(agent, json!({ "n": 1 })).await.id();
    let call = receiver.call(number).await;
    verify(&call, KEY);
    eventually("the call is recorded", async || {
        story(admin, &task).await.iter().any(|event| event == "step_completed").then_some(())
    })
    .await;
    (task, call.callback())
}

#[tokio::test]
async fn a_callback_completes_the_task_once() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let (task, url) = handed_over(&admin, &agent, &receiver).await;
    assert!(url.starts_with(&format!("{}/api/v1/callbacks/", server.url())), "{url}");
    let told = tell(&server, &url, &json!({ "output": { "sum": 3 } })).await.expect(200);
    assert_eq!(told.id(), task);
    let ended = admin.task_ended(&task).await;
    assert_eq!(
        (&ended["status"], &ended["output"], &ended["attempt"]),
        (&json!("completed"), &json!({ "sum": 3 }), &json!(1))
    );
    let names: Vec<_> = ended["steps"].as_array().unwrap().iter().map(|step| step["name"].clone()).collect();
    assert_eq!(names, ["accepted", "answer"]);
    for body in [json!({ "output": { "sum": 3 } }), json!({ "output": 4 }), json!({ "error": { "code": "no" } })] {
        tell(&server, &url, &body).await.problem(409);
    }
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn of_many_callbacks_at_once_one_counts() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let (task, url) = handed_over(&admin, &agent, &receiver).await;
    let bodies: Vec<_> = (0..12).map(|n| json!({ "output": n })).collect();
    let answers = join_all(bodies.iter().map(|body| tell(&server, &url, body))).await;
    let taken: Vec<_> = (0..12).filter(|n| answers[*n].status == 200).collect();
    assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status)));
    assert_eq!(taken.len(), 1);
    assert_eq!(admin.task_ended(&task).await["output"], taken[0]);
}

#[tokio::test]
async fn a_null_is_an_output_too() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let (task, url) = handed_over(&admin, &agent, &receiver).await;
    tell(&server, &url, &json!({ "output": null })).await.expect(200);
    let ended = admin.task_ended(&task).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &Value::Null));
}

#[tokio::test]
async fn a_callback_with_an_error_fails_the_task_by_its_code() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let (task, url) = handed_over(&admin, &agent, &receiver).await;
    let error = json!({ "error": { "code": "no_such_order", "message": "There is no order 7" } });
    tell(&server, &url, &error).await.expect(200);
    let ended = admin.task_ended(&task).await;
    assert_eq!(code(&ended), ("failed", "no_such_order"));
    assert_eq!(ended["error"]["message"], "There is no order 7");
    // Given fresh attempts, it is another round: the answer of the one before was acted on.
    admin.order(&format!("/api/v1/tasks/{task}/retry")).await.expect(200);
    let again = receiver.call(1).await;
    assert_ne!(again.header("webhook-id"), receiver.calls()[0].header("webhook-id"));
    tell(&server, &url, &json!({ "output": "late" })).await.problem(409);
    assert_eq!(tell_when_recorded(&server, &again.callback(), &json!({ "output": "right" })).await, 200);
    assert_eq!(admin.task_ended(&task).await["output"], "right");
}

/// A receiver comes again while it is told to.
async fn tell_when_recorded(server: &Server, url: &str, body: &Value) -> u16 {
    eventually("the answer is taken or refused", async || {
        let status = tell(server, url, body).await.status;
        (status != 503).then_some(status)
    })
    .await
}

#[tokio::test]
async fn an_error_that_may_pass_brings_another_call_with_an_id_of_its_own() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let agent = hook(&admin, config(&receiver, "callback"), 2).await;
    let (task, url) = handed_over(&admin, &agent, &receiver).await;
    let error = json!({ "error": { "code": "busy", "message": "Later", "retry": true } });
    tell(&server, &url, &error).await.expect(200);
    let second = receiver.call(1).await;
    assert_ne!(second.header("webhook-id"), receiver.calls()[0].header("webhook-id"));
    assert_ne!(second.callback(), url);
    assert_eq!(second.json()["attempt"], 2);
    assert_eq!(tell_when_recorded(&server, &second.callback(), &error).await, 200);
    assert_eq!(code(&admin.task_ended(&task).await), ("dead", "busy"));
}

#[tokio::test]
async fn a_callback_after_the_end_is_409_and_an_address_that_nobody_gave_out_404() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let (task, url) = handed_over(&admin, &agent, &receiver).await;
    let output = json!({ "output": 1 });
    let (base, token) = url.rsplit_once('/').unwrap();
    for at in 0..token.len() {
        let mut altered = token.as_bytes().to_vec();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        tell(&server, &format!("{base}/{altered}"), &output).await.problem(404);
    }
    for other in
        ["x", "%00", "..", &token[..40], &format!("{token}AAAA"), &format!("{token}="), &"A".repeat(token.len())]
    {
        assert_eq!(tell(&server, &format!("{base}/{other}"), &output).await.status, 404, "{other}");
    }
    admin.order(&format!("/api/v1/tasks/{task}/cancel")).await.expect(200);
    tell(&server, &url, &output).await.problem(409);
    assert_eq!(admin.task_ended(&task).await["status"], "cancelled");
    // Another instance has other keys.
    let (elsewhere, _) = reaching().await;
    tell(&elsewhere, &url, &output).await.problem(404);
}

#[tokio::test]
async fn a_malformed_callback_is_refused_and_uses_nothing_up() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let (task, url) = handed_over(&admin, &agent, &receiver).await;
    for (body, status) in [
        (json!([]), 400),
        (json!("done"), 400),
        (json!({ "output": 1, "more": 2 }), 400),
        (json!({ "error": "broken" }), 400),
        (json!({ "error": { "code": "a", "retry": "yes" } }), 400),
        (json!({}), 422),
        (json!({ "output": 1, "error": { "code": "a" } }), 422),
        (json!({ "error": { "code": "" } }), 422),
        (json!({ "error": { "code": "Not A Code" } }), 422),
        (json!({ "error": { "code": "a".repeat(65) } }), 422),
        (json!({ "error": { "code": "a", "message": "m".repeat(4_001) } }), 422),
        (json!({ "output": "x".repeat(1024 * 1024) }), 413),
    ] {
        let refused = tell(&server, &url, &body).await;
        refused.problem(status);
    }
    let path = &url[url.find("/api/").unwrap()..];
    let stranger = Client::stranger(&server);
    let plain = stranger.bare(Method::POST, path).body("{\"output\": 1}");
    stranger.send(plain).await.problem(415);
    stranger.send(stranger.bare(Method::GET, path)).await.problem(405);
    // Nearly as large as a body may be: with what is kept around it, larger than a result may be.
    let edge = json!({ "output": "x".repeat(1024 * 1024 - 13) });
    tell(&server, &url, &edge).await.expect(200);
    assert_eq!(admin.task_ended(&task).await["status"], "completed");
}

#[tokio::test]
async fn a_callback_that_is_faster_than_the_answer_to_its_call_comes_again_and_counts() {
    let (server, admin) = reaching().await;
    let go = Arc::new(Notify::new());
    let held = go.clone();
    let accepted = b"HTTP/1.1 202 Yes\r\ncontent-length: 0\r\n\r\n".to_vec();
    let receiver = Receiver::start(move |_, _| Reply::Held(held.clone(), accepted.clone())).await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    let url = receiver.call(0).await.callback();
    let early = tell(&server, &url, &json!({ "output": "early" })).await;
    early.problem(503);
    assert_eq!(early.header("retry-after"), "1");
    // One that comes while the call is being answered waits for that.
    let output = json!({ "output": "early" });
    let (told, ()) = tokio::join!(tell_when_recorded(&server, &url, &output), async { go.notify_one() });
    assert_eq!(told, 200);
    assert_eq!(admin.task_ended(&task).await["output"], "early");
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn a_cancellation_frees_the_place_of_a_task_that_waits_for_its_callback() {
    let (server, admin) = reaching().await;
    let receiver = accepting().await;
    let limits = json!({ "max_concurrency": 1 });
    let agent = json!({ "name": "One", "kind": "webhook", "config": config(&receiver, "callback"), "limits": limits });
    let agent = admin.post("/api/v1/agents", &agent).await.expect(201).id();
    let (first, _) = handed_over(&admin, &agent, &receiver).await;
    let second = admin.submit(&agent, json!({ "n": 2 })).await.id();
    admin.order(&format!("/api/v1/tasks/{first}/cancel")).await.expect(200);
    // The attempt that waits has a minute; its place is free long before.
    let call = receiver.call(1).await;
    assert_eq!(call.json()["task_id"], second);
    assert_eq!(tell_when_recorded(&server, &call.callback(), &json!({ "output": 2 })).await, 200);
    assert_eq!(admin.task_ended(&second).await["output"], 2);
}
