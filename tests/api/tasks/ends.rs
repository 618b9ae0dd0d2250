//! Tasks that are refused, cancelled, fail, are tried again, or come too late.
use serde_json::{Value, json};

use super::{events_of, inbox, notify, rules, types};
use crate::support::{Client, Server, eventually};

#[tokio::test]
async fn an_input_that_its_agent_cannot_take_is_refused_at_once_with_a_pointer() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("insight", json!({})).await;
    let path = format!("/api/v1/agents/{agent}/tasks");
    let head = admin.head().await;
    let eight = json!([1, 2, 3, 4, 5, 6, 7, 8]);
    for (body, pointers) in [
        (json!({ "input": {} }), vec!["/input/values"]),
        (json!({ "input": { "values": [1, "2", 3, 4, 5, 6, 7, true] } }), vec!["/input/values/1", "/input/values/7"]),
        (json!({ "input": { "values": eight, "season": 5 } }), vec!["/input/season"]),
        (json!({ "input": { "values": eight, "colour": "red" } }), vec!["/input/colour"]),
        (json!({ "input": { "values": eight }, "priority": 10 }), vec!["/priority"]),
        (json!({ "input": { "values": eight }, "deadline": "2020-01-01T00:00:00Z" }), vec!["/deadline"]),
    ] {
        let refused = admin.post(&path, &body).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), pointers, "{body}");
    }
    let never = format!("/api/v1/agents/{}/tasks", uuid::Uuid::now_v7());
    admin.post(&never, &json!({ "input": {} })).await.problem(404);
    assert_eq!(admin.head().await, head);
}

#[tokio::test]
async fn a_cancelled_task_is_never_done_and_cannot_be_cancelled_again() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", rules("true", json!([notify("requester")]))).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let receipt = admin.submit(&agent, json!({ "amount": 1 })).await;
    let path = format!("/api/v1/tasks/{}", receipt.id());
    let cancelled = admin.order(&format!("{path}/cancel")).await.expect(200);
    let task = admin.get_at(&path, cancelled.position()).await.expect(200).json();
    assert_eq!((&task["status"], &task["output"]), (&json!("cancelled"), &Value::Null));
    assert!(task["finished_at"].is_string() && task["started_at"].is_null(), "{task}");
    admin.order(&format!("{path}/cancel")).await.problem(409);
    admin.order(&format!("{path}/retry")).await.problem(422);
    inbox(&admin, "info", 1).await;
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    admin.task_done(&agent, json!({ "amount": 2 })).await;
    assert_eq!(
        types(&events_of(&admin, &receipt.id()).await),
        ["marvin.task.submitted.v1", "marvin.task.cancelled.v1"]
    );
}

#[tokio::test]
async fn a_running_task_is_cancelled_at_once_and_its_result_is_refused() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("insight", json!({})).await;
    let values: Vec<u32> = (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761) % 1_000).collect();
    let task = admin.submit(&agent, json!({ "values": values, "season": 365 })).await.id();
    eventually("the task runs", async || {
        (admin.get(&format!("/api/v1/tasks/{task}")).await.json()["status"] == "running").then_some(())
    })
    .await;
    let cancelled = admin.order(&format!("/api/v1/tasks/{task}/cancel")).await.expect(200);
    let shown = admin.get_at(&format!("/api/v1/tasks/{task}"), cancelled.position()).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["output"]), (&json!("cancelled"), &Value::Null));
    let other = admin.agent("rules", json!({ "rules": [] })).await;
    admin.task_done(&other, json!(1)).await;
    let history = events_of(&admin, &task).await;
    let expected = ["marvin.task.submitted.v1", "marvin.task.started.v1", "marvin.task.cancelled.v1"];
    assert_eq!(types(&history), expected);
}

#[tokio::test]
async fn a_failed_task_says_why_and_is_done_again_when_it_is_retried() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", rules("input.amount > 10", json!([{ "output": "big" }]))).await;
    let failed = admin.task_done(&agent, json!({ "sum": 11 })).await;
    let id = failed["id"].as_str().unwrap();
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("rule_failed")));
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("big order") && message.contains("input.amount"), "{message}");
    assert_eq!(inbox(&admin, "warning", 1).await[0]["body"], message);
    let config = rules("input.sum > 10", json!([{ "output": "big" }]));
    admin.patch(&format!("/api/v1/agents/{agent}"), &json!({ "config": config })).await.expect(200);
    let retried = admin.order(&format!("/api/v1/tasks/{id}/retry")).await.expect(200);
    let path = format!("/api/v1/tasks/{id}");
    assert_ne!(admin.get_at(&path, retried.position()).await.expect(200).json()["status"], "failed");
    let done = admin.task_ended(id).await;
    assert_eq!((&done["status"], &done["attempt"], &done["error"]), (&json!("completed"), &json!(2), &Value::Null));
    assert_eq!(done["output"]["outputs"], json!(["big"]));
    admin.order(&format!("{path}/retry")).await.problem(422);
}

#[tokio::test]
async fn each_way_to_fail_has_its_code() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let insight = admin.agent("insight", json!({})).await;
    let retired = admin.agent("rules", json!({ "rules": [] })).await;
    admin.delete(&format!("/api/v1/agents/{retired}")).await.expect(200);
    let nobody = uuid::Uuid::now_v7().to_string();
    let start = |agent: &str, input: Value| json!([{ "task": { "agent_id": agent, "input": input } }]);
    let large = json!([{ "output": "{{ input.text + input.text + input.text }}" }]);
    let cases = [
        (rules("1 / input.zero == 1", json!([])), "rule_failed"),
        (rules("input.zero", json!([])), "rule_failed"),
        (rules("true", json!([notify(&nobody)])), "unknown_recipient"),
        (rules("true", start(&nobody, json!(1))), "agent_unavailable"),
        (rules("true", start(&retired, json!(1))), "agent_unavailable"),
        (rules("true", start(&insight, json!({ "values": [1] }))), "input_refused"),
        (rules("true", large), "result_too_large"),
        (rules("input.many.all(a, input.many.all(b, a + b >= 0))", json!([])), "rule_too_costly"),
    ];
    let many: Vec<u32> = (0..1_000).collect();
    let input = json!({ "zero": 0, "amount": 1, "text": "x".repeat(400_000), "many": many });
    for (config, code) in cases {
        let agent = admin.agent("rules", config.clone()).await;
        let task = admin.task_done(&agent, input.clone()).await;
        let outcome = (task["status"].as_str().unwrap(), task["error"]["code"].as_str().unwrap_or_default());
        assert_eq!(outcome, ("failed", code), "{config}: {}", task["error"]);
        assert!(!task["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_task_that_takes_too_long_is_tried_again_and_then_given_up() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let limits = json!({ "max_attempts": 2, "timeout_ms": 1, "backoff_initial_ms": 0, "backoff_max_ms": 0 });
    let body = json!({ "name": "Slow", "kind": "insight", "config": {}, "limits": limits });
    let agent = admin.post("/api/v1/agents", &body).await.expect(201).id();
    let values: Vec<u32> = (0..5_000_u32).map(|n| n.wrapping_mul(2_654_435_761) % 1_000).collect();
    let task = admin.task_done(&agent, json!({ "values": values })).await;
    let outcome = (&task["status"], &task["attempt"], &task["error"]["code"]);
    assert_eq!(outcome, (&json!("dead"), &json!(2), &json!("timeout")), "{}", task["error"]);
    let history = events_of(&admin, task["id"].as_str().unwrap()).await;
    let names: Vec<_> = types(&history).into_iter().map(|name| name.split('.').nth(2).unwrap()).collect();
    assert_eq!(names, ["submitted", "started", "retry_scheduled", "started", "dead_lettered"]);
    assert_eq!(inbox(&admin, "critical", 1).await.len(), 1);
}

#[tokio::test]
async fn a_task_whose_deadline_has_passed_is_not_begun() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let deadline = chrono::Utc::now() + chrono::Duration::seconds(2);
    let body = json!({ "input": 1, "deadline": deadline.to_rfc3339() });
    let task = admin.post(&format!("/api/v1/agents/{agent}/tasks"), &body).await.expect(202).id();
    eventually("the deadline passes", async || (chrono::Utc::now() > deadline).then_some(())).await;
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    let task = admin.task_ended(&task).await;
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("failed"), &json!("deadline_passed")));
}
