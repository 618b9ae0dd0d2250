//! Agents: made, refused with pointers, changed, paused, resumed, retired, tried.
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Server, eventually};

fn body(kind: &str, config: Value) -> Value {
    json!({ "name": "Agent", "kind": kind, "config": config })
}

fn rule(when: &str, then: Value) -> Value {
    json!({ "rules": [{ "name": "r", "when": when, "then": then }] })
}

#[tokio::test]
async fn a_made_agent_is_shown_with_the_limits_it_did_not_name() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    for (kind, config) in [("rules", rule("true", json!([]))), ("insight", json!({ "season": 12, "level": 0.9 }))] {
        let mut wanted = body(kind, config.clone());
        wanted["description"] = json!("What it does, in words: äöü 🌷");
        wanted["limits"] = json!({ "max_attempts": 2 });
        let created = admin.post("/api/v1/agents", &wanted).await.expect(201);
        assert_eq!(created.header("location"), format!("/api/v1/agents/{}", created.id()));
        let shown = admin.get_at(created.header("location"), created.position()).await.expect(200);
        assert_eq!((shown.header("etag"), shown.position() >= created.position()), ("\"1\"", true));
        let agent = shown.json();
        for field in ["name", "description", "kind", "config"] {
            assert_eq!(agent[field], wanted[field], "{field}");
        }
        let limits = json!({ "max_attempts": 2, "timeout_ms": 60_000, "backoff_initial_ms": 1_000,
            "backoff_max_ms": 60_000, "max_concurrency": 4 });
        assert_eq!((&agent["limits"], &agent["status"]), (&limits, &json!("active")));
        let place = (agent["sequence"].as_u64(), agent["position"].as_u64());
        assert_eq!(place, (Some(1), Some(created.position())));
        assert_eq!(admin.get(&format!("/api/v1/agents?kind={kind}")).await.expect(200).items(), [agent]);
    }
    assert_eq!(admin.get("/api/v1/agents").await.expect(200).items().len(), 2);
    assert_eq!(admin.get("/api/v1/agents?kind=llm").await.expect(200).items(), Vec::<Value>::new());
}

#[tokio::test]
async fn each_refused_value_is_pointed_at_and_nothing_is_made() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let head = admin.head().await;
    let notify = |field: &str, value: Value| {
        let mut notify = json!({ "to": "requester", "severity": "info", "title": "T", "body": "B" });
        notify[field] = value;
        rule("true", json!([{ "notify": notify }]))
    };
    let twice =
        json!({ "rules": [{ "name": "r", "when": "true", "then": [] }, { "name": "r", "when": "1 +", "then": [] }] });
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (body("rules", rule("input.amount >", json!([]))), vec!["/config/rules/0/when"]),
        (body("rules", rule("unknown_name == 1", json!([]))), vec!["/config/rules/0/when"]),
        (body("rules", rule("true", json!([{ "shout": 1 }]))), vec!["/config/rules/0/then/0/shout"]),
        (body("rules", rule("true", json!([{ "output": "{{ 1 + }}" }]))), vec!["/config/rules/0/then/0/output"]),
        (body("rules", notify("body", json!("{{ nobody }}"))), vec!["/config/rules/0/then/0/notify/body"]),
        (body("rules", notify("to", json!("role:king"))), vec!["/config/rules/0/then/0/notify/to"]),
        (body("rules", notify("severity", json!("loud"))), vec!["/config/rules/0/then/0/notify/severity"]),
        (body("rules", twice), vec!["/config/rules/1/name", "/config/rules/1/when"]),
        (body("rules", json!({})), vec!["/config"]),
        (body("rules", json!({ "rules": [], "colour": "red" })), vec!["/config/colour"]),
        (body("insight", json!({ "season": 1, "level": 2 })), vec!["/config/season", "/config/level"]),
        (body("insight", json!([])), vec!["/config"]),
        (body("llm", json!({})), vec!["/kind"]),
        (body("", json!({})), vec!["/kind"]),
        (json!({ "name": " ", "kind": "insight", "config": {} }), vec!["/name"]),
        (
            json!({ "name": "A", "kind": "insight", "config": {}, "limits": { "max_attempts": 21 } }),
            vec!["/limits/max_attempts"],
        ),
        (
            json!({ "name": "A", "kind": "insight", "config": {}, "limits": { "timeout_ms": 0 } }),
            vec!["/limits/timeout_ms"],
        ),
    ];
    for (body, pointers) in cases {
        let refused = admin.post("/api/v1/agents", &body).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), pointers, "{body}");
    }
    let refused = admin.post("/api/v1/agents", &body("rules", rule("input.amount > ) 3", json!([])))).await;
    let detail = refused.problem(422)["errors"][0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("column 16"), "{detail}");
    assert_eq!(admin.head().await, head);
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_and_repeating_it_appends_nothing() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let id = admin.agent("rules", rule("true", json!([]))).await;
    let path = format!("/api/v1/agents/{id}");
    let changed = admin.patch(&path, &json!({ "name": "Other", "limits": { "max_attempts": 1 } })).await.expect(200);
    assert_eq!((changed.header("etag"), changed.id()), ("\"2\"", id.clone()));
    let agent = admin.get_at(&path, changed.position()).await.expect(200).json();
    assert_eq!((&agent["name"], &agent["config"]), (&json!("Other"), &rule("true", json!([]))));
    let again = admin.patch(&path, &json!({ "name": "Other" })).await.expect(200);
    assert_eq!(again.json(), changed.json());
    let refused = admin.patch(&path, &json!({ "config": rule("1 +", json!([])) })).await;
    refused.problem(422);
    assert_eq!(refused.pointers(), ["/config/rules/0/when"]);
    admin.patch(&path, &json!({ "kind": "insight" })).await.problem(400);
    admin.patch(&format!("/api/v1/agents/{}", uuid::Uuid::now_v7()), &json!({ "name": "X" })).await.problem(404);
}

#[tokio::test]
async fn a_stale_if_match_changes_nothing_and_a_fresh_one_does() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let id = admin.agent("rules", json!({ "rules": [] })).await;
    let path = format!("/api/v1/agents/{id}");
    let change = |tag: &str, name: &str| {
        let request = admin.request(Method::PATCH, &path).header("if-match", tag).json(&json!({ "name": name }));
        admin.send(request)
    };
    change("\"1\"", "Second").await.expect(200);
    let head = admin.head().await;
    for stale in ["\"1\"", "W/\"2\"", "\"3\"", "\"02\"", "\"x\", \"1\""] {
        change(stale, "Third").await.problem(412);
        let retire = admin.request(Method::DELETE, &path).header("if-match", stale);
        admin.send(retire).await.problem(412);
    }
    assert_eq!(admin.head().await, head);
    change("\"9\", \"2\"", "Third").await.expect(200);
    change("*", "Fourth").await.expect(200);
    admin.send(admin.request(Method::DELETE, &path).header("if-match", "\"4\"")).await.expect(200);
}

#[tokio::test]
async fn of_changes_under_one_if_match_at_once_exactly_one_wins() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let path = format!("/api/v1/agents/{}", admin.agent("rules", json!({ "rules": [] })).await);
    let changes: Vec<_> = (0..8)
        .map(|number| {
            let body = json!({ "name": format!("Name {number}") });
            let request = admin.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&body);
            let admin = admin.clone();
            tokio::spawn(async move { admin.send(request).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for change in changes {
        statuses.push(change.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn a_paused_agent_queues_and_a_resumed_one_works_off() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let id = admin.agent("rules", json!({ "rules": [] })).await;
    let path = format!("/api/v1/agents/{id}");
    let paused = admin.order(&format!("{path}/pause")).await.expect(200);
    assert_eq!(admin.order(&format!("{path}/pause")).await.expect(200).json(), paused.json(), "paused already");
    assert_eq!(admin.get_at(&path, paused.position()).await.expect(200).json()["status"], "paused");
    assert_eq!(admin.get("/api/v1/agents?status=paused").await.expect(200).items().len(), 1);
    let other = admin.agent("rules", json!({ "rules": [] })).await;
    let waiting = admin.submit(&id, json!(1)).await.id();
    // By the end of a later task of another agent, the waiting one would have been taken, had it been ready.
    admin.task_done(&other, json!(2)).await;
    assert_eq!(admin.get(&format!("/api/v1/tasks/{waiting}")).await.expect(200).json()["status"], "queued");
    admin.order(&format!("{path}/resume")).await.expect(200);
    assert_eq!(admin.task_ended(&waiting).await["status"], "completed");
}

#[tokio::test]
async fn a_retired_agent_takes_nothing_new_keeps_its_history_and_ends_what_was_queued() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let id = admin.agent("rules", json!({ "rules": [] })).await;
    let path = format!("/api/v1/agents/{id}");
    admin.order(&format!("{path}/pause")).await.expect(200);
    let queued = admin.submit(&id, json!(1)).await.id();
    let retired = admin.delete(&path).await.expect(200);
    assert_eq!(admin.delete(&path).await.expect(200).json(), retired.json(), "retired already");
    assert_eq!(admin.get_at(&path, retired.position()).await.expect(200).json()["status"], "retired");
    let head = admin.head().await;
    admin.post(&format!("{path}/tasks"), &json!({ "input": 1 })).await.problem(422);
    admin.patch(&path, &json!({ "name": "X" })).await.problem(422);
    admin.order(&format!("{path}/pause")).await.problem(422);
    admin.order(&format!("{path}/resume")).await.problem(422);
    let history = admin.get(&format!("{path}/history")).await.expect(200).json();
    let types: Vec<_> = history.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["marvin.agent.created.v1", "marvin.agent.paused.v1", "marvin.agent.retired.v1"]);
    assert_eq!(admin.task_ended(&queued).await["status"], "completed");
    assert!(admin.head().await > head);
}

#[tokio::test]
async fn each_kind_shows_the_schemas_of_what_it_takes_and_gives() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let kinds = admin.get("/api/v1/agent-kinds").await.expect(200).items();
    let names: Vec<_> = kinds.iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["insight", "rules", "webhook", "worker"]);
    for kind in &kinds {
        for schema in ["config_schema", "input_schema", "output_schema"] {
            // One that takes anything is `true`.
            assert!(kind[schema].is_object() || kind[schema] == true, "{schema} of {kind}");
        }
    }
    assert!(kinds[0]["input_schema"]["properties"]["values"].is_object(), "{}", kinds[0]);
    assert!(kinds[1]["config_schema"]["properties"]["rules"].is_object(), "{}", kinds[1]);
}

#[tokio::test]
async fn a_trial_answers_the_output_and_records_nothing() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let then = json!([
        { "output": "{{ input.amount * 2 }}" },
        { "notify": { "to": "requester", "severity": "info", "title": "T", "body": "B" } },
    ]);
    let rules = admin.agent("rules", rule("input.amount > 10", then)).await;
    let insight = admin.agent("insight", json!({ "horizon": 2 })).await;
    let head = admin.head().await;
    let attempt = async |agent: &str, input: Value| {
        admin.post(&format!("/api/v1/agents/{agent}/try"), &json!({ "input": input })).await
    };
    let answer = attempt(&rules, json!({ "amount": 12 })).await.expect(200).json();
    let why = json!([{ "rule": "r", "matched": true, "when": "input.amount > 10", "read": { "input.amount": 12 } }]);
    assert_eq!(answer, json!({ "output": { "matched": ["r"], "outputs": [24] }, "explanation": why }));
    let answer = attempt(&rules, json!({ "amount": 9 })).await.expect(200).json();
    let why = json!([{ "rule": "r", "matched": false, "when": "input.amount > 10", "read": { "input.amount": 9 } }]);
    assert_eq!(answer, json!({ "output": { "matched": [], "outputs": [] }, "explanation": why }));
    let output =
        attempt(&insight, json!({ "values": [5, 5, 5, 5, 5, 5, 5, 5] })).await.expect(200).json()["output"].clone();
    let point = json!({ "value": 5.0, "lower": 5.0, "upper": 5.0 });
    assert_eq!((&output["forecast"], &output["model"]), (&json!([point, point]), &json!("constant")));
    attempt(&rules, json!({})).await.problem(422);
    let refused = attempt(&insight, json!({ "values": [1, 2, "3", 4, 5, 6, 7, 8] })).await;
    refused.problem(422);
    assert_eq!(refused.pointers(), ["/input/values/2"]);
    assert_eq!(admin.head().await, head);
    eventually("nothing is in the inbox", async || {
        admin.get("/api/v1/notifications").await.expect(200).items().is_empty().then_some(())
    })
    .await;
}

/// The blocks of a page that show JSON.
fn shown(page: &str) -> Vec<Value> {
    let blocks = page.split("```json\n").skip(1);
    blocks.map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn the_examples_of_the_documentation_answer_as_it_says() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let rules = shown(include_str!("../../docs/rules.md"));
    let insight = shown(include_str!("../../docs/insight.md"));
    let series = [json!({ "level": 0.95 }), insight[0].clone(), insight[1].clone()];
    for (kind, example) in [("rules", &rules[..]), ("insight", &series[..])] {
        let [config, input, answer] = example else { panic!("{} blocks for {kind}", example.len()) };
        let agent = admin.post("/api/v1/agents", &body(kind, config.clone())).await.expect(201).id();
        let tried = admin.post(&format!("/api/v1/agents/{agent}/try"), &json!({ "input": input })).await.expect(200);
        let mut tried = tried.json();
        if let Some(now) = tried.pointer_mut("/explanation/1/read/now") {
            *now = json!("2026-01-31T09:30:00.000Z");
        }
        assert_eq!(&tried, answer, "{kind}: {tried:#}");
    }
}
