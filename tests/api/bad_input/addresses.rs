//! Paths, methods and parameters that nothing answers to.
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::House;
use crate::{leases::NO_LEASE, support::eventually};

#[tokio::test]
async fn what_is_no_id_or_nobodys_id_is_404_in_every_path() {
    let house = House::build().await;
    let id = &house.rules;
    let long = "a".repeat(5_000);
    let ids = [
        Uuid::now_v7().to_string(),
        id.to_uppercase(),
        id.replace('-', ""),
        format!("%7B{id}%7D"),
        format!("urn:uuid:{id}"),
        format!("{id}%00"),
        format!("%20{id}"),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "01234567-89ab-4def-8123-456789abcdef".to_owned(),
        "%00".to_owned(),
        "..%2fsession".to_owned(),
        "latest".to_owned(),
        "-1".to_owned(),
        "1".to_owned(),
        "'%20OR%201=1--".to_owned(),
        "%F0%9F%8C%B7".to_owned(),
        "%ff".to_owned(),
        "%zz".to_owned(),
        "*".to_owned(),
        long,
    ];
    for resource in marvin::http::routes() {
        for (method, _) in resource.methods().iter().filter(|_| resource.path().contains("{id}")) {
            for id in &ids {
                let method: Method = method.as_str().parse().unwrap();
                let request = house.admin.request(method.clone(), &resource.path().replace("{id}", id));
                let request = match (method.as_str(), resource.path().rsplit('/').next()) {
                    ("POST", Some("tasks" | "try")) => request.json(&json!({ "input": 1 })),
                    ("POST", Some("lease")) => request.json(&json!({ "max": 1, "wait_s": 0 })),
                    ("POST", Some("heartbeat")) => request.json(&json!({ "lease": NO_LEASE })),
                    ("POST", Some("complete")) => request.json(&json!({ "lease": NO_LEASE, "output": 1 })),
                    ("POST", Some("fail")) => {
                        request.json(&json!({ "lease": NO_LEASE, "code": "a", "message": "", "retry": false }))
                    }
                    ("PATCH", _) => request.json(&json!({ "name": "B" })),
                    _ => request,
                };
                let answer = house.admin.send(request).await;
                assert_eq!(answer.status, 404, "{method} {} with {id}: {answer:?}", resource.path());
                answer.problem(404);
            }
        }
    }
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v2/agents",
        "/api/v1/agents/",
        "/api/v1//agents",
        "/api/v1/Agents",
        "/api/v1/webhooks",
        "/oauth/token",
        "/.well-known/jwks.json",
        "/metrics",
        "/api/v1/agents%00",
        "/assets/none.js",
    ] {
        house.admin.get(path).await.problem(404);
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_answer_is_405_with_what_it_does() {
    let house = House::build().await;
    for resource in marvin::http::routes() {
        let mut allowed: Vec<&str> = resource.methods().iter().map(|(method, _)| method.as_str()).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if allowed.contains(&method) {
                continue;
            }
            let path = resource.path().replace("{id}", &house.rules);
            let answer = house.admin.send(house.admin.request(method.parse().unwrap(), &path)).await;
            answer.problem(405);
            let mut named: Vec<&str> = answer.header("allow").split(", ").filter(|name| *name != "HEAD").collect();
            named.sort_unstable();
            allowed.sort_unstable();
            assert_eq!(named, allowed, "{method} {path}");
        }
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn a_cursor_leads_on_in_the_history_and_the_version_of_the_view_that_gave_it_alone() {
    let house = House::build().await;
    let agent = house.admin.agent("rules", json!({ "rules": [] })).await;
    house.admin.colleague("second", &["member"]).await;
    for number in 0..2 {
        house.admin.task_done(&agent, json!(number)).await;
    }
    eventually("everyone is told", async || {
        (house.admin.get("/api/v1/notifications").await.expect(200).items().len() > 1).then_some(())
    })
    .await;
    house.admin.post("/api/v1/schedules", &super::schedule(&agent)).await.expect(201);
    for list in ["users", "agents", "tasks", "schedules", "notifications"] {
        let page = house.admin.get_at(&format!("/api/v1/{list}?limit=1"), house.admin.head().await).await.expect(200);
        let cursor = page.json()["next_cursor"].as_str().unwrap_or_else(|| panic!("{list} has one page")).to_owned();
        let behind = house.admin.get(&format!("/api/v1/{list}?limit=1&cursor={cursor}")).await.expect(200).items();
        assert_ne!(behind[0]["id"], page.items()[0]["id"], "{list}");
        let spelled = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
        let parts: Vec<&str> = spelled.split(':').collect();
        let (another, next) = (Uuid::now_v7().simple().to_string(), (parts[3].parse::<u32>().unwrap() + 1).to_string());
        for (part, other) in [(0, "1"), (1, "others"), (2, &*another), (3, &*next), (3, "0"), (4, "x")] {
            let mut parts = parts.clone();
            parts[part] = other;
            let cursor = URL_SAFE_NO_PAD.encode(parts.join(":"));
            let refused = house.admin.get(&format!("/api/v1/{list}?cursor={cursor}")).await;
            assert_eq!(refused.status, 400, "{list}: {other} for part {part} of {spelled}");
            refused.problem(400);
            assert_eq!(refused.pointers(), ["/cursor"], "{list}: {other} for part {part} of {spelled}");
        }
    }
}

#[tokio::test]
async fn a_parameter_that_is_unknown_twice_or_out_of_bounds_is_400_and_named() {
    let house = House::build().await;
    house.admin.agent("rules", json!({ "rules": [] })).await;
    let cursor =
        house.admin.get_at("/api/v1/agents?limit=1", house.head).await.expect(200).json()["next_cursor"].clone();
    let foreign = cursor.as_str().unwrap();
    for list in ["users", "agents", "tasks", "schedules", "notifications"] {
        for (query, pointer) in [
            ("limit=0", "/limit"),
            ("limit=201", "/limit"),
            ("limit=-1", "/limit"),
            ("limit=", "/limit"),
            ("limit=ten", "/limit"),
            ("limit=1.5", "/limit"),
            ("limit=99999999999999999999", "/limit"),
            ("limit=1&limit=2", "/limit"),
            ("cursor=", "/cursor"),
            ("cursor=x", "/cursor"),
            ("cursor=%00", "/cursor"),
            (&format!("cursor={}", "A".repeat(5_000)), "/cursor"),
            ("colour=red", "/colour"),
            ("sort=priority", "/sort"),
            ("Limit=1", "/Limit"),
            ("%zz=1", ""),
            ("limit=%ff", "/limit"),
        ] {
            let refused = house.admin.get(&format!("/api/v1/{list}?{query}")).await;
            refused.problem(400);
            assert_eq!(refused.pointers(), [pointer], "{list}?{query}");
        }
        if list != "agents" {
            house.admin.get(&format!("/api/v1/{list}?cursor={foreign}")).await.problem(400);
        }
    }
    for query in [
        "agents?status=asleep",
        "agents?status=",
        "agents?kind=",
        "agents?kind=%00",
        "tasks?status=asleep",
        "tasks?status=Queued",
        "tasks?agent_id=x",
        "tasks?agent_id=",
        "tasks?conversation_id=x",
        "schedules?status=removed",
        "schedules?status=",
        "schedules?agent_id=x",
        "notifications?unread=1",
        "notifications?unread=",
    ] {
        let status = house.admin.get(&format!("/api/v1/{query}")).await;
        // A kind that is not there is no mistake: it has no agents.
        if query == "agents?kind=" {
            status.expect(200)
        } else {
            status.problem(400);
            status
        };
    }
    let schedule = format!("schedules/{}", house.schedule);
    let (agent, person) = (format!("agents/{}", house.rules), format!("users/{}", house.admin.user_id()));
    for path in [&agent, &format!("{agent}/history"), &person, "session", "sessions", "agent-kinds", &schedule] {
        house.admin.get(&format!("/api/v1/{path}?at=1")).await.problem(400);
    }
    assert_eq!(house.admin.head().await, house.head + 1, "one agent was made");
}
