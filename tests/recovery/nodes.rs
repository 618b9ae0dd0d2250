//! Two servers on one database are two nodes of one instance: one log, one answer, and whoever is left goes on.
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

mod secrets;

use super::{
    doctor::diagnose,
    journal,
    kills::{all_ended, views_reach},
    planting::many_agents,
    support::{Client, Database, Launch, PASSWORD, Server, eventually, user},
};

/// Tasks that are sent to both nodes.
const TASKS: usize = 60;

/// Starts a node. The first one makes the key file; it has to be brought to the others.
pub(super) fn first_node(database: &Database) -> Server {
    Launch::with_admin().on(database).start()
}

pub(crate) fn next_node(database: &Database, of: &Server) -> Server {
    let launch = Launch::with_admin().on(database);
    fs::copy(of.data_dir().join("master.key"), launch.data_dir().join("master.key")).unwrap();
    launch.start()
}

async fn submit(client: &Client, agent: &str, marker: usize) -> Value {
    let path = format!("/api/v1/agents/{agent}/tasks");
    let request = client.request(Method::POST, &path).header("idempotency-key", format!("order-{marker}"));
    client.send(request.json(&json!({ "input": { "marker": marker } }))).await.expect(202).json()
}

/// Reads the log as it grows, up to `end` once that is known: never a gap, and so never an event that comes late. Answers the ids
/// up to there, in the order they were seen.
async fn watch(node: &Client, end: &AtomicU64) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    while (seen.len() as u64) < end.load(Ordering::SeqCst) {
        let page = node.get(&format!("/api/v1/events?after={}&limit=50", seen.len())).await.expect(200).json();
        for event in page.as_array().unwrap() {
            assert_eq!(event["position"], (seen.len() + 1).to_string(), "a gap, or an event that came late");
            seen.push(event["id"].as_str().unwrap().to_owned());
        }
    }
    seen.truncate(usize::try_from(end.load(Ordering::SeqCst)).unwrap());
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_write_one_order_for_many_readers_while_a_stranger_holds_a_transaction_open() {
    const PEOPLE: usize = 32;
    const COMMANDS: usize = 10;
    let database = Database::shared();
    let first = first_node(&database);
    let second = next_node(&database, &first);
    let here = Client::admin(&first).await;
    let nodes = [here.clone(), here.at(&second)];
    let agent = here.agent("rules", json!({ "rules": [] })).await;
    let stranger = database.stranger().await;
    let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE strange (number integer); \
               INSERT INTO strange VALUES (1); SELECT count(*) FROM events";
    stranger.batch_execute(sql).await.unwrap();
    let end = AtomicU64::new(u64::MAX);
    let writing = async {
        let write = async |person: usize| {
            for command in 0..COMMANDS {
                submit(&nodes[person % 2], &agent, person * COMMANDS + command).await;
            }
        };
        join_all((0..PEOPLE).map(write)).await;
        end.store(here.head().await, Ordering::SeqCst);
    };
    let reading = join_all((0..PEOPLE).map(|person| watch(&nodes[person % 2], &end)));
    let ((), orders) = tokio::join!(writing, reading);
    stranger.batch_execute("COMMIT").await.unwrap();
    assert!(orders[0].len() > PEOPLE * COMMANDS, "{}", orders[0].len());
    assert!(orders.iter().all(|order| *order == orders[0]), "a reader saw another order");
    let journal = all_ended(&nodes[1]).await;
    let submitted = journal.iter().filter(|event| event.kind == "task.submitted").count();
    assert_eq!(submitted, PEOPLE * COMMANDS);
    let now = watch(&here, &AtomicU64::new(orders[0].len() as u64)).await;
    assert!(now == orders[0], "the log has another order than was read");
}

#[tokio::test]
async fn a_command_sent_to_both_nodes_is_done_once_and_answered_alike() {
    let database = Database::shared();
    let first = first_node(&database);
    let second = next_node(&database, &first);
    let here = Client::admin(&first).await;
    // The same session: sessions are rows of the database.
    let there = here.at(&second);
    let notify = json!({ "notify": { "to": "requester", "severity": "info", "title": "Done", "body": "It is." } });
    let agent = here.agent("rules", json!({ "rules": [{ "name": "tell", "when": "true", "then": [notify] }] })).await;
    let end = AtomicU64::new(u64::MAX);
    let submitting = async {
        let answers = join_all((0..TASKS).map(async |marker| {
            let (one, other) = if marker.is_multiple_of(2) { (&here, &there) } else { (&there, &here) };
            let (first, again) = tokio::join!(submit(one, &agent, marker), submit(other, &agent, marker));
            assert_eq!(first, again);
            first["id"].as_str().unwrap().to_owned()
        }))
        .await;
        end.store(here.head().await, Ordering::SeqCst);
        answers
    };
    let (answers, seen_here, seen_there) = tokio::join!(submitting, watch(&here, &end), watch(&there, &end));
    assert_eq!(seen_here, seen_there);
    assert!(end.into_inner() >= TASKS as u64);
    for id in &answers {
        assert_eq!(there.task_ended(id).await["status"], "completed");
    }
    let events = all_ended(&there).await;
    let positions: Vec<_> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, (1..=positions.len() as u64).collect::<Vec<_>>());
    for id in &answers {
        let kinds: Vec<_> = events.iter().filter(|event| event.id() == id).map(|event| event.kind.as_str()).collect();
        assert_eq!(
            kinds,
            ["task.submitted", "task.started", "task.step_completed", "task.step_completed", "task.completed"]
        );
    }
    // One notification of the rule, and one of the end.
    eventually("everyone is told once", async || {
        let mut events = Vec::new();
        journal::read_on(&here, &mut events).await;
        let raised = events.iter().filter(|event| event.kind == "notification.raised").count();
        assert!(raised <= 2 * TASKS, "{raised}");
        (raised == 2 * TASKS).then_some(())
    })
    .await;
    let same = [&here, &there].map(async |node| {
        let mut events = Vec::new();
        journal::read_on(node, &mut events).await;
        events.iter().map(|event| (event.position, event.subject.clone())).collect::<Vec<_>>()
    });
    let [first, second] = same;
    assert_eq!(first.await, second.await);
}

#[tokio::test]
async fn what_a_killed_node_was_doing_is_finished_by_the_other() {
    let database = Database::shared();
    let first = first_node(&database);
    let second = next_node(&database, &first);
    let admin = Client::admin(&second).await;
    // Long enough that some run when the node dies: a debug build works on each for tenths of a second.
    let values: Vec<usize> = (0..6_000).map(|index| index * index % 97).collect();
    let agent = admin.agent("insight", json!({})).await;
    let doomed = admin.at(&first);
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(doomed.submit(&agent, json!({ "values": values })).await.id());
    }
    first.kill9();
    for id in &ids {
        assert_eq!(admin.task_ended(id).await["status"], "completed", "{id}");
    }
    let mut events = Vec::new();
    journal::read_on(&admin, &mut events).await;
    for id in &ids {
        let ends = events.iter().filter(|event| event.id() == id && event.kind == "task.completed").count();
        assert_eq!(ends, 1);
    }
}

#[tokio::test]
async fn who_is_erased_on_one_node_is_gone_on_the_other() {
    let database = Database::shared();
    let first = first_node(&database);
    let second = next_node(&database, &first);
    let here = Client::admin(&first).await;
    let there = here.at(&second);
    let agent = here.agent("rules", json!({ "rules": [] })).await;
    let person = here.colleague("person", &["member"]).await;
    let elsewhere = person.at(&second);
    let task = elsewhere.submit(&agent, json!({ "marker": "words of a person" })).await.id();
    assert_eq!(there.task_ended(&task).await["input"]["marker"], "words of a person");
    here.delete(&format!("/api/v1/users/{}", person.user_id())).await.expect(200);
    eventually("the session has ended on the other node", async || {
        let answer = elsewhere.get("/api/v1/session").await;
        (answer.status == 401).then_some(())
    })
    .await;
    for node in [&here, &there] {
        eventually("the words are gone", async || {
            let task = node.get(&format!("/api/v1/tasks/{task}")).await.expect(200).json();
            (task["input"].is_null() && task["erased"] == true).then_some(())
        })
        .await;
    }
    let left = "SELECT (SELECT count(*) FROM SCHEMA.subjects WHERE user_id::text = $1) + \
                (SELECT count(*) FROM SCHEMA.credentials WHERE user_id::text = $1) + \
                (SELECT count(*) FROM SCHEMA.sessions WHERE user_id::text = $1)";
    let left = left.replace("SCHEMA", &format!("{}_subjects", database.instance));
    let stranger = database.stranger().await;
    eventually("the key and all rows are gone", async || {
        let rows = stranger.query_one(&left, &[&person.user_id()]).await.unwrap();
        (rows.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_goes_on_once_it_has_the_key_file_that_another_node_rotated() {
    let database = Database::shared();
    let first = first_node(&database);
    let second = next_node(&database, &first);
    let here = Client::admin(&first).await;
    let there = here.at(&second);
    let early = here.colleague("early", &["member"]).await;
    let launch = first.launch().clone();
    let rotated = tokio::task::spawn_blocking(move || launch.run(&["keys", "rotate"])).await.unwrap();
    let said = String::from_utf8(rotated.stdout).unwrap();
    assert!(
        rotated.status.success() && said.starts_with("4 keys were rewrapped"),
        "{said}{}",
        String::from_utf8_lossy(&rotated.stderr)
    );
    assert!(said.contains("to every other node"), "{said}");
    let refused = there.post("/api/v1/users", &user("late@example.org", "late", &["member"])).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    here.colleague("meanwhile", &["member"]).await;
    fs::copy(first.data_dir().join("master.key"), second.data_dir().join("master.key")).unwrap();
    eventually("the other node registers people again", async || {
        let answer = there.post("/api/v1/users", &user("late@example.org", "late", &["member"])).await;
        (answer.status == 201).then_some(())
    })
    .await;
    for (node, name) in [(&second, "early"), (&second, "meanwhile"), (&second, "late"), (&first, "late")] {
        let person = Client::sign_in(node, &format!("{name}@example.org"), PASSWORD).await;
        let seen = person.get(&format!("/api/v1/users/{}", person.user_id())).await.expect(200).json();
        assert_eq!(seen["email"], format!("{name}@example.org"), "their words open");
    }
    assert_eq!(early.at(&second).get("/api/v1/session").await.status, 200, "sessions went on");
}

#[tokio::test]
async fn a_stopped_node_rotates_as_well_and_a_directory_without_a_key_file_does_not() {
    let database = Database::shared();
    let stopped = first_node(&database).stop();
    let nowhere = Launch::with_admin().on(&database).run(&["keys", "rotate"]);
    let said = String::from_utf8(nowhere.stderr).unwrap();
    assert!(nowhere.status.code() == Some(1) && said.contains("no node was started here"), "{said}");
    let rotated = stopped.launch().run(&["keys", "rotate"]);
    let said = String::from_utf8(rotated.stdout).unwrap();
    assert!(rotated.status.success() && said.starts_with("3 keys were rewrapped"), "{said}");
    Client::admin(&stopped.start()).await;
}

#[tokio::test]
async fn a_node_with_another_key_or_none_is_refused() {
    let database = Database::shared();
    let first = first_node(&database);
    Client::admin(&first).await.agent("rules", json!({ "rules": [] })).await;
    let without = Launch::with_admin().on(&database).run(&["serve"]);
    let said = String::from_utf8(without.stderr).unwrap();
    assert_eq!(without.status.code(), Some(1));
    assert!(said.contains("master.key is missing"), "{said}");
    let other = Launch::with_admin().on(&Database::shared()).start();
    let launch = Launch::with_admin().on(&database);
    fs::copy(other.data_dir().join("master.key"), launch.data_dir().join("master.key")).unwrap();
    let refused = launch.run(&["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("was made with another key"), "{said}");
}

#[tokio::test]
async fn a_database_that_is_not_there_stops_the_start_with_the_settings_name() {
    let refused =
        Launch::with_admin().set("MARVIN_DATABASE_URL", "postgres://u:p4ssw0rd@127.0.0.1:1/marvin").run(&["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("MARVIN_DATABASE_URL") && !said.contains("p4ssw0rd"), "{said}");
}

/// Agents that a debug build folds for a second or two.
const AGENTS: usize = 20_000;

/// The agents' table that is being filled, by its build, and how far it is.
async fn filled(database: &Database) -> Option<(i64, u64)> {
    let sql = "SELECT build, position FROM SCHEMA.tables WHERE name = 'agents' AND state = 'building'";
    let sql = sql.replace("SCHEMA", &format!("{}_views", database.instance));
    let row = database.stranger().await.query_opt(&sql, &[]).await.unwrap()?;
    Some((row.get(0), row.get::<_, i64>(1).cast_unsigned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_a_node_that_was_killed_is_finished_by_the_other() {
    let database = Database::shared();
    let first = first_node(&database);
    let admin = Client::admin(&first).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    admin.task_done(&agent, json!({ "marker": 0 })).await;
    let stopped = first.stop();
    let end = many_agents(stopped.launch(), AGENTS).await;
    let first = stopped.start();
    let here = admin.at(&first);
    views_reach(&here, end).await;
    let agents = async |node: &Client| node.get("/api/v1/projections/agents").await.expect(200).json();
    // It had every duty before there was another.
    let rebuilds = agents(&here).await["holder"].clone();
    assert!(rebuilds.is_string(), "{rebuilds}");
    let second = next_node(&database, &first);
    let there = admin.at(&second);
    let ordered = there.order("/api/v1/projections/agents/rebuild").await.expect(202).json();
    assert_eq!(ordered["rebuild"]["position"], 0);
    eventually("the rebuild is under way", async || {
        let position = agents(&there).await["rebuild"]["position"].as_u64();
        assert!(position.is_some(), "it was done before it could be killed");
        position.filter(|position| *position > 0)
    })
    .await;
    first.kill9();
    // The other node may not go on before the lease has run out.
    let (build, reached) = filled(&database).await.expect("it was done before it could be killed");
    assert!((1..end).contains(&reached), "{reached}");
    let after = agents(&there).await;
    assert_eq!(after["holder"], rebuilds, "the lease of the killed node still stands");
    let after = eventually("the other node has rebuilt it", async || {
        let agents = agents(&there).await;
        let reached_then = agents["rebuild"]["position"].as_u64();
        assert!(reached_then.is_none_or(|position| position >= reached), "it began anew: {agents}");
        (agents["rebuild"].is_null() && agents["state"] == "live" && agents["lag"] == 0).then_some(agents)
    })
    .await;
    assert!(after["holder"].is_string() && after["holder"] != rebuilds, "{after}");
    let head = there.head().await;
    views_reach(&there, head).await;
    let stopped = second.stop();
    let sql = "SELECT build FROM SCHEMA.tables WHERE name = 'agents' AND state = 'live'";
    let sql = sql.replace("SCHEMA", &format!("{}_views", database.instance));
    assert_eq!(database.stranger().await.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0), build);
    diagnose(stopped.launch()).expect_equal(head);
}

/// As a restored older dump of the log's schema leaves it: the newest events are gone, what followed them is not.
async fn set_back(database: &Database, to: u64) {
    let sql = format!(
        "ALTER TABLE events DISABLE TRIGGER events_are_never_changed; DELETE FROM events WHERE position > {to}; \
         ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_changed"
    );
    database.stranger().await.batch_execute(&sql).await.unwrap();
}

/// As a log that went on after it was set back: it has grown past where others had followed it.
#[tokio::test]
async fn a_log_in_the_database_that_tells_other_events_stops_the_start() {
    let database = Database::shared();
    let server = first_node(&database);
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    let kept = admin.head().await;
    admin.task_done(&agent, json!("marker")).await;
    let head = admin.head().await;
    views_reach(&admin, head).await;
    let stopped = server.stop();
    set_back(&database, kept).await;
    let grown = format!(
        "INSERT INTO events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id, \
             command_id, command_index, recorded_at) \
         SELECT place, aggregate_type, gen_random_uuid(), 1, event_type, event_version, payload, metadata, gen_random_uuid(), \
             gen_random_uuid(), 0, recorded_at \
         FROM events, generate_series({kept} + 1, {head} + 5) AS place WHERE position = {kept}"
    );
    database.stranger().await.batch_execute(&grown).await.unwrap();
    let refused = stopped.launch().run(&["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("position {head} (")) && said.contains("holds another event there"), "{said}");
}

#[tokio::test]
async fn a_log_in_the_database_that_was_set_back_stops_the_start_until_it_is_accepted() {
    let database = Database::shared();
    let server = first_node(&database);
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.schedule(&agent).await;
    let kept = admin.head().await;
    for marker in 0..3 {
        admin.task_done(&agent, json!({ "marker": marker })).await;
    }
    views_reach(&admin, admin.head().await).await;
    let stopped = server.stop();
    set_back(&database, kept).await;
    let refused = stopped.launch().run(&["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let (followed, ends) =
        ("the store of views has followed the log to position ", format!("but the log ends at {kept}:"));
    assert!(said.contains(followed) && said.contains(&ends), "{said}");
    assert!(said.contains("`marvin doctor --accept-rollback`"), "{said}");
    let accepted = stopped.launch().run(&["doctor", "--accept-rollback"]);
    let said = String::from_utf8(accepted.stdout).unwrap();
    assert!(accepted.status.success() && said.contains(&format!("behind position {kept}")), "{said}");
    let server = stopped.start();
    let admin = admin.at(&server);
    assert!(admin.get_at("/api/v1/tasks", kept).await.expect(200).items().is_empty());
    admin.task_done(&agent, json!({ "marker": 9 })).await;
    let head = admin.head().await;
    views_reach(&admin, head).await;
    diagnose(server.stop().launch()).expect_equal(head);
}
