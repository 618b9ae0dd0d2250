//! The workers under `examples/`, each run as whoever reads them would run it, against a real server.
use rstest::rstest;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

use super::{complete, heartbeat, lapse, lease, types, worker_agent};
use crate::{
    outside::{Outside, root},
    support::{Client, Server, eventually},
};

#[derive(Clone, Copy)]
enum Language {
    Python,
    Typescript,
}

/// As JavaScript: not every Node reads TypeScript by itself.
fn transpiled(into: &Path) -> PathBuf {
    let compiler = root().join("ui/node_modules/typescript/bin/tsc");
    assert!(compiler.exists(), "the console's packages are needed: make packages");
    let compiled = Command::new("node")
        .arg(compiler)
        .args(["--ignoreConfig", "--strict", "--skipLibCheck", "--target", "es2023", "--module", "esnext"])
        .args(["--moduleResolution", "bundler", "--types", "node", "--typeRoots"])
        .arg(root().join("ui/node_modules/@types"))
        .arg("--outDir")
        .args([into, &root().join("examples/worker.ts")])
        .output()
        .expect("node can be run");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));
    fs::write(into.join("package.json"), r#"{ "type": "module" }"#).unwrap();
    into.join("worker.js")
}

/// What is to be run. Made before a server is started: it takes seconds, in which connections would grow old.
struct Program {
    name: &'static str,
    file: PathBuf,
    _directory: TempDir,
}

impl Program {
    fn of(language: Language) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (name, file) = match language {
            Language::Python => ("python3", root().join("examples/worker.py")),
            Language::Typescript => ("node", transpiled(directory.path())),
        };
        Self { name, file, _directory: directory }
    }
}

fn start(program: &Program, server: &Server, agent: &str) -> Outside {
    let mut command = Command::new(program.name);
    command.arg(&program.file).env("MARVIN_AGENT", agent);
    Outside::start(command, server.url())
}

async fn is_running(admin: &Client, task: &str) {
    eventually("the worker has the task", async || {
        let task = admin.get(&format!("/api/v1/tasks/{task}")).await;
        (task.status == 200 && task.json()["status"] == "running").then_some(())
    })
    .await;
}

fn ended_in(task: &Value) -> (&str, &Value) {
    (task["status"].as_str().unwrap(), &task["attempt"])
}

#[rstest]
#[case::python(Language::Python)]
#[case::typescript(Language::Typescript)]
#[tokio::test]
async fn the_example_does_tasks_and_stops_when_it_is_told_to(#[case] language: Language) {
    let program = Program::of(language);
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let worker = start(&program, &server, &agent);
    let done = admin.task_done(&agent, json!({ "text": "so long and thanks" })).await;
    assert_eq!((ended_in(&done), &done["output"]), (("completed", &json!(1)), &json!({ "words": 4 })));
    let failed = admin.task_done(&agent, json!({ "words": [] })).await;
    assert_eq!((failed["status"].as_str(), &failed["error"]["code"]), (Some("failed"), &json!("bad_input")));
    let last = admin.submit(&agent, json!({ "text": "one more", "seconds": 1 })).await.id();
    is_running(&admin, &last).await;
    worker.signal("TERM");
    assert_eq!(ended_in(&admin.task_ended(&last).await), ("completed", &json!(1)));
    assert!(worker.ended().success());
    let idle = start(&program, &server, &agent);
    idle.says("waiting for tasks").await;
    idle.signal("TERM");
    assert!(idle.ended().success());
}

#[rstest]
#[case::python(Language::Python)]
#[case::typescript(Language::Typescript)]
#[tokio::test]
async fn the_task_of_an_example_that_is_killed_moves_on_to_another(#[case] language: Language) {
    let program = Program::of(language);
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let doomed = start(&program, &server, &agent);
    let task = admin.submit(&agent, json!({ "text": "half done", "seconds": 600 })).await.id();
    is_running(&admin, &task).await;
    doomed.signal("KILL");
    doomed.ended();
    lapse(server.data_dir(), &task);
    let leased = lease(&admin, &agent, 1, 30).await.remove(0);
    complete(&admin, &leased, json!("by another")).await.expect(200);
    let done = admin.task_ended(&task).await;
    assert_eq!((ended_in(&done), &done["output"]), (("completed", &json!(2)), &json!("by another")));
    assert_eq!(types(&admin, &task).await, ["submitted", "started", "heartbeat_lost", "started", "completed"]);
}

#[rstest]
#[case::python(Language::Python)]
#[case::typescript(Language::Typescript)]
#[tokio::test]
async fn an_example_that_was_away_for_too_long_is_told_that_it_is_late_and_goes_on(#[case] language: Language) {
    let program = Program::of(language);
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let away = start(&program, &server, &agent);
    let task = admin.submit(&agent, json!({ "text": "late", "seconds": 600 })).await.id();
    is_running(&admin, &task).await;
    away.signal("STOP");
    lapse(server.data_dir(), &task);
    let leased = lease(&admin, &agent, 1, 30).await.remove(0);
    heartbeat(&admin, &leased).await.expect(200);
    away.signal("CONT");
    away.says("409").await;
    complete(&admin, &leased, json!("in time")).await.expect(200);
    assert_eq!(admin.task_ended(&task).await["output"], "in time");
    let next = admin.task_done(&agent, json!({ "text": "it goes on" })).await;
    assert_eq!(next["output"], json!({ "words": 3 }));
}

#[rstest]
#[case::python(Language::Python)]
#[case::typescript(Language::Typescript)]
#[tokio::test]
async fn an_example_finishes_its_task_although_the_server_is_started_anew_meanwhile(#[case] language: Language) {
    let program = Program::of(language);
    // On one port: the worker knows no other.
    let launch = crate::support::Launch::with_admin().public_url("http://127.0.0.1");
    let server = launch.start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let _worker = start(&program, &server, &agent);
    let task = admin.submit(&agent, json!({ "text": "over a restart", "seconds": 2 })).await.id();
    is_running(&admin, &task).await;
    let server = server.kill9().start();
    let done = Client::admin(&server).await.task_ended(&task).await;
    assert_eq!((ended_in(&done), &done["output"]), (("completed", &json!(1)), &json!({ "words": 3 })));
}
