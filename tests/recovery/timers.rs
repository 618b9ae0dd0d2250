//! What is to happen at a time happens though the server is killed before it, and once.
use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    nodes::next_node,
    support::{Client, Database, Launch, Receiver, Reply, eventually},
};

/// Longer than a kill and a start take.
const LATER_S: i64 = 4;

fn launch(is_on_postgres: bool) -> Launch {
    let launch = Launch::with_admin().reaching_loopback();
    if is_on_postgres { launch.on(&Database::shared()) } else { launch }
}

async fn hook(admin: &Client, receiver: &Receiver) -> String {
    let limits = json!({ "max_attempts": 3, "backoff_initial_ms": 1, "backoff_max_ms": 1 });
    let config = json!({ "url": receiver.url });
    let agent = json!({ "name": "Hook", "kind": "webhook", "config": config, "limits": limits });
    admin.post("/api/v1/agents", &agent).await.expect(201).id()
}

async fn with_status(admin: &Client, task: &str, status: &str) -> Value {
    eventually(&format!("the task is {status}"), async || {
        let shown = admin.get(&format!("/api/v1/tasks/{task}")).await;
        let shown = (shown.status == 200).then(|| shown.json())?;
        (shown["status"] == status).then_some(shown)
    })
    .await
}

async fn story(client: &Client, task: &str) -> Vec<(String, DateTime<Utc>)> {
    let events = client.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
    let told = |event: &Value| {
        let kind = event["type"].as_str().unwrap().split('.').nth(2).unwrap().to_owned();
        (kind, event["time"].as_str().unwrap().parse().unwrap())
    };
    events.as_array().unwrap().iter().map(told).collect()
}

fn kinds(story: &[(String, DateTime<Utc>)]) -> Vec<&str> {
    story.iter().map(|(kind, _)| kind.as_str()).collect()
}

#[rstest]
#[case::embedded(false)]
#[case::postgres(true)]
#[tokio::test]
async fn an_attempt_that_is_due_behind_a_kill_is_made_once_and_not_before_its_time(#[case] is_on_postgres: bool) {
    let server = launch(is_on_postgres).start();
    let admin = Client::admin(&server).await;
    let receiver = Receiver::start(|number, _| match number {
        0 => Reply::status(503, &format!("Retry-After: {LATER_S}\r\n")),
        _ => Reply::json(200, &json!("done")),
    })
    .await;
    let task = admin.submit(&hook(&admin, &receiver).await, json!(1)).await.id();
    let waiting = with_status(&admin, &task, "retrying").await;
    assert!(waiting["waiting_reason"].as_str().unwrap().starts_with("backoff: "), "{waiting}");
    let server = server.kill9().start().kill9().start();
    let admin = admin.at(&server);
    assert_eq!(admin.task_ended(&task).await["output"], "done");
    let story = story(&admin, &task).await;
    assert_eq!(
        kinds(&story),
        ["submitted", "started", "retry_scheduled", "started", "step_completed", "completed"],
        "nothing was due twice"
    );
    assert!(story[3].1 - story[2].1 >= TimeDelta::seconds(LATER_S), "{story:?}");
    assert_eq!(receiver.calls().len(), 2);
}

#[rstest]
#[case::embedded(false)]
#[case::postgres(true)]
#[tokio::test]
async fn a_deadline_that_passes_while_no_server_runs_ends_the_task_once(#[case] is_on_postgres: bool) {
    let server = launch(is_on_postgres).start();
    let admin = Client::admin(&server).await;
    let receiver = Receiver::answering(200, json!(1)).await;
    let agent = hook(&admin, &receiver).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let deadline = Utc::now() + TimeDelta::seconds(2);
    let path = format!("/api/v1/agents/{agent}/tasks");
    let given = admin.post(&path, &json!({ "input": 1, "deadline": deadline })).await.expect(202).id();
    let stopped = server.kill9();
    eventually("the deadline has passed", async || (Utc::now() > deadline).then_some(())).await;
    let server = stopped.start();
    let admin = admin.at(&server);
    let ended = admin.task_ended(&given).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("deadline_passed")), "{ended}");
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    let server = server.kill9().start();
    let admin = admin.at(&server);
    admin.task_done(&agent, json!(2)).await;
    assert_eq!(kinds(&story(&admin, &given).await), ["submitted", "failed"]);
    assert_eq!(receiver.calls().len(), 1, "what is too late is not begun");
}

#[tokio::test]
async fn a_task_that_runs_on_one_node_is_cancelled_on_the_other_and_its_handler_hangs_up() {
    let first = launch(true).start();
    let here = Client::admin(&first).await;
    let receiver = Receiver::start(|_, _| Reply::Hang(Vec::new())).await;
    let agent = hook(&here, &receiver).await;
    // Nobody else is there to run it.
    let task = here.submit(&agent, json!(1)).await.id();
    receiver.call(0).await;
    let second = next_node(&first.launch().database().unwrap(), &first);
    let there = here.at(&second);
    assert_eq!(receiver.hung_up(), 0);
    there.order(&format!("/api/v1/tasks/{task}/cancel")).await.expect(200);
    eventually("the handler is gone", async || (receiver.hung_up() == 1).then_some(())).await;
    assert_eq!(kinds(&story(&there, &task).await), ["submitted", "started", "cancelled"]);
    assert_eq!(receiver.calls().len(), 1);
}
