//! A task and its steps, which are views of their own, seen together after restarts.
use marvin::cache::BODY_BYTES_MAX;
use serde_json::{Value, json};

use super::{
    kills::views_reach,
    planting::{poison_of_tasks, start, steps},
    support::{Client, Server, Stopped, eventually},
};

/// A stopped server with a task that no worker takes.
async fn house() -> (Stopped, Client, String) {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let task = admin.submit(&agent, json!({})).await.id();
    views_reach(&admin, admin.head().await).await;
    (server.stop(), admin, task)
}

/// The numbers of the steps that the task shows.
async fn shown(admin: &Client, task: &str) -> Vec<Value> {
    let task = admin.get(&format!("/api/v1/tasks/{task}")).await.expect(200).json();
    task["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect()
}

/// The tasks stop before the second step, which the steps' own view has.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_shows_no_step_that_is_newer_than_what_it_shows_of_itself() {
    let (stopped, admin, task) = house().await;
    let id = task.parse().unwrap();
    start(stopped.launch(), id).await;
    steps(stopped.launch(), id, [(1, "first".into())]).await;
    poison_of_tasks(stopped.launch()).await;
    let end = steps(stopped.launch(), id, [(2, "second".into())]).await;
    let server = stopped.start();
    let admin = admin.at(&server);
    eventually("the steps are there, and the tasks stopped", async || {
        let of = async |name: &str| admin.get(&format!("/api/v1/projections/{name}")).await.expect(200).json();
        let (tasks, steps) = (of("tasks").await, of("steps").await);
        (tasks["state"] == "stopped" && steps["position"].as_u64() >= Some(end)).then_some(())
    })
    .await;
    assert_eq!(shown(&admin, &task).await, [1]);
}

/// One is too large to be cached, and so comes from the store, behind the others.
#[tokio::test(flavor = "multi_thread")]
async fn steps_that_are_cached_in_part_are_shown_in_their_order() {
    let (stopped, admin, task) = house().await;
    let id = task.parse().unwrap();
    start(stopped.launch(), id).await;
    let large = "x".repeat(BODY_BYTES_MAX);
    let name = |step| if step == 6 { large.clone() } else { "small".into() };
    let end = steps(stopped.launch(), id, (1..=9).map(|step| (step, name(step)))).await;
    let server = stopped.start();
    let admin = admin.at(&server);
    views_reach(&admin, end).await;
    assert_eq!(shown(&admin, &task).await, (1..=9).map(Value::from).collect::<Vec<_>>());
}
