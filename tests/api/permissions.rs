//! Who may do what, operation by operation; the table below is complete or the test fails.
use marvin::http::route::Access;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::{
    leases::NO_LEASE,
    support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, PASSWORD, Server, user},
};

const ROLES: [&str; 5] = ["admin", "operator", "member", "auditor", "integrator"];

/// What the administrator, operator, member, auditor and integrator are answered, each signed in, and what a stranger is.
/// The things behind `{id}` are the administrator's; the sign-out comes last.
const TABLE: [(&str, &str, [u16; 6]); 58] = [
    ("POST", "/api/v1/setup", [409, 409, 409, 409, 409, 409]),
    ("POST", "/api/v1/session", [200, 200, 200, 200, 200, 200]),
    ("GET", "/api/v1/session", [200, 200, 200, 200, 200, 401]),
    ("GET", "/api/v1/sessions", [200, 200, 200, 200, 200, 401]),
    ("DELETE", "/api/v1/sessions/{id}", [404, 404, 404, 404, 404, 401]),
    ("GET", "/api/v1/users", [200, 403, 403, 200, 403, 401]),
    ("POST", "/api/v1/users", [201, 403, 403, 403, 403, 401]),
    ("GET", "/api/v1/users/{id}", [200, 404, 404, 200, 404, 401]),
    ("GET", "/api/v1/users/{id}/history", [200, 404, 404, 200, 404, 401]),
    ("DELETE", "/api/v1/users/{id}", [422, 403, 403, 403, 403, 401]),
    ("GET", "/api/v1/agent-kinds", [200, 200, 200, 200, 200, 401]),
    ("GET", "/api/v1/agents", [200, 200, 200, 200, 200, 401]),
    ("POST", "/api/v1/agents", [201, 201, 403, 403, 403, 401]),
    ("GET", "/api/v1/agents/{id}", [200, 200, 200, 200, 200, 401]),
    ("GET", "/api/v1/agents/{id}/history", [200, 200, 200, 200, 200, 401]),
    ("POST", "/api/v1/agents/{id}/tasks", [202, 202, 202, 403, 403, 401]),
    ("POST", "/api/v1/agents/{id}/try", [200, 200, 200, 403, 403, 401]),
    ("PATCH", "/api/v1/agents/{id}", [200, 200, 403, 403, 403, 401]),
    ("POST", "/api/v1/agents/{id}/pause", [200, 200, 403, 403, 403, 401]),
    ("POST", "/api/v1/agents/{id}/resume", [200, 200, 403, 403, 403, 401]),
    ("GET", "/api/v1/tasks", [200, 200, 200, 200, 403, 401]),
    ("GET", "/api/v1/tasks/{id}", [200, 200, 404, 200, 403, 401]),
    ("GET", "/api/v1/tasks/{id}/history", [200, 200, 404, 200, 403, 401]),
    ("POST", "/api/v1/tasks/{id}/cancel", [409, 409, 404, 403, 403, 401]),
    ("POST", "/api/v1/tasks/{id}/retry", [422, 422, 404, 403, 403, 401]),
    ("POST", "/api/v1/agents/{id}/lease", [422, 403, 403, 403, 422, 401]),
    ("POST", "/api/v1/tasks/{id}/heartbeat", [409, 403, 403, 403, 409, 401]),
    ("POST", "/api/v1/tasks/{id}/complete", [409, 403, 403, 403, 409, 401]),
    ("POST", "/api/v1/tasks/{id}/fail", [409, 403, 403, 403, 409, 401]),
    ("GET", "/api/v1/schedules", [200, 200, 403, 200, 403, 401]),
    ("POST", "/api/v1/schedules", [201, 201, 403, 403, 403, 401]),
    ("GET", "/api/v1/schedules/{id}", [200, 200, 403, 200, 403, 401]),
    ("GET", "/api/v1/schedules/{id}/history", [200, 200, 403, 200, 403, 401]),
    ("PATCH", "/api/v1/schedules/{id}", [200, 200, 403, 403, 403, 401]),
    ("POST", "/api/v1/schedules/{id}/pause", [200, 200, 403, 403, 403, 401]),
    ("POST", "/api/v1/schedules/{id}/resume", [200, 200, 403, 403, 403, 401]),
    ("POST", "/api/v1/schedules/{id}/trigger", [200, 200, 403, 403, 403, 401]),
    ("DELETE", "/api/v1/schedules/{id}", [200, 200, 403, 403, 403, 401]),
    ("GET", "/api/v1/notifications", [200, 200, 200, 403, 403, 401]),
    ("POST", "/api/v1/notifications/{id}/read", [200, 404, 404, 403, 403, 401]),
    ("POST", "/api/v1/notifications/read-all", [200, 200, 200, 403, 403, 401]),
    ("GET", "/api/v1/projections", [200, 403, 403, 403, 403, 401]),
    ("GET", "/api/v1/projections/{name}", [200, 403, 403, 403, 403, 401]),
    ("DELETE", "/api/v1/projections/{name}/rebuild", [409, 403, 403, 403, 403, 401]),
    ("POST", "/api/v1/projections/{name}/rebuild", [202, 403, 403, 403, 403, 401]),
    ("POST", "/api/v1/projections/{name}/resume", [409, 403, 403, 403, 403, 401]),
    ("POST", "/api/v1/projections/{name}/skip", [409, 403, 403, 403, 403, 401]),
    ("GET", "/api/v1/channels/events/keys", [200, 200, 403, 200, 200, 401]),
    ("GET", "/api/v1/channels/{name}/keys", [404, 403, 403, 403, 404, 401]),
    ("GET", "/api/v1/secrets", [200, 200, 403, 403, 403, 401]),
    ("PUT", "/api/v1/secrets/{name}", [201, 403, 403, 403, 403, 401]),
    ("DELETE", "/api/v1/secrets/{name}", [200, 403, 403, 403, 403, 401]),
    ("POST", "/api/v1/callbacks/{token}", [404, 404, 404, 404, 404, 404]),
    ("GET", "/api/v1/events", [200, 200, 200, 200, 200, 401]),
    ("GET", "/api/v1/events/stream", [200, 200, 200, 200, 200, 401]),
    ("DELETE", "/api/v1/agents/{id}", [200, 200, 403, 403, 403, 401]),
    ("DELETE", "/api/v1/session", [204, 204, 204, 204, 204, 401]),
    ("GET", "/healthz", [200, 200, 200, 200, 200, 200]),
];

/// The operations that are served beside the route table of the API.
const PROBES: [&str; 1] = ["/healthz"];

/// The administrator's things that the table's `{id}` stand for.
struct Things {
    admin: String,
    agent: String,
    retiring: String,
    task: String,
    notification: String,
    schedule: String,
}

impl Things {
    async fn of(admin: &Client) -> Self {
        let agent = admin.agent("rules", json!({ "rules": [] })).await;
        let schedule = admin.schedule(&agent).await;
        let retiring = admin.agent("rules", json!({ "rules": [] })).await;
        let task = admin.task_done(&agent, json!(1)).await["id"].as_str().unwrap().to_owned();
        let notification = crate::support::eventually("the end of the task is told", async || {
            let inbox = admin.get("/api/v1/notifications").await.expect(200).items();
            Some(inbox.first()?["id"].as_str()?.to_owned())
        })
        .await;
        Self { admin: admin.user_id().to_owned(), agent, retiring, task, notification, schedule }
    }

    fn path(&self, method: &str, pattern: &str) -> String {
        let id = match pattern.split('/').nth(3).unwrap_or_default() {
            "users" => &self.admin,
            "agents" if method == "DELETE" => &self.retiring,
            "agents" => &self.agent,
            "tasks" => &self.task,
            "notifications" => &self.notification,
            "schedules" => &self.schedule,
            // A session that nobody has.
            _ => &self.agent,
        };
        pattern.replace("{id}", id).replace("{name}", "tasks")
    }
}

fn body(things: &Things, method: &str, pattern: &str, role: &str) -> Option<Value> {
    let (email, agent) = (format!("new-{role}@example.org"), json!({ "rules": [] }));
    Some(match (method, pattern) {
        ("POST", "/api/v1/setup") => {
            json!({ "token": "x", "email": email, "password": PASSWORD, "display_name": "New" })
        }
        ("POST", "/api/v1/session") => json!({ "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD }),
        ("POST", "/api/v1/users") => user(&email, "New", &["member"]),
        ("POST", "/api/v1/agents") => json!({ "name": "Agent", "kind": "rules", "config": agent }),
        ("PATCH", "/api/v1/agents/{id}") => json!({ "name": role }),
        ("POST", "/api/v1/schedules") => {
            json!({ "name": "S", "agent_id": things.agent, "input": 1, "cron": "0 0 1 1 *" })
        }
        ("PATCH", "/api/v1/schedules/{id}") => json!({ "cron": "0 0 2 1 *" }),
        ("PUT", "/api/v1/secrets/{name}") => json!({ "value": "a value" }),
        ("POST", "/api/v1/callbacks/{token}") => json!({ "output": 1 }),
        ("POST", "/api/v1/projections/{name}/skip") => json!({ "position": 1, "reason": "Because" }),
        ("POST", "/api/v1/agents/{id}/tasks" | "/api/v1/agents/{id}/try") => json!({ "input": 1 }),
        ("POST", "/api/v1/agents/{id}/lease") => json!({ "max": 1, "wait_s": 0 }),
        ("POST", "/api/v1/tasks/{id}/heartbeat") => json!({ "lease": NO_LEASE }),
        ("POST", "/api/v1/tasks/{id}/complete") => json!({ "lease": NO_LEASE, "output": 1 }),
        ("POST", "/api/v1/tasks/{id}/fail") => {
            json!({ "lease": NO_LEASE, "code": "a", "message": "b", "retry": true })
        }
        _ => return None,
    })
}

#[test]
fn the_table_and_the_servers_routes_hold_the_same_operations() {
    let listed: BTreeSet<String> = TABLE.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(listed.len(), TABLE.len(), "no operation stands in the table twice");
    let listed: BTreeSet<String> =
        listed.into_iter().filter(|operation| !PROBES.iter().any(|probe| operation.ends_with(probe))).collect();
    let routes = marvin::http::routes();
    let served: BTreeSet<String> = routes
        .iter()
        .flat_map(|resource| resource.methods().iter().map(|(method, _)| format!("{method} {}", resource.path())))
        .collect();
    assert_eq!(listed, served);
}

#[test]
fn only_signing_in_setting_up_and_callbacks_are_open_to_strangers() {
    let routes = marvin::http::routes();
    let open: BTreeSet<String> = routes
        .iter()
        .flat_map(|resource| resource.methods().iter().map(|(method, access)| (method, access, resource.path())))
        .filter(|(_, access, _)| **access == Access::Public)
        .map(|(method, _, path)| format!("{method} {path}"))
        .collect();
    assert_eq!(
        open.into_iter().collect::<Vec<_>>(),
        ["POST /api/v1/callbacks/{token}", "POST /api/v1/session", "POST /api/v1/setup"]
    );
    let answered: Vec<_> = TABLE.iter().filter(|(_, _, statuses)| statuses[5] != 401).map(|row| row.1).collect();
    assert_eq!(answered, ["/api/v1/setup", "/api/v1/session", "/api/v1/callbacks/{token}", "/healthz"]);
}

#[tokio::test]
async fn each_operation_answers_each_role_as_the_table_says() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let things = Things::of(&admin).await;
    let mut people = vec![("admin", Client::admin(&server).await)];
    for role in &ROLES[1..] {
        people.push((role, admin.colleague(role, &[role]).await));
    }
    people.push(("nobody", Client::stranger(&server)));
    for (method, pattern, expected) in TABLE {
        for ((role, client), expected) in people.iter().zip(expected) {
            let request = client.request(method.parse::<Method>().unwrap(), &things.path(method, pattern));
            let request = body(&things, method, pattern, role).iter().fold(request, |request, body| request.json(body));
            let response = request.send().await.unwrap();
            assert_eq!(response.status().as_u16(), expected, "{method} {pattern} as {role}");
            if expected == 401 {
                assert!(response.headers().contains_key("www-authenticate"), "{method} {pattern}");
            }
            if expected >= 400 {
                crate::support::Answer::read(response).await.problem(expected);
            }
        }
    }
}

#[tokio::test]
async fn whoever_may_not_do_it_changes_nothing() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let things = Things::of(&admin).await;
    let mut refused = vec![("nobody", 5, Client::stranger(&server))];
    for (index, role) in ROLES.iter().enumerate().skip(2) {
        refused.push((role, index, admin.colleague(role, &[role]).await));
    }
    let settled = admin.head().await;
    for (method, pattern, expected) in TABLE.iter().filter(|(method, ..)| *method != "GET") {
        for (role, index, client) in refused.iter().filter(|(_, index, _)| [401, 403, 404].contains(&expected[*index]))
        {
            let request = client.request(method.parse::<Method>().unwrap(), &things.path(method, pattern));
            let request = body(&things, method, pattern, role).iter().fold(request, |request, body| request.json(body));
            assert_eq!(client.send(request).await.status, expected[*index], "{method} {pattern} as {role}");
        }
    }
    assert_eq!(admin.head().await, settled);
}

#[tokio::test]
async fn what_is_another_members_is_as_absent_as_what_never_was() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let things = Things::of(&admin).await;
    let (ann, bob) = (admin.colleague("ann", &["member"]).await, admin.colleague("bob", &["member"]).await);
    let task = ann.task_done(&things.agent, json!("ann's words")).await;
    let task = task["id"].as_str().unwrap();
    let note = crate::support::eventually("ann is told", async || {
        let inbox = ann.get("/api/v1/notifications").await.expect(200).items();
        Some(inbox.first()?["id"].as_str()?.to_owned())
    })
    .await;
    let absent = uuid::Uuid::now_v7();
    let mut calls = vec![
        (Method::GET, format!("/api/v1/tasks/{task}"), format!("/api/v1/tasks/{absent}")),
        (Method::GET, format!("/api/v1/users/{}", ann.user_id()), format!("/api/v1/users/{absent}")),
        (Method::GET, format!("/api/v1/users/{}/history", ann.user_id()), format!("/api/v1/users/{absent}/history")),
        (Method::POST, format!("/api/v1/notifications/{note}/read"), format!("/api/v1/notifications/{absent}/read")),
    ];
    for call in ["history", "cancel", "retry"] {
        let method = if call == "history" { Method::GET } else { Method::POST };
        calls.push((method, format!("/api/v1/tasks/{task}/{call}"), format!("/api/v1/tasks/{absent}/{call}")));
    }
    for (method, theirs, never) in calls {
        let mut answers = Vec::new();
        for path in [&theirs, &never] {
            let mut problem = bob.send(bob.request(method.clone(), path)).await.problem(404);
            problem.as_object_mut().unwrap().retain(|field, _| field != "trace_id" && field != "instance");
            answers.push(problem);
        }
        assert_eq!(answers[0], answers[1], "{method} {theirs}");
    }
    for list in ["/api/v1/tasks".to_owned(), format!("/api/v1/tasks?agent_id={}", things.agent)] {
        assert_eq!(bob.get(&list).await.expect(200).items(), Vec::<Value>::new());
        assert_eq!(ann.get(&list).await.expect(200).items().len(), 1);
    }
    assert_eq!(bob.get("/api/v1/notifications").await.expect(200).items(), Vec::<Value>::new());
    assert_eq!(ann.get(&format!("/api/v1/users/{}", ann.user_id())).await.expect(200).json()["display_name"], "ann");
}

#[tokio::test]
async fn only_who_may_read_peoples_words_sees_them_in_tasks() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [{ "name": "r", "when": "true", "then": [{ "output": 7 }] }] }));
    let agent = agent.await;
    let ann = admin.colleague("ann", &["member"]).await;
    let (operator, auditor) = (admin.colleague("op", &["operator"]).await, admin.colleague("au", &["auditor"]).await);
    let task = ann.task_done(&agent, json!("ann's words")).await;
    let id = task["id"].as_str().unwrap();
    let output = json!({ "matched": ["r"], "outputs": [7] });
    for (reader, input, output) in [
        (&ann, json!("ann's words"), &output),
        (&admin, json!("ann's words"), &output),
        (&auditor, json!("ann's words"), &output),
        (&operator, Value::Null, &Value::Null),
    ] {
        let shown = reader.get(&format!("/api/v1/tasks/{id}")).await.expect(200).json();
        assert_eq!((&shown["input"], &shown["output"]), (&input, output));
        let listed = reader.get("/api/v1/tasks").await.expect(200).items().remove(0);
        assert_eq!(listed, shown, "a list shows what one shows");
        let history = reader.get(&format!("/api/v1/tasks/{id}/history")).await.expect(200).json();
        let personal = history[0]["data"].get("personal").map(|personal| personal["input"].clone());
        assert_eq!(personal.unwrap_or_default(), input);
    }
}
