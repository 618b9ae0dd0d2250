//! `examples/worker_amqp.py`: it does what its agent's queue tells of, and what it does not.
use super::{
    super::{
        super::{
            leases::{lease, worker_agent},
            support::proxy::Weather,
        },
        away::proxied,
    },
    *,
};

/// So rare that only a hint can have told of a task.
const NEVER_S: u32 = 600;

fn worker(scene: &Scene, server: &Server, agent: &str, look_s: u32, broker: &str) -> Outside {
    let mut command = python("worker_amqp.py");
    command
        .env("MARVIN_AMQP_URL", broker)
        .env("MARVIN_INSTANCE", &scene.instance)
        .env("MARVIN_AGENT", agent)
        .env("MARVIN_LOOK_S", look_s.to_string());
    Outside::start(command, server.url())
}

async fn is_running(admin: &Client, task: &str) {
    eventually("a worker has the task", async || {
        let task = admin.get(&format!("/api/v1/tasks/{task}")).await;
        (task.status == 200 && task.json()["status"] == "running").then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_is_woken_for_each_task_and_stops_when_it_is_told_to() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({ "backoff_initial_ms": 1000, "max_attempts": 3 })).await;
    let worker = worker(&scene, &server, &agent, NEVER_S, &shared());
    worker.says("waiting for tasks").await;
    for text in ["one", "one two", "one two three"] {
        let done = admin.task_done(&agent, json!({ "text": text })).await;
        assert_eq!(done["output"], json!({ "words": text.split(' ').count() }));
    }
    let failed = admin.task_done(&agent, json!({})).await;
    assert_eq!(failed["error"]["code"], "bad_input");
    let task = failed["id"].as_str().unwrap();
    admin.order(&format!("/api/v1/tasks/{task}/retry")).await.expect(200);
    eventually("it is tried again", async || {
        let task = admin.get(&format!("/api/v1/tasks/{task}")).await.expect(200).json();
        (task["status"] == "failed" && task["attempt"] == 2).then_some(())
    })
    .await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let kept = admin.submit(&agent, json!({ "text": "kept" })).await.id();
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    assert_eq!(admin.task_ended(&kept).await["status"], "completed");
    let last = admin.submit(&agent, json!({ "text": "one more", "seconds": 1 })).await.id();
    is_running(&admin, &last).await;
    worker.signal("TERM");
    assert_eq!(admin.task_ended(&last).await["status"], "completed");
    assert!(worker.ended().success());
}

/// The hint comes when the task is not ready yet.
#[tokio::test]
async fn it_comes_back_for_a_retry_when_its_time_has_come() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({ "backoff_initial_ms": 6000, "max_attempts": 3 })).await;
    let task = admin.submit(&agent, json!({ "text": "later" })).await.id();
    let (_, held) = lease(&admin, &agent, 1, 30).await.remove(0);
    let worker = worker(&scene, &server, &agent, NEVER_S, &shared());
    worker.says("waiting for tasks").await;
    let body = json!({ "lease": held, "code": "no_luck", "message": "It rains", "retry": true });
    admin.post(&format!("/api/v1/tasks/{task}/fail"), &body).await.expect(200);
    let done = admin.task_ended(&task).await;
    assert_eq!((&done["status"], &done["attempt"]), (&json!("completed"), &json!(2)));
}

#[tokio::test]
async fn a_busy_one_leaves_hints_to_another() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let workers = [(); 2].map(|()| worker(&scene, &server, &agent, NEVER_S, &shared()));
    // Until both have been told of a task: then both listen, and none finds the next one by its first look.
    let mut told = Vec::new();
    while !workers.iter().all(|worker| worker.said().contains("\ntask ")) {
        told.push(admin.submit(&agent, json!({ "text": "at once", "seconds": 0.2 })).await.id());
        told.push(admin.submit(&agent, json!({ "text": "at once", "seconds": 0.2 })).await.id());
        for task in &told[told.len() - 2..] {
            admin.task_ended(task).await;
        }
    }
    let long = admin.submit(&agent, json!({ "text": "for long", "seconds": 600 })).await.id();
    is_running(&admin, &long).await;
    for number in 0..8 {
        let done = admin.task_done(&agent, json!({ "text": number.to_string() })).await;
        assert_eq!((&done["status"], &done["attempt"]), (&json!("completed"), &json!(1)));
    }
}

#[tokio::test]
async fn hints_that_are_lost_doubled_late_or_foreign_only_make_it_look() {
    let scene = Scene::new();
    let (proxy, through) = proxied().await;
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let hints = scene.hints(&agent);
    let first = admin.submit(&agent, json!({ "text": "first" })).await.id();
    // What a worker will be told later, and often.
    let mut caught = scene.stranger.consume(&hints, 1).await.unwrap();
    let mut late = Vec::new();
    while late.len() < 2 {
        let next = tokio::time::timeout(super::super::super::support::DEADLINE, caught.next());
        let delivery = next.await.expect("it was created, and there is a task").unwrap();
        late.push(delivery.message.clone());
        delivery.acknowledge().await;
    }
    drop(caught);
    let worker = worker(&scene, &server, &agent, 2, &through);
    assert_eq!(admin.task_ended(&first).await["status"], "completed", "the hint was lost");
    let strangers = poison(&format!("agent.{agent}"));
    scene.stranger.put(&hints, &strangers).await.unwrap();
    let doubled: Vec<_> = (0..50).map(|_| late[1].clone()).collect();
    scene.stranger.put(&hints, &doubled).await.unwrap();
    eventually("each that it cannot read is said", async || {
        (worker.said().matches("a message is left out").count() == strangers.len()).then_some(())
    })
    .await;
    let second = admin.task_done(&agent, json!({ "text": "second" })).await;
    proxy.set(Weather::Cut);
    let third = admin.task_done(&agent, json!({ "text": "without the broker" })).await;
    worker.says("no hints, looking every 2 s").await;
    proxy.set(Weather::Fine);
    let fourth = admin.task_done(&agent, json!({ "text": "with it again" })).await;
    for done in [second, third, fourth] {
        assert_eq!((&done["status"], &done["attempt"]), (&json!("completed"), &json!(1)));
    }
    let started = of_type(&admin, "task.started").await;
    assert_eq!(started.len(), 4, "nothing was started twice");
}
