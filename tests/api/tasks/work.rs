//! What agents do: rules that notify, start tasks and answer; forecasts; and the inbox.
use serde_json::{Value, json};

use super::{events_of, inbox, notify, rules};
use crate::support::{Client, Launch, Metrics, Server, eventually};

/// The values of one of the example series.
fn series(name: &str) -> Vec<f64> {
    let path = format!("{}/examples/data/{name}.csv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect()
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
async fn the_history_of_a_task_says_why_each_rule_matched() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let config = json!({ "rules": [
        { "name": "small", "when": "input.amount <= 10", "then": [] },
        { "name": "large", "when": "input.amount > 10 && task.priority > 3", "then": [] },
    ] });
    let agent = admin.agent("rules", config).await;
    let task = admin.task_done(&agent, json!({ "amount": 12.5 })).await;
    let events = events_of(&admin, task["id"].as_str().unwrap()).await;
    let step = events.iter().find(|event| event["type"] == "marvin.task.step_completed.v1").unwrap();
    let why = json!([{
        "rule": "large", "matched": true, "when": "input.amount > 10 && task.priority > 3",
        "read": { "input.amount": 12.5, "task.priority": 5 },
    }]);
    assert_eq!(step["data"]["personal"]["result"]["explanation"], why, "{step}");
}

#[tokio::test]
async fn a_list_shows_each_task_with_its_own_steps_as_the_task_itself_does() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let twice = admin.agent("rules", rules("true", json!([notify("requester"), notify("requester")]))).await;
    let never = admin.agent("rules", rules("false", json!([notify("requester")]))).await;
    for agent in [&twice, &never, &twice] {
        admin.task_done(agent, json!({ "amount": 1 })).await;
    }
    admin.order(&format!("/api/v1/agents/{never}/pause")).await.expect(200);
    admin.submit(&never, json!({ "amount": 1 })).await;
    let head = admin.head().await;
    let listed = admin.get_at("/api/v1/tasks", head).await.expect(200).items();
    let steps = |task: &Value| task["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
    let numbers: Vec<Vec<Value>> = listed.iter().map(steps).collect();
    let [all, one] = [json!([1, 2, 3]), json!([1])].map(|numbers| numbers.as_array().unwrap().clone());
    assert_eq!(numbers, [vec![], all.clone(), one, all], "newest first; the first step of each is the evaluation");
    for task in listed {
        let shown = admin.get_at(&format!("/api/v1/tasks/{}", task["id"].as_str().unwrap()), head).await.expect(200);
        assert_eq!(shown.json(), task);
    }
}

/// More than are looked for at once.
#[tokio::test]
async fn a_task_shows_all_of_its_many_steps_in_their_order() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", rules("true", json!(vec![notify("requester"); 8]))).await;
    let task = admin.task_done(&agent, json!({ "amount": 1 })).await;
    let path = format!("/api/v1/tasks/{}", task["id"].as_str().unwrap());
    for _ in 0..3 {
        let shown = admin.get_at(&path, admin.head().await).await.expect(200).json();
        let steps: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
        assert_eq!(steps, (1..=9).map(Value::from).collect::<Vec<_>>());
    }
}

/// What the cache has answered, and what it could not.
async fn cached(server: &Server) -> [u64; 2] {
    let metrics = Metrics::of(server).await;
    ["marvin_cache_hits_total", "marvin_cache_misses_total"].map(|name| metrics.sum(name))
}

#[tokio::test]
async fn a_task_and_its_first_steps_are_asked_for_once_each() {
    let server = Launch::with_admin().set("MARVIN_METRICS_LISTEN", "127.0.0.1:0").start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", rules("true", json!([notify("requester"), notify("requester")]))).await;
    let task = admin.task_done(&agent, json!({ "amount": 1 })).await;
    let path = format!("/api/v1/tasks/{}", task["id"].as_str().unwrap());
    // Others read as well, until all is done.
    eventually("a task with three steps is four documents, all of them cached", async || {
        let before = cached(&server).await;
        assert_eq!(admin.get(&path).await.expect(200).json()["steps"].as_array().unwrap().len(), 3);
        let after = cached(&server).await;
        ([after[0] - before[0], after[1] - before[1]] == [4, 0]).then_some(())
    })
    .await;
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
    assert_eq!(all.items().len(), 3);
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
