//! Tasks: done by rules and by forecasts, cancelled, retried, ordered, listed.
use serde_json::{Value, json};

use crate::support::{Client, Server, eventually};

fn rules(when: &str, then: Value) -> Value {
    json!({ "rules": [{ "name": "big order", "when": when, "then": then }] })
}

fn notify(to: &str) -> Value {
    json!({ "notify": { "to": to, "severity": "warning", "title": "Big: {{ input.amount }}", "body": "By {{ agent.name }}" } })
}

/// The values of one of the example series.
fn series(name: &str) -> Vec<f64> {
    let path = format!("{}/examples/data/{name}.csv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect()
}

async fn events_of(client: &Client, task: &str) -> Vec<Value> {
    let history = client.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
    history.as_array().unwrap().clone()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Notifications of whoever asks with this severity, as soon as there are `count`.
async fn inbox(client: &Client, severity: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} notifications of severity {severity}"), async || {
        let items = client.get("/api/v1/notifications").await.expect(200).items();
        let items: Vec<_> = items.into_iter().filter(|item| item["severity"] == severity).collect();
        (items.len() >= count).then_some(items)
    })
    .await
}

#[tokio::test]
async fn a_rules_task_notifies_the_requester_a_person_and_a_role_and_answers_its_output() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (ann, bob) = (admin.colleague("ann", &["member"]).await, admin.colleague("bob", &["member"]).await);
    let operators =
        [admin.colleague("op1", &["operator"]).await, admin.colleague("op2", &["operator", "member"]).await];
    let then = json!([notify("requester"), { "output": { "double": "{{ input.amount * 2.0 }}" } }, notify(bob.user_id()), notify("role:operator")]);
    let agent = admin.agent("rules", rules("input.amount > 10", then)).await;
    let task = ann.task_done(&agent, json!({ "amount": 12.5 })).await;
    assert_eq!(task["status"], "completed", "{task}");
    assert_eq!(task["output"], json!({ "matched": ["big order"], "outputs": [{ "double": 25.0 }] }));
    assert_eq!((&task["attempt"], &task["priority"], &task["error"]), (&json!(1), &json!(5), &Value::Null));
    assert_eq!(task["requested_by"], ann.user_id());
    let steps: Vec<_> = task["steps"].as_array().unwrap().iter().map(|step| (&step["step"], &step["kind"])).collect();
    let kinds = ["evaluate", "notify", "notify", "notify"].map(Value::from);
    assert_eq!(steps.iter().map(|step| step.1.clone()).collect::<Vec<_>>(), kinds);
    assert_eq!(steps.iter().map(|step| step.0.as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for step in task["steps"].as_array().unwrap() {
        assert_eq!(step["status"], "completed");
        assert!(step["started_at"].as_str() <= step["finished_at"].as_str());
    }
    for person in [&ann, &bob, &operators[0], &operators[1]] {
        let told = inbox(person, "warning", 1).await;
        assert_eq!(told.len(), 1, "each is told once");
        let fields = (&told[0]["title"], &told[0]["body"], &told[0]["link"]);
        let link = json!({ "kind": "task", "id": task["id"] });
        assert_eq!(fields, (&json!("Big: 12.5"), &json!("By Agent"), &link));
    }
    let ended = inbox(&ann, "success", 1).await;
    assert_eq!((ended.len(), &ended[0]["title"]), (1, &json!("Agent finished your task")));
    assert_eq!(inbox(&admin, "warning", 0).await, Vec::<Value>::new(), "nobody else is told");
}

#[tokio::test]
async fn notifications_are_read_one_by_one_or_all_at_once() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", rules("true", json!([notify("requester"), notify("requester")]))).await;
    admin.task_done(&agent, json!({ "amount": 1 })).await;
    inbox(&admin, "success", 1).await;
    let unread = async || admin.get_at("/api/v1/notifications?unread=true", admin.head().await).await.expect(200);
    let all = unread().await;
    assert_eq!((all.items().len(), &all.json()["unread"]), (3, &json!(3)));
    let first = all.items()[0]["id"].as_str().unwrap().to_owned();
    let receipt = admin.order(&format!("/api/v1/notifications/{first}/read")).await.expect(200);
    let again = admin.order(&format!("/api/v1/notifications/{first}/read")).await.expect(200);
    assert_eq!(receipt.json(), again.json(), "read already");
    assert!(unread().await.items().iter().all(|item| item["id"] != first.as_str()));
    assert_eq!(admin.order("/api/v1/notifications/read-all").await.expect(200).json()["read"], 2);
    assert_eq!(unread().await.items(), Vec::<Value>::new());
    assert_eq!(admin.order("/api/v1/notifications/read-all").await.expect(200).json()["read"], 0);
    let read = admin.get("/api/v1/notifications?unread=false").await.expect(200).items();
    assert!(read.len() == 3 && read.iter().all(|item| item["read_at"].is_string()), "{read:?}");
}

#[tokio::test]
async fn a_rule_starts_a_task_of_another_agent_for_the_same_requester() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let second = admin.agent("rules", rules("true", json!([{ "output": "{{ input }}" }]))).await;
    let start = json!([{ "task": { "agent_id": second, "input": { "twice": "{{ input.n * 2 }}" } } }]);
    let first = admin.agent("rules", rules("true", start)).await;
    let ann = admin.colleague("ann", &["member"]).await;
    let task = ann.task_done(&first, json!({ "n": 21 })).await;
    let started = eventually("the second task", async || {
        ann.get(&format!("/api/v1/tasks?agent_id={second}")).await.expect(200).items().pop()
    })
    .await;
    let started = ann.task_ended(started["id"].as_str().unwrap()).await;
    assert_eq!(started["output"]["outputs"], json!([{ "twice": 42 }]));
    let (parents, children) =
        (events_of(&ann, task["id"].as_str().unwrap()).await, events_of(&ann, started["id"].as_str().unwrap()).await);
    assert_eq!(children[0]["data"]["facts"]["parent"], task["id"]);
    assert_eq!(children[0]["correlationid"], parents[0]["correlationid"], "one chain, one correlation");
    assert_eq!(children[0]["actor"], format!("agent/{first}"));
}

#[tokio::test]
async fn tasks_that_start_tasks_chain_sixteen_deep_and_no_deeper() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let itself = rules("true", json!([{ "task": { "agent_id": agent, "input": "{{ input + 1 }}" } }]));
    admin.patch(&format!("/api/v1/agents/{agent}"), &json!({ "config": itself })).await.expect(200);
    admin.submit(&agent, json!(0)).await;
    let last =
        eventually("the chain ends", async || admin.get("/api/v1/tasks?status=failed").await.expect(200).items().pop())
            .await;
    assert_eq!((&last["input"], &last["error"]["code"]), (&json!(16), &json!("chain_too_deep")));
    let all = admin.get_at("/api/v1/tasks", admin.head().await).await.expect(200).items();
    assert_eq!(all.len(), 17);
}

#[tokio::test]
async fn a_forecast_of_the_example_series_is_near_what_came() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("insight", json!({ "season": 12 })).await;
    for (name, error_max) in [("air-passengers", 0.08), ("nottingham-temperature", 0.08)] {
        let values = series(name);
        let (known, came) = values.split_at(values.len() - 12);
        let task = admin.task_done(&agent, json!({ "values": known })).await;
        assert_eq!(task["status"], "completed", "{task}");
        let forecast = task["output"]["forecast"].as_array().unwrap();
        assert_eq!(forecast.len(), 12);
        let number = |value: &Value| value.as_f64().unwrap();
        let misses = forecast.iter().zip(came).map(|(point, came)| (number(&point["value"]) - came).abs() / came);
        let error = misses.sum::<f64>() / 12.0;
        assert!(error < error_max, "{name}: {error}");
        let within = forecast.iter().zip(came);
        let within =
            within.filter(|(point, came)| number(&point["lower"]) <= **came && **came <= number(&point["upper"]));
        assert!(within.count() >= 9, "{name}: the ranges hold most of what came");
        assert!(task["output"]["summary"].as_str().unwrap().ends_with('.'), "{}", task["output"]["summary"]);
    }
}

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
    let deadline = chrono::Utc::now() + chrono::Duration::milliseconds(400);
    let body = json!({ "input": 1, "deadline": deadline.to_rfc3339() });
    let task = admin.post(&format!("/api/v1/agents/{agent}/tasks"), &body).await.expect(202).id();
    eventually("the deadline passes", async || (chrono::Utc::now() > deadline).then_some(())).await;
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    let task = admin.task_ended(&task).await;
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("failed"), &json!("deadline_passed")));
}

#[tokio::test]
async fn more_urgent_tasks_start_first_and_among_equals_the_older() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let body = json!({ "name": "One at a time", "kind": "rules", "config": { "rules": [] }, "limits": { "max_concurrency": 1 } });
    let agent = admin.post("/api/v1/agents", &body).await.expect(201).id();
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let mut submitted = Vec::new();
    for priority in [1, 9, 5, 9, 0] {
        let body = json!({ "input": priority, "priority": priority });
        let receipt = admin.post(&format!("/api/v1/agents/{agent}/tasks"), &body).await.expect(202);
        submitted.push((receipt.id(), receipt.position()));
    }
    // The order is read from a view: it has to know them all before any starts.
    admin.get_at("/api/v1/tasks", submitted[4].1).await.expect(200);
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    let mut started = Vec::new();
    for (id, _) in &submitted {
        admin.task_ended(id).await;
        let events = events_of(&admin, id).await;
        started.push(events[1]["position"].as_str().unwrap().parse::<u64>().unwrap());
    }
    let mut order: Vec<usize> = (0..5).collect();
    order.sort_by_key(|index| started[*index]);
    assert_eq!(order, [1, 3, 2, 0, 4]);
}

#[tokio::test]
async fn lists_hold_what_their_filters_say_and_pages_walk_each_task_exactly_once() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (done, waiting) = (admin.agent("rules", json!({ "rules": [] })), admin.agent("rules", json!({ "rules": [] })));
    let (done, waiting) = (done.await, waiting.await);
    admin.order(&format!("/api/v1/agents/{waiting}/pause")).await.expect(200);
    let conversation = uuid::Uuid::now_v7().to_string();
    let (mut all, mut position) = (Vec::new(), 0);
    for number in 0..13 {
        let agent = if number % 3 == 0 { &waiting } else { &done };
        let talk = if number % 2 == 0 { json!(conversation) } else { Value::Null };
        let body = json!({ "input": number, "conversation_id": talk });
        let receipt = admin.post(&format!("/api/v1/agents/{agent}/tasks"), &body).await.expect(202);
        let id = receipt.id();
        position = receipt.position();
        if number % 3 != 0 {
            admin.task_ended(&id).await;
        }
        all.push(id);
    }
    all.reverse();
    admin.get_at("/api/v1/tasks", position).await.expect(200);
    for (filter, wanted) in [
        (String::new(), all.clone()),
        (format!("&agent_id={waiting}"), all.iter().step_by(3).cloned().collect()),
        ("&status=queued".to_owned(), all.iter().step_by(3).cloned().collect()),
        (format!("&conversation_id={conversation}"), all.iter().step_by(2).cloned().collect()),
        (format!("&status=queued&conversation_id={conversation}"), all.iter().step_by(6).cloned().collect()),
        ("&status=dead".to_owned(), Vec::new()),
        (format!("&agent_id={}", uuid::Uuid::now_v7()), Vec::new()),
    ] {
        for limit in [1, 5, 200] {
            assert_eq!(walk(&admin, limit, &filter).await, wanted, "{filter} by {limit}");
        }
    }
}

/// The ids of all pages, one after the other.
async fn walk(client: &Client, limit: usize, filter: &str) -> Vec<String> {
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/api/v1/tasks?limit={limit}{filter}{cursor}")).await.expect(200);
        assert!(page.items().len() <= limit);
        walked.extend(page.items().iter().map(|task| task["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.json()["next_cursor"].as_str().map(str::to_owned) else { return walked };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn a_walk_meets_each_task_once_while_others_are_submitted() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let mut before = Vec::new();
    for number in 0..20 {
        before.push(admin.submit(&agent, json!(number)).await.id());
    }
    before.reverse();
    admin.get_at("/api/v1/tasks", admin.head().await).await.expect(200);
    let (busy, target) = (admin.clone(), agent.clone());
    let submitting = tokio::spawn(async move {
        for number in 20..40 {
            busy.submit(&target, json!(number)).await;
        }
    });
    let walked = walk(&admin, 3, "").await;
    submitting.await.unwrap();
    let known: Vec<_> = walked.iter().filter(|id| before.contains(id)).cloned().collect();
    assert_eq!(known, before);
}
