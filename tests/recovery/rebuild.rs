//! Read models that are built anew while people work, called off, killed, altered by hand, or stopped by an event.
use serde_json::{Value, json};
use std::{
    process::{Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::task::spawn_blocking;

use super::{
    doctor::diagnose,
    kills::views_reach,
    planting::{long_history, poison},
    support::{Answer, Client, Launch, Server, Stopped, eventually},
};

const AGENTS: &str = "/api/v1/projections/agents";
/// Events that a debug build folds for a second or two.
const LONG_HISTORY: usize = 30_000;

/// Runs a command of the program beside the tests.
async fn run(launch: &Launch, arguments: &[&str]) -> Output {
    let (launch, arguments) = (launch.clone(), arguments.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
    let run = move || launch.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    spawn_blocking(run).await.unwrap()
}

/// Its exit code and all that it said.
fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

async fn agents(admin: &Client) -> Value {
    admin.get(AGENTS).await.expect(200).json()
}

/// Waits until the rebuild of the agents is over and they are live.
async fn rebuilt(admin: &Client) -> Value {
    eventually("the agents are rebuilt", async || {
        let agents = agents(admin).await;
        (agents["rebuild"].is_null() && agents["state"] == "live" && agents["lag"] == 0).then_some(agents)
    })
    .await
}

async fn stopped_at(admin: &Client, position: u64) -> Value {
    eventually("the agents are stopped", async || {
        let agents = agents(admin).await;
        (agents["stopped"]["position"] == position).then_some(agents)
    })
    .await
}

/// A server on which somebody worked, stopped.
async fn house() -> (Stopped, Client) {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    admin.task_done(&agent, json!({ "marker": 0 })).await;
    views_reach(&admin, admin.head().await).await;
    (server.stop(), admin)
}

/// A server that runs with an event that the agents' projection cannot take, at this position.
async fn poisoned() -> (Server, Client, u64) {
    let (stopped, admin) = house().await;
    let position = poison(stopped.launch()).await;
    let server = stopped.launch().clone().set("MARVIN_METRICS_LISTEN", "127.0.0.1:0").start();
    let admin = admin.at(&server);
    stopped_at(&admin, position).await;
    (server, admin, position)
}

async fn skip(admin: &Client, position: u64) -> Answer {
    admin.post(&format!("{AGENTS}/skip"), &json!({ "position": position, "reason": "It was written by hand." })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_everything_under_load_ends_live_and_equal() {
    let (stopped, admin) = house().await;
    let launch = stopped.launch().clone();
    long_history(&launch, 3_000).await;
    let server = stopped.start();
    let admin = admin.at(&server);
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    let ended = AtomicBool::new(false);
    let working = async {
        let mut ids = Vec::new();
        while !ended.load(Ordering::SeqCst) || ids.len() < 20 {
            let receipt = admin.submit(&agent, json!({ "marker": ids.len() })).await;
            let path = format!("/api/v1/tasks/{}", receipt.id());
            assert_eq!(admin.get_at(&path, receipt.position()).await.expect(200).json()["id"], receipt.id());
            ids.push(receipt.id());
        }
        ids
    };
    let rebuilding = async {
        let output = run(&launch, &["rebuild", "--all"]).await;
        ended.store(true, Ordering::SeqCst);
        output
    };
    let (ids, output) = tokio::join!(working, rebuilding);
    let (exit, text) = said(&output);
    assert_eq!(exit, 0, "{text}");
    for name in ["agents", "tasks", "steps", "users", "inbox", "schedules"] {
        assert!(text.contains(&format!("{name}: rebuilt")), "{text}");
    }
    for id in &ids {
        assert_eq!(admin.task_ended(id).await["status"], "completed");
    }
    // One for each, and the one from before: nothing was told again.
    let told = ids.len() + 1;
    eventually("everyone is told", async || (admin.unread().await == told).then_some(())).await;
    let head = admin.head().await;
    views_reach(&admin, head).await;
    let quiet = run(&launch, &["rebuild", "--all"]).await;
    assert_eq!(said(&quiet).0, 0);
    assert_eq!(admin.head().await, head, "a rebuild appends nothing");
    diagnose(server.stop().launch()).expect_equal(head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_was_called_off_goes_on_where_it_was() {
    let (server, admin, position) = poisoned().await;
    admin.order(&format!("{AGENTS}/rebuild")).await.expect(202);
    // The newest event of an agent before it: what happened to others in between is passed over.
    let reached = eventually("the rebuild has come to the event", async || {
        agents(&admin).await["rebuild"]["position"].as_u64().filter(|reached| (1..position).contains(reached))
    })
    .await;
    let off = admin.delete(&format!("{AGENTS}/rebuild")).await.expect(200).json();
    assert_eq!(off["rebuild"], Value::Null);
    admin.delete(&format!("{AGENTS}/rebuild")).await.problem(409);
    admin.get("/api/v1/agents").await.expect(200);
    let again = admin.order(&format!("{AGENTS}/rebuild")).await.expect(202).json();
    assert_eq!(again["rebuild"]["position"], reached, "it does not begin anew");
    let (exit, text) = said(&run(server.launch(), &["rebuild", "agents", "--cancel"]).await);
    assert_eq!(exit, 0, "{text}");
    assert_eq!(agents(&admin).await["rebuild"], Value::Null);
    let (exit, text) = said(&run(server.launch(), &["rebuild", "agents", "--cancel"]).await);
    assert_eq!((exit, text.trim()), (1, "marvin: nothing is being rebuilt"));
}

/// It stands at the event that stops it, so that nothing is over before it is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_asked_for_again_is_the_same_one() {
    let (_server, admin, position) = poisoned().await;
    let path = format!("{AGENTS}/rebuild");
    admin.order(&path).await.expect(202);
    let under_way = eventually("the rebuild has come to the event", async || {
        let rebuild = agents(&admin).await["rebuild"].clone();
        rebuild["position"].as_u64().is_some_and(|reached| (1..position).contains(&reached)).then_some(rebuild)
    })
    .await;
    let again = [
        admin.order(&path).await,
        admin.post(&path, &json!({ "sure": true })).await,
        admin.post_keyed(&path, "key-1", &Value::Null).await,
        admin.post_keyed(&path, "key-1", &Value::Null).await,
    ];
    for answer in again {
        let rebuild = &answer.expect(202).json()["rebuild"];
        assert_eq!(rebuild["position"], under_way["position"], "another one would begin at 0");
    }
    admin.delete(&path).await.expect(200);
    admin.delete(&path).await.problem(409);
    assert_eq!(agents(&admin).await["rebuild"], Value::Null, "one was called off, and there is no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_tell_how_far_a_rebuild_is_and_how_far_readers_are() {
    let (server, admin, position) = poisoned().await;
    admin.order(&format!("{AGENTS}/rebuild")).await.expect(202);
    let head = admin.colleague("somebody", &["member"]).await.head().await;
    let shown = eventually("the rebuild has come to the event", async || {
        let agents = agents(&admin).await;
        let is_there = agents["rebuild"]["position"].as_u64().is_some_and(|reached| (1..position).contains(&reached));
        (is_there && agents["rebuild"]["target"] == head).then_some(agents)
    })
    .await;
    assert_eq!(shown["lag"], head - shown["position"].as_u64().unwrap());
    let rebuild = &shown["rebuild"];
    let of_agents = gauges("agents", [&shown["lag"], &rebuild["position"], &rebuild["target"]]);
    metrics_say(&server, &of_agents).await;
    metrics_say(&server, &gauges("tasks", [&json!(0), &json!(0), &json!(0)])).await;
    admin.delete(&format!("{AGENTS}/rebuild")).await.expect(200);
    metrics_say(&server, &gauges("agents", [&shown["lag"], &json!(0), &json!(0)])).await;
}

fn gauges(name: &str, [lag, position, target]: [&Value; 3]) -> [String; 3] {
    [("lag_events", lag), ("rebuild_position", position), ("rebuild_target", target)]
        .map(|(gauge, value)| format!("marvin_projection_{gauge}{{projection=\"{name}\"}} {value}"))
}

/// Waits until all of these lines stand in the metrics at once.
async fn metrics_say(server: &Server, lines: &[String]) {
    let line = server.log().lines().find(|line| line.contains("metrics are served")).unwrap().to_owned();
    let address = serde_json::from_str::<Value>(&line).unwrap()["address"].as_str().unwrap().to_owned();
    eventually(&format!("the metrics say {lines:?}"), async || {
        let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
        lines.iter().all(|line| text.lines().any(|said| said == line)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_was_killed_goes_on_where_it_was() {
    let (stopped, admin) = house().await;
    let head = long_history(stopped.launch(), LONG_HISTORY).await;
    let server = stopped.start();
    let admin = admin.at(&server);
    rebuilt(&admin).await;
    let reached = eventually("a rebuild is under way", async || {
        let rebuild = &agents(&admin).await["rebuild"];
        if rebuild.is_null() {
            admin.order(&format!("{AGENTS}/rebuild")).await.expect(202);
        }
        rebuild["position"].as_u64().filter(|position| (1..head).contains(position))
    })
    .await;
    let server = server.kill9().start();
    let admin = admin.at(&server);
    let after = agents(&admin).await;
    assert!(after["rebuild"]["position"].as_u64().is_none_or(|position| position >= reached), "{after}");
    rebuilt(&admin).await;
    let diagnosis = diagnose(server.stop().launch());
    assert_eq!(diagnosis.exit, 0, "{}", diagnosis.text);
    assert_eq!(diagnosis.views["agents"], (2, head, 0), "{}", diagnosis.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_altered_by_hand_is_found_and_mended_by_a_rebuild() {
    let (stopped, admin) = house().await;
    let launch = stopped.launch().clone();
    let alter = "UPDATE TABLE SET status = 'queued', body = body";
    match launch.database() {
        Some(database) => {
            let table = format!("\"{}_views\".view_tasks_4_1", database.instance);
            database.stranger().await.batch_execute(&alter.replace("TABLE", &table)).await.unwrap();
        }
        None => {
            let views = rusqlite::Connection::open(launch.data_dir().join("views.db")).unwrap();
            views.execute(&alter.replace("TABLE", "view_tasks_4_1"), []).unwrap();
        }
    }
    let found = diagnose(&launch);
    assert_eq!(found.exit, 1, "{}", found.text);
    for part in ["tasks: 1 documents", "has other index fields", "`marvin rebuild tasks` builds them anew"] {
        assert!(found.text.contains(part), "{part} is not in: {}", found.text);
    }
    let server = stopped.start();
    let admin = admin.at(&server);
    let (exit, text) = said(&run(&launch, &["rebuild", "tasks"]).await);
    assert_eq!(exit, 0, "{text}");
    assert!(admin.get("/api/v1/tasks?status=queued").await.expect(200).items().is_empty());
    let head = admin.head().await;
    diagnose(server.stop().launch()).expect_equal(head);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_folded_stops_its_projection_alone_where_everyone_can_see_it() {
    let (server, admin, position) = poisoned().await;
    let stopped = agents(&admin).await;
    assert_eq!((&stopped["state"], &stopped["position"]), (&json!("stopped"), &json!(position - 1)));
    assert!(stopped["stopped"]["reason"].as_str().unwrap().contains("which no event began"), "{stopped}");
    let person = admin.colleague("somebody", &["member"]).await;
    let head = admin.head().await;
    eventually("the others go on", async || {
        let items = admin.get("/api/v1/projections").await.expect(200).items();
        let mut others = items.iter().filter(|item| item["name"] != "agents");
        others.all(|item| item["state"] == "live" && item["position"] == head).then_some(())
    })
    .await;
    assert_eq!(agents(&admin).await["lag"], head - position + 1);
    let ready = person.get("/readyz").await.expect(200).json();
    let degraded = ready["degraded"].as_array().unwrap();
    assert_eq!(degraded.len(), 1, "{ready}");
    assert!(degraded[0]["name"].as_str().unwrap().contains("agents"), "{ready}");
    assert_eq!(degraded[0]["position"], position);
    let stopped = [("agents", 1), ("tasks", 0)];
    let lines = stopped.map(|(name, is)| format!("marvin_projection_stopped{{projection=\"{name}\"}} {is}"));
    metrics_say(&server, &lines).await;
    let (exit, text) = said(&run(server.launch(), &["rebuild", "agents"]).await);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains(&format!("stopped at position {position}: ")), "{text}");
    let (exit, text) = said(&run(server.launch(), &["doctor", "--views"]).await);
    assert_eq!(exit, 3, "{text}");
    assert!(text.contains(&format!("  it is stopped at position {position}: ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_what_nobody_mended_stops_at_the_same_event_again() {
    let (server, admin, position) = poisoned().await;
    admin.order(&format!("{AGENTS}/resume")).await.expect(200);
    stopped_at(&admin, position).await;
    let server = server.stop().start();
    let admin = admin.at(&server);
    stopped_at(&admin, position).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_event_is_passed_over_also_by_a_rebuild_and_a_replay() {
    let (server, admin, position) = poisoned().await;
    skip(&admin, position - 1).await.problem(409);
    let skipped = skip(&admin, position).await.expect(200);
    assert_eq!(skipped.json()["sequence"], 1);
    rebuilt(&admin).await;
    eventually("all is well", async || {
        let ready = admin.get("/readyz").await.expect(200).json();
        (ready["degraded"] == json!([])).then_some(())
    })
    .await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    assert_eq!(
        admin.get_at(&format!("/api/v1/agents/{agent}"), admin.head().await).await.expect(200).json()["id"],
        agent
    );
    let (exit, text) = said(&run(server.launch(), &["rebuild", "agents"]).await);
    assert_eq!(exit, 0, "{text}");
    let events =
        admin.get(&format!("/api/v1/events?after={}&limit=1", skipped.position() - 1)).await.expect(200).json();
    let (kind, data) = (&events[0]["type"], &events[0]["data"]);
    assert_eq!(kind, "marvin.projection.skipped.v1");
    assert_eq!(data["facts"]["position"], position);
    assert_eq!(data["personal"]["reason"], "It was written by hand.");
    let server = server.stop().start();
    let admin = admin.at(&server);
    rebuilt(&admin).await;
    let diagnosis = diagnose(server.stop().launch());
    assert_eq!(diagnosis.exit, 0, "{}", diagnosis.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_repeated_under_its_key_answers_its_first_answer_and_is_recorded_once() {
    let (_server, admin, position) = poisoned().await;
    let path = format!("{AGENTS}/skip");
    let body = |reason: &str| json!({ "position": position, "reason": reason });
    let first = admin.post_keyed(&path, "key-1", &body("It was written by hand.")).await.expect(200);
    rebuilt(&admin).await;
    let head = admin.head().await;
    let again = admin.post_keyed(&path, "key-1", &body("It was written by hand.")).await.expect(200);
    assert_eq!((again.json(), again.position()), (first.json(), first.position()));
    admin.post_keyed(&path, "key-1", &body("Another reason.")).await.problem(422);
    admin.post_keyed(&path, "key-2", &body("It was written by hand.")).await.problem(409);
    assert_eq!(admin.head().await, head, "it was recorded once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_projection_is_a_mistake_of_usage() {
    let launch = Launch::with_admin();
    let (exit, text) = said(&run(&launch, &["rebuild", "task"]).await);
    assert_eq!(exit, 2, "{text}");
    assert!(text.contains("agents, tasks, steps, users, inbox"), "{text}");
    let (exit, text) = said(&run(&launch, &["rebuild", "tasks"]).await);
    assert_eq!(exit, 1, "{text}");
    assert!(!launch.data_dir().join("views.db").exists(), "a mistyped directory is not made an instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_rebuild_leaves_the_stores_to_the_next_server() {
    let (stopped, admin) = house().await;
    long_history(stopped.launch(), LONG_HISTORY).await;
    let server = stopped.start();
    rebuilt(&admin.at(&server)).await;
    let mut command = server.launch().command(&["rebuild", "agents"]);
    let watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the rebuild is under way", async || {
        let standing = agents(&admin.at(&server)).await;
        standing["rebuild"]["position"].as_u64().filter(|position| *position > 0)
    })
    .await;
    let stopped = server.stop();
    let (exit, text) = said(&spawn_blocking(|| watching.wait_with_output()).await.unwrap().unwrap());
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("the rebuild of agents goes on with the next server: the server"), "{text}");
    rebuilt(&admin.at(&stopped.start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_rebuilds_the_next_server_does() {
    let (stopped, admin) = house().await;
    let launch = stopped.launch().clone();
    let (exit, text) = said(&run(&launch, &["rebuild", "agents"]).await);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("since no server runs: the next one that starts does it"), "{text}");
    let server = stopped.start();
    rebuilt(&admin.at(&server)).await;
    let (exit, text) = said(&run(&launch, &["rebuild", "agents", "--cancel"]).await);
    assert_eq!((exit, text.trim()), (1, "marvin: nothing is being rebuilt"));
}
