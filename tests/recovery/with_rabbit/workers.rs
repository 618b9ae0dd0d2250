//! Agents in processes of their own.
use std::fs;

use super::{
    super::{
        journal,
        load::{Agents, Kind},
        support::{Database, eventually},
    },
    *,
};

/// An instance on PostgreSQL and RabbitMQ with a server, and as many workers as are started.
fn services() -> Scene {
    let database = Database::shared();
    let scene = Scene::new();
    let stranger = RabbitBroker::new(&shared(), &database.instance).unwrap();
    Scene { launch: scene.launch.on(&database), instance: database.instance.clone(), stranger }
}

/// On this machine a worker may use the server's key file; its data directory is left alone.
fn worker(server: &Server) -> (Server, String) {
    server.launch().clone().start_worker()
}

async fn started_by(admin: &Client, task: &str) -> Vec<String> {
    let history = admin.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
    let started = history.as_array().unwrap().iter().filter(|event| event["type"] == "marvin.task.started.v1");
    started.map(|event| event["data"]["facts"]["worker"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_killed_workers_tasks_move_on() {
    let scene = services();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agents = Agents::create(&admin).await;
    let mut workers: BTreeMap<_, _> = (0..2).map(|_| worker(&server)).map(|(process, id)| (id, process)).collect();
    // Tasks that compute for some tenths of a second, until a worker has one.
    let values: Vec<f64> = (0..6_000).map(|index| f64::from(index % 12) + f64::from(index).sin()).collect();
    let (task, id) = eventually("a worker runs a task", async || {
        let task = admin.submit(agents.id(Kind::Slow), json!({ "values": values })).await.id();
        let started = eventually("it is started", async || started_by(&admin, &task).await.pop()).await;
        let is_running = async || {
            let history = admin.get(&format!("/api/v1/tasks/{task}/history")).await.expect(200).json();
            history.as_array().unwrap().len() == 2
        };
        (workers.contains_key(&started) && is_running().await).then_some((task.clone(), started))
    })
    .await;
    drop(workers.remove(&id).unwrap().kill9());
    let ended = admin.task_ended(&task).await;
    assert_eq!(ended["status"], "completed");
    let by = started_by(&admin, &task).await;
    // It may have been done in the moment before the kill.
    assert!(by.len() == 1 || by[1] != id, "{by:?}");
    let events = super::super::kills::all_ended(&admin).await;
    journal::check_contiguous(&events);
}

#[tokio::test]
async fn work_is_shared_among_servers_and_workers_and_done_once() {
    let scene = services();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = echo(&admin).await;
    let workers: Vec<_> = (0..2).map(|_| worker(&server)).collect();
    let mut seen = BTreeSet::new();
    eventually("each worker had a share", async || {
        let tasks =
            futures_util::future::join_all((0..20).map(|n| admin.task_done(&agent, json!({ "text": n.to_string() }))));
        for task in tasks.await {
            assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)));
            seen.extend(started_by(&admin, task["id"].as_str().unwrap()).await);
        }
        workers.iter().all(|(_, id)| seen.contains(id)).then_some(())
    })
    .await;
    for (process, _) in &workers {
        let taken = Metrics::of(process).await.sum("marvin_work_messages_total{outcome=\"taken\"");
        assert!(taken > 0, "it takes work from the queue, and does not only look for it");
    }
    for (process, _) in workers {
        process.stop();
    }
    assert_eq!(admin.task_done(&agent, json!({ "text": "alone" })).await["status"], "completed");
}

#[test]
fn a_worker_without_an_instance_to_work_for_says_so() {
    let refused = |launch: &Launch, says: &str| {
        let output = launch.run(&["worker"]);
        let reason = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{reason}");
        assert!(reason.contains(says), "{reason}");
    };
    let launch = Launch::bare().unset("MARVIN_DATABASE_URL");
    refused(&launch, "MARVIN_DATABASE_URL");
    let launch = Launch::bare().on(&Database::shared());
    refused(&launch, "master.key");
    fs::write(launch.data_dir().join("master.key"), "no key").unwrap();
    refused(&launch, "holds no instance");
}
