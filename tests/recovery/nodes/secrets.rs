//! A secret that is changed on one node is used by the other, and a callback may come to either.
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::{first_node, next_node};
use crate::support::{Client, Database, Receiver, Reply, Server, eventually};

fn key(letter: &str) -> String {
    format!("whsec_{}", letter.repeat(40))
}

/// Two nodes that may call this machine.
fn nodes(database: &Database) -> [Server; 2] {
    let first = first_node(database).stop().launch().clone().reaching_loopback().start();
    let second = next_node(database, &first).stop().launch().clone().reaching_loopback().start();
    [first, second]
}

#[tokio::test]
async fn a_secret_that_is_changed_on_one_node_is_changed_on_the_other() {
    let database = Database::shared();
    let [first, second] = nodes(&database);
    let here = Client::admin(&first).await;
    let there = here.at(&second);
    let receiver = Receiver::answering(200, json!(1)).await;
    here.put("/api/v1/secrets/key", &json!({ "value": key("A") })).await.expect(201);
    let config = json!({ "url": receiver.url, "secret_name": "key" });
    let made = eventually("the other node knows the secret", async || {
        let agent = json!({ "name": "Hook", "kind": "webhook", "config": config });
        let answer = there.post("/api/v1/agents", &agent).await;
        (answer.status == 201).then(|| answer.id())
    })
    .await;
    // Whichever node takes the task, and however fast the changes come.
    for (node, letter) in [(&here, "B"), (&there, "C"), (&here, "D"), (&there, "E")] {
        let before = receiver.calls().len();
        let set = eventually("nobody else is setting it", async || {
            let answer = node.put("/api/v1/secrets/key", &json!({ "value": key(letter) })).await;
            (answer.status == 200).then_some(answer)
        })
        .await;
        // Both have heard of it once they have heard of its event.
        for node in [&here, &there] {
            node.get_at("/api/v1/events?limit=1", set.position()).await.expect(200);
        }
        eventually("calls are signed with the new value", async || {
            let task = there.submit(&made, json!(letter)).await.id();
            assert_eq!(there.task_ended(&task).await["status"], "completed");
            let calls = receiver.calls();
            let last = &calls[calls.len() - 1];
            Webhook::new(&key(letter)).unwrap().verify(&last.body, &last.headers).ok()
        })
        .await;
        assert!(receiver.calls().len() > before);
    }
    here.delete("/api/v1/secrets/key").await.expect(200);
    eventually("the other node knows that it is gone", async || {
        there.get("/api/v1/secrets").await.expect(200).items().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_callback_is_taken_by_the_node_that_does_not_wait_for_it() {
    let database = Database::shared();
    let [first, second] = nodes(&database);
    let here = Client::admin(&first).await;
    let receiver = Receiver::start(|_, _| Reply::status(202, "")).await;
    let agent = here.agent("webhook", json!({ "url": receiver.url, "mode": "callback" })).await;
    for n in 0..6_usize {
        let task = here.submit(&agent, json!(n)).await.id();
        let url = receiver.call(n).await.callback();
        let node = if n % 2 == 0 { &first } else { &second };
        let stranger = Client::stranger(node);
        let path = &url[url.find("/api/").unwrap()..];
        eventually("the callback is taken", async || {
            let told = stranger.send(stranger.bare(Method::POST, path).json(&json!({ "output": n }))).await;
            (told.status == 200).then_some(())
        })
        .await;
        let other = if n % 2 == 0 { &second } else { &first };
        let again = Client::stranger(other);
        again.send(again.bare(Method::POST, path).json(&json!({ "output": Value::Null }))).await.problem(409);
        let ended = here.task_ended(&task).await;
        assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!(n)));
    }
}
