//! Projections as administrators see them, and what they are refused.
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Server, eventually};

const PROJECTIONS: &str = "/api/v1/projections";

async fn house() -> (Server, Client) {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    (server, admin)
}

#[tokio::test]
async fn every_projection_is_listed_with_where_it_stands() {
    let (_server, admin) = house().await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.task_done(&agent, json!(1)).await;
    let items = eventually("every projection has come to the log's end", async || {
        let head = admin.head().await;
        let listed = admin.get(PROJECTIONS).await.expect(200);
        assert_eq!(listed.json()["next_cursor"], Value::Null);
        let items = listed.items();
        items.iter().all(|item| item["position"] == head && item["lag"] == 0).then_some(items)
    })
    .await;
    let names: Vec<_> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["agents", "tasks", "steps", "users", "inbox", "schedules"]);
    for item in &items {
        let shown = admin.get(&format!("{PROJECTIONS}/{}", item["name"].as_str().unwrap())).await.expect(200);
        assert_eq!(&shown.json(), item);
        assert_eq!(item["serving_version"], item["version"]);
        assert_eq!(item["state"], "live");
        assert_eq!((&item["stopped"], &item["rebuild"]), (&Value::Null, &Value::Null));
        let mut fields: Vec<_> = item.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        let expected =
            ["holder", "lag", "name", "position", "rebuild", "serving_version", "state", "stopped", "version"];
        assert_eq!(fields, expected);
    }
}

#[tokio::test]
async fn a_name_that_no_projection_has_is_404_everywhere() {
    let (_server, admin) = house().await;
    let long = "a".repeat(5_000);
    let names = ["none", "Tasks", "tasks%00", "%20tasks", "tasks%2Fx", "view_tasks_4_1", "1", "*", "%ff", "%zz", &long];
    for resource in marvin::http::routes() {
        for (method, _) in
            resource.methods().iter().filter(|_| resource.path().starts_with("/api/v1/projections/{name}"))
        {
            for name in names {
                let method: Method = method.as_str().parse().unwrap();
                let request = admin.request(method.clone(), &resource.path().replace("{name}", name));
                let request = match resource.path().ends_with("/skip") {
                    true => request.json(&json!({ "position": 1, "reason": "Because" })),
                    false => request,
                };
                let answer = admin.send(request).await;
                assert_eq!(answer.status, 404, "{method} {} with {name}: {answer:?}", resource.path());
                answer.problem(404);
            }
        }
    }
}

#[tokio::test]
async fn a_rebuild_is_taken_on_and_told_where_to_look() {
    let (_server, admin) = house().await;
    let begun = admin.order("/api/v1/projections/agents/rebuild").await.expect(202);
    assert_eq!(begun.header("location"), "/api/v1/projections/agents");
    assert_eq!(begun.json()["name"], "agents");
    // A body says nothing, and a key is not needed.
    admin.post("/api/v1/projections/agents/rebuild", &json!({ "sure": true })).await.expect(202);
    admin.post_keyed("/api/v1/projections/agents/rebuild", "key-1", &Value::Null).await.expect(202);
    let head = admin.head().await;
    assert_eq!(admin.get("/api/v1/agents").await.expect(200).items(), Vec::<Value>::new(), "what was there serves");
    assert_eq!(admin.head().await, head, "a rebuild appends nothing");
}

#[tokio::test]
async fn what_the_state_of_a_projection_does_not_allow_is_409() {
    let (_server, admin) = house().await;
    let head = admin.head().await;
    let cancelled = admin.delete("/api/v1/projections/tasks/rebuild").await;
    assert_eq!(cancelled.problem(409)["detail"], "Nothing is being rebuilt.");
    let resumed = admin.order("/api/v1/projections/tasks/resume").await;
    assert_eq!(resumed.problem(409)["detail"], "The projection is not stopped.");
    for position in [1, head, head + 1, u64::MAX] {
        let skip = json!({ "position": position, "reason": "Because" });
        let skipped = admin.post("/api/v1/projections/tasks/skip", &skip).await;
        assert_eq!(skipped.problem(409)["detail"], "The projection is not stopped at this position.");
    }
    assert_eq!(admin.head().await, head, "nothing was recorded");
}

#[tokio::test]
async fn a_skip_needs_a_position_and_a_reason_that_can_be_kept() {
    let (_server, admin) = house().await;
    let head = admin.head().await;
    for (status, body, pointer) in [
        (400, json!({ "reason": "Because" }), ""),
        (400, json!({ "position": 1 }), ""),
        (400, json!({ "position": "1", "reason": "Because" }), "/position"),
        (400, json!({ "position": -1, "reason": "Because" }), "/position"),
        (400, json!({ "position": 1.5, "reason": "Because" }), "/position"),
        (400, json!({ "position": 1, "reason": null }), "/reason"),
        (400, json!({ "position": 1, "reason": "Because", "version": 1 }), "/version"),
        (422, json!({ "position": 0, "reason": "Because" }), "/position"),
        (422, json!({ "position": 1, "reason": "" }), "/reason"),
        (422, json!({ "position": 1, "reason": " \n\t\u{2003}" }), "/reason"),
        (422, json!({ "position": 1, "reason": "a\0b" }), "/reason"),
        (422, json!({ "position": 1, "reason": "ä".repeat(1_001) }), "/reason"),
        (409, json!({ "position": 1, "reason": "ä".repeat(1_000) }), ""),
    ] {
        let refused = admin.post("/api/v1/projections/tasks/skip", &body).await;
        refused.problem(status);
        let expected: &[&str] = if status == 409 { &[] } else { &[pointer] };
        assert_eq!(refused.pointers(), expected, "{body}");
    }
    assert_eq!(admin.head().await, head);
}

#[tokio::test]
async fn a_key_of_another_form_and_an_unknown_parameter_are_400() {
    let (_server, admin) = house().await;
    for call in ["rebuild", "resume"] {
        let request = admin.request(Method::POST, &format!("{PROJECTIONS}/tasks/{call}"));
        admin.send(request.header("idempotency-key", "two words")).await.problem(400);
    }
    let skip = json!({ "position": 1, "reason": "Because" });
    admin.post_keyed("/api/v1/projections/tasks/skip", "two words", &skip).await.problem(400);
    for path in [PROJECTIONS, "/api/v1/projections/tasks"] {
        admin.get(&format!("{path}?at=1")).await.problem(400);
    }
}
