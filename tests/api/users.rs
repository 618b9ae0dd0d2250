//! People: registered, listed, and erased with every trace of their words.
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::support::{Client, PASSWORD, Server, eventually, user};

#[tokio::test]
async fn a_registered_person_is_listed_shown_and_can_sign_in() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let created =
        admin.post("/api/v1/users", &user("Bob@Example.org", "Bob 🌷", &["member", "auditor"])).await.expect(201);
    let id = created.id();
    let path = format!("/api/v1/users/{id}");
    assert_eq!(created.header("location"), path);
    assert_eq!((created.header("etag"), created.json()["sequence"].as_u64()), ("\"1\"", Some(1)));
    assert_eq!(created.json()["position"], created.position());
    let shown = admin.get_at(&path, created.position()).await.expect(200);
    assert_eq!(shown.header("etag"), "\"1\"");
    let bob = shown.json();
    for (field, value) in [
        ("id", json!(id)),
        ("email", json!("Bob@Example.org")),
        ("display_name", json!("Bob 🌷")),
        ("roles", json!(["member", "auditor"])),
        ("status", json!("active")),
    ] {
        assert_eq!(bob[field], value, "{field}");
    }
    assert!(bob["created_at"].as_str().unwrap().ends_with('Z') && bob.get("erased").is_none(), "{bob}");
    let listed = admin.get("/api/v1/users").await.expect(200).items();
    assert_eq!((listed.len(), &listed[0]), (2, &bob), "newest first");
    let bob = Client::sign_in(&server, "bob@example.org", PASSWORD).await;
    assert_eq!(bob.get(&path).await.expect(200).json(), listed[0]);
}

#[tokio::test]
async fn pages_of_people_walk_each_exactly_once() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let mut ids = vec![admin.user_id().to_owned()];
    for number in 0..6 {
        let email = format!("user{number}@example.org");
        ids.push(admin.post("/api/v1/users", &user(&email, "User", &["member"])).await.expect(201).id());
    }
    ids.reverse();
    for limit in [1, 2, 3, 7, 200] {
        let (mut walked, mut cursor) = (Vec::new(), String::new());
        loop {
            let page =
                admin.get_at(&format!("/api/v1/users?limit={limit}{cursor}"), admin.head().await).await.expect(200);
            assert!(page.items().len() <= limit);
            walked.extend(page.items().iter().map(|user| user["id"].as_str().unwrap().to_owned()));
            let Some(next) = page.json()["next_cursor"].as_str().map(str::to_owned) else { break };
            assert_eq!(page.items().len(), limit, "only the last page is short");
            cursor = format!("&cursor={next}");
        }
        assert_eq!(walked, ids, "pages of {limit}");
    }
}

#[tokio::test]
async fn an_email_belongs_to_one_person_in_any_letter_case() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    admin.post("/api/v1/users", &user("bob@example.org", "Bob", &["member"])).await.expect(201);
    let head = admin.head().await;
    for email in ["bob@example.org", "BOB@EXAMPLE.ORG", "Bob@Example.Org"] {
        let refused = admin.post("/api/v1/users", &user(email, "Rob", &["member"])).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), ["/email"]);
    }
    assert_eq!(admin.head().await, head);
}

#[tokio::test]
async fn of_registrations_of_one_email_at_once_exactly_one_wins() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let attempts: Vec<_> = (0..6)
        .map(|number| {
            let (admin, email) = (admin.clone(), if number % 2 == 0 { "bob@example.org" } else { "BOB@example.org" });
            tokio::spawn(async move { admin.post("/api/v1/users", &user(email, "Bob", &["member"])).await })
        })
        .collect();
    let mut won = 0;
    for attempt in attempts {
        let answer = attempt.await.unwrap();
        match answer.status {
            201 => won += 1,
            _ => {
                answer.problem(422);
                assert_eq!(answer.pointers(), ["/email"]);
            }
        }
    }
    assert_eq!(won, 1);
    assert_eq!(admin.get_at("/api/v1/users", admin.head().await).await.expect(200).items().len(), 2);
    Client::sign_in(&server, "bob@example.org", PASSWORD).await;
}

/// Everything of a person that the API answers, to the administrator and to nobody else.
async fn traces_of(admin: &Client, person: &str, task: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for path in [
        format!("/api/v1/users/{person}"),
        "/api/v1/users".to_owned(),
        format!("/api/v1/users/{person}/history"),
        format!("/api/v1/tasks/{task}"),
        "/api/v1/tasks".to_owned(),
        format!("/api/v1/tasks/{task}/history"),
        "/api/v1/events?limit=1000".to_owned(),
    ] {
        found.push(admin.get_at(&path, admin.head().await).await.expect(200).json());
    }
    found
}

#[tokio::test]
async fn an_erased_persons_words_read_as_null_everywhere_also_when_views_are_rebuilt() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let then = json!([{ "notify": { "to": "requester", "severity": "info", "title": "Hi", "body": "{{ input }}" } }]);
    let agent = admin.agent("rules", json!({ "rules": [{ "name": "r", "when": "true", "then": then }] })).await;
    let bob = admin.colleague("bob-the-marked", &["member"]).await;
    let id = bob.user_id();
    let task = bob.task_done(&agent, json!("marked input")).await["id"].as_str().unwrap().to_owned();
    eventually("both notifications are there", async || {
        (bob.get("/api/v1/notifications").await.expect(200).items().len() == 2).then_some(())
    })
    .await;
    let before = serde_json::to_string(&traces_of(&admin, id, &task).await).unwrap();
    assert!(before.contains("bob-the-marked@") && before.contains("\"marked input\""), "the test can fail");

    let receipt = admin.delete(&format!("/api/v1/users/{id}")).await.expect(200);
    assert_eq!(receipt.id(), id);
    eventually("the key is destroyed", async || {
        let traces = serde_json::to_string(&traces_of(&admin, id, &task).await).unwrap();
        (!traces.contains("bob-the-marked") && !traces.contains("marked input")).then_some(())
    })
    .await;
    check_erased(&admin, id, &task).await;

    let stopped = server.stop();
    stopped.launch().drop_views().await;
    let server = stopped.start();
    check_erased(&admin.at(&server), id, &task).await;
}

async fn check_erased(admin: &Client, id: &str, task: &str) {
    let traces = traces_of(admin, id, task).await;
    let text = serde_json::to_string(&traces).unwrap();
    assert!(!text.contains("bob-the-marked") && !text.contains("marked input"), "{text}");
    let user = &traces[0];
    assert_eq!((&user["erased"], &user["status"]), (&json!(true), &json!("erased")));
    assert_eq!((&user["email"], &user["display_name"], &user["roles"]), (&Value::Null, &Value::Null, &json!([])));
    let task = &traces[3];
    assert_eq!((&task["erased"], &task["input"], &task["output"]), (&json!(true), &Value::Null, &Value::Null));
    assert_eq!(task["status"], "completed", "facts stay");
    let events = traces[6].as_array().unwrap();
    let mut erased = BTreeSet::new();
    for event in events.iter().filter(|event| event["data"]["erased"] == true) {
        assert_eq!(event["data"]["personal"], Value::Null);
        erased.insert(event["type"].as_str().unwrap());
    }
    let expected = [
        "marvin.notification.raised.v1",
        "marvin.task.completed.v1",
        "marvin.task.step_completed.v1",
        "marvin.task.submitted.v1",
        "marvin.user.registered.v1",
    ];
    assert_eq!(erased.into_iter().collect::<Vec<_>>(), expected);
    let administrators = events.iter().find(|event| event["type"] == "marvin.user.registered.v1").unwrap();
    assert!(administrators["data"]["personal"]["email"].is_string(), "others keep theirs: {administrators}");
}

#[tokio::test]
async fn erasure_cancels_the_persons_open_tasks_and_nobody_elses() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let bob = admin.colleague("bob", &["member"]).await;
    let mut theirs = Vec::new();
    for number in 0..3 {
        theirs.push(bob.submit(&agent, json!(number)).await.id());
    }
    let mine = admin.submit(&agent, json!("mine")).await.id();
    admin.delete(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200);
    for task in theirs {
        assert_eq!(admin.task_ended(&task).await["status"], "cancelled");
        let history = admin.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
        let last = history.as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["data"]["facts"]["reason"], "requester_erased");
    }
    assert_eq!(admin.get(&format!("/api/v1/tasks/{mine}")).await.expect(200).json()["status"], "queued");
}

#[tokio::test]
async fn an_erased_persons_email_is_free_again_and_belongs_to_somebody_new() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let bob = admin.colleague("bob", &["member"]).await;
    admin.delete(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200);
    let second = eventually("the email is free", async || {
        let answer = admin.post("/api/v1/users", &user("bob@example.org", "Second", &["member"])).await;
        (answer.status == 201).then(|| answer.id())
    })
    .await;
    assert_ne!(second, bob.user_id());
    assert_eq!(Client::sign_in(&server, "bob@example.org", PASSWORD).await.user_id(), second);
    let first = admin.get(&format!("/api/v1/users/{}", bob.user_id())).await.expect(200).json();
    assert_eq!(first["email"], Value::Null);
}

#[tokio::test]
async fn erasing_an_erased_person_again_appends_nothing() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let path = format!("/api/v1/users/{}", admin.colleague("bob", &["member"]).await.user_id());
    let stale = admin.request(Method::DELETE, &path).header("if-match", "\"7\"");
    admin.send(stale).await.problem(412);
    let first = admin.delete(&path).await.expect(200);
    let head = admin.head().await;
    assert_eq!(admin.delete(&path).await.expect(200).json(), first.json());
    assert_eq!(admin.head().await, head);
    admin.delete(&format!("/api/v1/users/{}", uuid::Uuid::now_v7())).await.problem(404);
}

#[tokio::test]
async fn the_last_administrator_can_never_be_erased_not_even_by_two_at_once() {
    let server = Server::start();
    let ann = Client::admin(&server).await;
    let path = |client: &Client| format!("/api/v1/users/{}", client.user_id());
    let head = ann.head().await;
    ann.delete(&path(&ann)).await.problem(422);
    assert_eq!(ann.head().await, head);
    let bob = ann.colleague("bob", &["admin"]).await;
    let (of_ann, of_bob) = (path(&ann), path(&bob));
    let (first, second) = tokio::join!(ann.delete(&of_bob), bob.delete(&of_ann));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200, "{first:?} {second:?}");
    assert!([401, 409, 422].contains(&statuses[1]), "{first:?} {second:?}");
    let survivor = if first.status == 200 { &ann } else { &bob };
    survivor.delete(&path(survivor)).await.problem(422);
    survivor.get("/api/v1/users").await.expect(200);
}
