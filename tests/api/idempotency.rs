//! `Idempotency-Key`: a repeated call is the same command, whoever else does what meanwhile.
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Answer, Client, Server, user};

/// What must be alike when an answer is repeated.
fn essence(answer: &Answer) -> (u16, Value, String, String, String) {
    let header = |name: &str| answer.header(name).to_owned();
    (answer.status, answer.json(), header("location"), header("etag"), header("marvin-position"))
}

#[tokio::test]
async fn the_same_call_answers_the_first_answer_also_after_a_restart() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let waiting = admin.agent("rules", json!({ "rules": [] })).await;
    admin.order(&format!("/api/v1/agents/{waiting}/pause")).await.expect(200);
    let task = admin.submit(&waiting, json!(1)).await.id();
    let calls: Vec<(String, Value)> = vec![
        (format!("/api/v1/agents/{agent}/tasks"), json!({ "input": { "n": 1 } })),
        ("/api/v1/agents".into(), json!({ "name": "Agent", "kind": "insight", "config": {} })),
        ("/api/v1/users".into(), user("bob@example.org", "Bob", &["member"])),
        (format!("/api/v1/tasks/{task}/cancel"), Value::Null),
        (format!("/api/v1/agents/{agent}/pause"), Value::Null),
        (format!("/api/v1/agents/{agent}/resume"), Value::Null),
    ];
    let mut first = Vec::new();
    for (path, body) in &calls {
        let answer = admin.post_keyed(path, "key-1", body).await;
        assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
        first.push(essence(&answer));
    }
    admin.delete(&format!("/api/v1/agents/{agent}")).await.expect(200);
    let head = admin.head().await;
    let repeat = async |admin: &Client| {
        for ((path, body), first) in calls.iter().zip(&first) {
            assert_eq!(&essence(&admin.post_keyed(path, "key-1", body).await), first, "{path}");
        }
    };
    repeat(&admin).await;
    // What the first calls caused may still be on its way, but no command of theirs is in the log twice.
    let server = server.stop().start();
    let admin = admin.at(&server);
    repeat(&admin).await;
    let commands: Vec<_> =
        ["agent.created", "agent.paused", "agent.resumed", "task.submitted", "user.registered"].into();
    let query = format!("/api/v1/events?limit=1000&after={head}&types={}", commands.join(","));
    assert_eq!(admin.get(&query).await.expect(200).json(), json!([]));
}

/// Status, headers and the bytes of the body: all but when and under which trace it was said.
type Whole = (u16, Vec<(String, String)>, Vec<u8>);

fn whole(answer: &Answer) -> Whole {
    let header = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let told_anew = ["date", "marvin-trace-id"];
    let mut headers: Vec<_> =
        answer.headers.iter().map(header).filter(|(name, _)| !told_anew.contains(&name.as_str())).collect();
    headers.sort_unstable();
    (answer.status, headers, answer.body.to_vec())
}

/// The same call many times over connections of their own, all at once; answers the one answer that all of them got.
async fn fifty_at_once(admin: &Client, path: &str, key: &str, body: &Value) -> Whole {
    let calls = (0..50).map(|_| {
        let (admin, path, key, body) = (admin.clone(), path.to_owned(), key.to_owned(), body.clone());
        tokio::spawn(async move { whole(&admin.post_keyed(&path, &key, &body).await) })
    });
    let calls: Vec<_> = calls.collect();
    let mut answers = BTreeSet::new();
    for call in calls {
        answers.insert(call.await.unwrap());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.pop_first().unwrap()
}

#[tokio::test]
async fn fifty_calls_at_once_under_one_key_are_one_task_and_answer_alike_to_the_byte() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let path = format!("/api/v1/agents/{agent}/tasks");
    let first = fifty_at_once(&admin, &path, "one", &json!({ "input": 1 })).await;
    assert_eq!(first.0, 202);
    assert!(
        ["location", "etag", "marvin-position"].iter().all(|name| first.1.iter().any(|(header, _)| header == name))
    );
    let submitted = admin.get("/api/v1/events?limit=1000&types=task.submitted").await.expect(200).json();
    assert_eq!(submitted.as_array().unwrap().len(), 1);
    let tasks = admin.get_at("/api/v1/tasks", admin.head().await).await.expect(200).items();
    assert_eq!(tasks.len(), 1);
    admin.task_ended(tasks[0]["id"].as_str().unwrap()).await;
    let server = server.stop().start();
    assert_eq!(fifty_at_once(&admin.at(&server), &path, "one", &json!({ "input": 1 })).await, first);
}

#[tokio::test]
async fn a_keyed_cancel_answers_its_first_answer_for_ever_and_another_one_hears_that_the_task_has_ended() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let done = admin.task_done(&agent, json!(1)).await["id"].as_str().unwrap().to_owned();
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let task = admin.submit(&agent, json!(1)).await.id();
    let (cancel, too_late) = (format!("/api/v1/tasks/{task}/cancel"), format!("/api/v1/tasks/{done}/cancel"));
    let first = fifty_at_once(&admin, &cancel, "stop", &Value::Null).await;
    assert_eq!(first.0, 200);
    let expect_the_same = async |admin: &Client| {
        assert_eq!(fifty_at_once(admin, &cancel, "stop", &Value::Null).await, first);
        admin.post_keyed(&cancel, "stop-again", &Value::Null).await.problem(409);
        admin.order(&cancel).await.problem(409);
        // What ended otherwise was not cancelled, so there is no first answer, however often it is asked for.
        admin.post_keyed(&too_late, "stop", &Value::Null).await.problem(409);
    };
    expect_the_same(&admin).await;
    let server = server.stop().start();
    let admin = admin.at(&server);
    expect_the_same(&admin).await;
    let cancelled = admin.get("/api/v1/events?limit=1000&types=task.cancelled").await.expect(200).json();
    assert_eq!(cancelled.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn another_body_under_the_same_key_is_refused() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let path = format!("/api/v1/agents/{agent}/tasks");
    admin.post_keyed(&path, "k", &json!({ "input": 1 })).await.expect(202);
    admin.post_keyed("/api/v1/agents", "k", &json!({ "name": "A", "kind": "insight", "config": {} })).await.expect(201);
    admin.post_keyed("/api/v1/users", "k", &user("bob@example.org", "Bob", &["member"])).await.expect(201);
    let submitted = admin.head().await;
    admin.post_keyed(&path, "k", &json!({ "input": 2 })).await.problem(422);
    let other = json!({ "name": "B", "kind": "insight", "config": {} });
    admin.post_keyed("/api/v1/agents", "k", &other).await.problem(422);
    admin.post_keyed("/api/v1/users", "k", &user("rob@example.org", "Bob", &["member"])).await.problem(422);
    let query = format!("/api/v1/events?after={submitted}&types=task.submitted,agent.created,user.registered");
    assert_eq!(admin.get(&query).await.expect(200).json(), json!([]));
}

#[tokio::test]
async fn a_key_belongs_to_its_actor_and_its_path() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let ann = admin.colleague("ann", &["member"]).await;
    let (first, second) = (admin.agent("rules", json!({ "rules": [] })).await, admin.agent("insight", json!({})).await);
    let mut ids = BTreeSet::new();
    let series = json!({ "input": { "values": [1, 2, 3, 4, 5, 6, 7, 8] } });
    for client in [&admin, &ann] {
        for agent in [&first, &second] {
            let path = format!("/api/v1/agents/{agent}/tasks");
            ids.insert(client.post_keyed(&path, "k", &series).await.expect(202).id());
        }
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_refused_call_is_not_remembered() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("insight", json!({})).await;
    let path = format!("/api/v1/agents/{agent}/tasks");
    admin.post_keyed(&path, "k", &json!({ "input": { "values": [] } })).await.problem(422);
    let series = json!({ "input": { "values": [1, 2, 3, 4, 5, 6, 7, 8] } });
    admin.post_keyed(&path, "k", &series).await.expect(202);
}

#[tokio::test]
async fn only_one_to_255_visible_characters_given_once_are_a_key() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let path = format!("/api/v1/agents/{agent}/tasks");
    let submit = |key: &[u8]| {
        let value = reqwest::header::HeaderValue::from_bytes(key).unwrap();
        let request = admin.request(Method::POST, &path).header("idempotency-key", value);
        admin.send(request.json(&json!({ "input": 1 })))
    };
    let head = admin.head().await;
    let long = "k".repeat(256);
    for bad in [&b""[..], b"two words", b"tab\tbed", "schl\u{fc}ssel".as_bytes(), b"\xff", long.as_bytes()] {
        submit(bad).await.problem(400);
    }
    let twice = admin.request(Method::POST, &path).header("idempotency-key", "a").header("idempotency-key", "b");
    admin.send(twice.json(&json!({ "input": 1 }))).await.problem(400);
    assert_eq!(admin.head().await, head);
    submit(&long.as_bytes()[1..]).await.expect(202);
    submit(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~").await.expect(202);
}

#[tokio::test]
async fn every_command_refuses_a_bad_key() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let task = admin.submit(&agent, json!(1)).await.id();
    for path in [
        "/api/v1/users".to_owned(),
        "/api/v1/agents".to_owned(),
        format!("/api/v1/agents/{agent}/pause"),
        format!("/api/v1/agents/{agent}/resume"),
        format!("/api/v1/agents/{agent}/tasks"),
        format!("/api/v1/tasks/{task}/cancel"),
        format!("/api/v1/tasks/{task}/retry"),
        "/api/v1/notifications/read-all".to_owned(),
    ] {
        let body = match path.as_str() {
            "/api/v1/users" => user("bob@example.org", "Bob", &["member"]),
            "/api/v1/agents" => json!({ "name": "A", "kind": "insight", "config": {} }),
            _ => json!({ "input": 1 }),
        };
        assert_eq!(admin.post_keyed(&path, "two words", &body).await.problem(400)["status"], 400, "{path}");
    }
}

#[tokio::test]
async fn calls_that_answer_a_session_take_no_key() {
    let server = Server::start();
    let stranger = Client::stranger(&server);
    let credentials = json!({ "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD });
    let set_up = json!({ "token": "x", "email": "x@example.org", "password": ADMIN_PASSWORD, "display_name": "X" });
    stranger.post_keyed("/api/v1/session", "k", &credentials).await.problem(400);
    stranger.post_keyed("/api/v1/setup", "k", &set_up).await.problem(400);
    stranger.post("/api/v1/session", &credentials).await.expect(200);
}
