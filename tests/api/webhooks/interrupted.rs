//! The server is killed between a call and its record, and between a call that was taken on and its callback.
use reqwest::Method;
use serde_json::{Value, json};

use super::{KEY, config, hook, reaching, story, verify};
use crate::support::{Answer, Client, Receiver, Reply, Server, eventually};

async fn tell(server: &Server, url: &str, body: &Value) -> Answer {
    let path = &url[url.find("/api/").unwrap()..];
    let stranger = Client::stranger(server);
    stranger.send(stranger.bare(Method::POST, path).json(body)).await
}

async fn has(admin: &Client, task: &str, event: &str) {
    eventually(event, async || story(admin, task).await.iter().any(|told| told == event).then_some(())).await;
}

#[tokio::test]
async fn a_call_whose_answer_was_not_recorded_comes_again_under_the_same_id() {
    for mode in ["sync", "callback"] {
        let (server, admin) = reaching().await;
        let receiver = Receiver::start(|number, _| match number {
            // Done over there, and nobody hears of it any more.
            0 => Reply::Hang(Vec::new()),
            _ => Reply::json(200, &json!("done")),
        })
        .await;
        let agent = hook(&admin, config(&receiver, mode), 5).await;
        let task = admin.submit(&agent, json!(1)).await.id();
        let first = receiver.call(0).await;
        let server = server.kill9().start();
        let second = receiver.call(1).await;
        verify(&second, KEY);
        assert_eq!(second.header("webhook-id"), first.header("webhook-id"), "{mode}");
        assert_eq!((first.json()["attempt"].clone(), second.json()["attempt"].clone()), (json!(1), json!(2)));
        let admin = admin.at(&server);
        if mode == "callback" {
            let token = |url: String| url.rsplit('/').next().unwrap().to_owned();
            assert_eq!(token(first.callback()), token(second.callback()), "the address of before still answers");
            has(&admin, &task, "step_completed").await;
            tell(&server, &first.callback(), &json!({ "output": "done" })).await.expect(200);
        }
        let ended = admin.task_ended(&task).await;
        assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!("done")), "{mode}");
        assert_eq!(receiver.calls().len(), 2);
    }
}

#[tokio::test]
async fn a_call_that_was_taken_on_is_not_made_again_after_a_crash_and_its_address_still_answers() {
    let (server, admin) = reaching().await;
    let receiver = Receiver::start(|_, _| Reply::status(202, "")).await;
    let agent = hook(&admin, config(&receiver, "callback"), 5).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    let url = receiver.call(0).await.callback();
    has(&admin, &task, "step_completed").await;
    let server = server.kill9().start();
    let admin = admin.at(&server);
    eventually("the next attempt runs", async || {
        (story(&admin, &task).await.iter().filter(|event| *event == "started").count() == 2).then_some(())
    })
    .await;
    tell(&server, &url, &json!({ "output": "after" })).await.expect(200);
    let ended = admin.task_ended(&task).await;
    assert_eq!((&ended["output"], &ended["attempt"]), (&json!("after"), &json!(2)));
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn a_callback_between_two_attempts_is_recorded_and_found_by_the_next() {
    for answer in [json!({ "output": "between" }), json!({ "error": { "code": "no_order", "message": "None" } })] {
        let (server, admin) = reaching().await;
        let receiver = Receiver::start(|_, _| Reply::status(202, "")).await;
        let agent = hook(&admin, config(&receiver, "callback"), 5).await;
        let task = admin.submit(&agent, json!(1)).await.id();
        let url = receiver.call(0).await.callback();
        has(&admin, &task, "step_completed").await;
        // A paused agent's task stays between two attempts for as long as the test wants.
        admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
        let server = server.kill9().start();
        let admin = admin.at(&server);
        has(&admin, &task, "heartbeat_lost").await;
        tell(&server, &url, &answer).await.expect(200);
        tell(&server, &url, &answer).await.problem(409);
        // Also across one more crash.
        let server = server.kill9().start();
        let admin = admin.at(&server);
        admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
        let ended = admin.task_ended(&task).await;
        match answer.get("output") {
            Some(output) => assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), output)),
            None => assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("no_order"))),
        }
        assert_eq!(receiver.calls().len(), 1);
        assert_eq!(story(&admin, &task).await.iter().filter(|event| *event == "started").count(), 2);
    }
}

#[tokio::test]
async fn calls_are_signed_with_the_same_secret_after_the_key_file_was_rotated() {
    let (server, admin) = reaching().await;
    let receiver = Receiver::start(|_, _| Reply::json(200, &json!(1))).await;
    let agent = hook(&admin, config(&receiver, "sync"), 5).await;
    let launch = server.launch().clone();
    let rotated = tokio::task::spawn_blocking(move || launch.run(&["keys", "rotate"])).await.unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    assert_eq!(admin.task_done(&agent, json!(1)).await["status"], "completed");
    let server = server.stop().start();
    assert_eq!(admin.at(&server).task_done(&agent, json!(2)).await["status"], "completed");
    receiver.calls().iter().for_each(|call| verify(call, KEY));
    assert_eq!(receiver.calls().len(), 2);
}
