//! Schedules: made, refused with pointers, changed, paused, resumed, triggered, fired, removed.
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Launch, Server, eventually};

const NEVER_HERE: &str = "0 0 1 1 *";

async fn agent(admin: &Client) -> String {
    admin.agent("rules", json!({ "rules": [] })).await
}

/// An agent whose tasks fail at their first attempt.
async fn failing(admin: &Client) -> String {
    let rule = json!({ "name": "r", "when": "input.missing > 1", "then": [] });
    let body =
        json!({ "name": "Failing", "kind": "rules", "config": { "rules": [rule] }, "limits": { "max_attempts": 1 } });
    admin.post("/api/v1/agents", &body).await.expect(201).id()
}

fn body(agent: &str) -> Value {
    json!({ "name": "Count", "agent_id": agent, "input": { "count": 1 }, "cron": NEVER_HERE })
}

fn with(agent: &str, field: &str, value: Value) -> Value {
    let mut body = body(agent);
    body[field] = value;
    body
}

fn without_cron(agent: &str) -> Value {
    let mut body = body(agent);
    body.as_object_mut().unwrap().remove("cron");
    body
}

fn in_a_while(ms: i64) -> String {
    (Utc::now() + Duration::milliseconds(ms)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn made(person: &Client, body: &Value) -> String {
    person.post("/api/v1/schedules", body).await.expect(201).id()
}

/// The schedule once it is as `is` wants it.
async fn until(person: &Client, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/api/v1/schedules/{id}");
    eventually(what, async || {
        let answer = person.get(&path).await;
        (answer.status == 200).then(|| answer.json()).filter(|schedule| is(schedule))
    })
    .await
}

async fn history(person: &Client, id: &str) -> Vec<Value> {
    let history = person.get(&format!("/api/v1/schedules/{id}/history")).await.expect(200).json();
    history.as_array().unwrap().clone()
}

fn types(history: &[Value]) -> Vec<&str> {
    history.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_made_schedule_is_shown_with_what_it_did_not_name_and_its_next_runs() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = agent(&admin).await;
    let mut wanted = with(&agent, "cron", json!("30 8 * * *"));
    wanted["timezone"] = json!("Europe/Zurich");
    let created = admin.post("/api/v1/schedules", &wanted).await.expect(201);
    assert_eq!(created.header("location"), format!("/api/v1/schedules/{}", created.id()));
    let shown = admin.get_at(created.header("location"), created.position()).await.expect(200);
    assert_eq!(shown.header("etag"), "\"1\"");
    let schedule = shown.json();
    for field in ["name", "agent_id", "input", "cron", "timezone"] {
        assert_eq!(schedule[field], wanted[field], "{field}");
    }
    let usual = json!({ "overlap": "skip", "missed": "one", "jitter_s": 0, "status": "active", "at": null,
        "paused_reason": null, "last_fired_at": null, "last_task_id": null, "failures": 0, "queued": 0 });
    for (field, value) in usual.as_object().unwrap() {
        assert_eq!(&schedule[field], value, "{field}");
    }
    assert_eq!(schedule["owner"], admin.user_id());
    let runs: Vec<DateTime<Utc>> =
        schedule["next_runs"].as_array().unwrap().iter().map(|run| run.as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(runs.len(), 5);
    assert!(runs.is_sorted() && runs[0] > Utc::now() && runs[0] - Utc::now() <= Duration::hours(25));
    for query in ["", "?status=active", &format!("?agent_id={agent}")] {
        assert_eq!(
            admin.get(&format!("/api/v1/schedules{query}")).await.expect(200).items(),
            std::slice::from_ref(&schedule)
        );
    }
    assert_eq!(admin.get("/api/v1/schedules?status=paused").await.expect(200).items(), Vec::<Value>::new());
}

#[tokio::test]
async fn each_refused_value_is_pointed_at_and_nothing_is_made() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (agent, retired) = (agent(&admin).await, agent(&admin).await);
    let insight = admin.agent("insight", json!({})).await;
    admin.delete(&format!("/api/v1/agents/{retired}")).await.expect(200);
    let head = admin.head().await;
    let moment = |at: &str| {
        let mut body = without_cron(&agent);
        body["at"] = json!(at);
        body
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (with(&agent, "cron", json!("c".repeat(100_000))), vec!["/cron"]),
        (with(&agent, "cron", json!("0 0 30 2 *")), vec!["/cron"]),
        (with(&agent, "cron", json!("* * * * * *")), vec!["/cron"]),
        (with(&agent, "cron", json!("@daily")), vec!["/cron"]),
        (with(&agent, "cron", json!("61 * * * *")), vec!["/cron"]),
        (with(&agent, "cron", json!("")), vec!["/cron"]),
        (with(&agent, "cron", json!("* * * * *\0")), vec!["/cron"]),
        (with(&agent, "timezone", json!("Mars/Olympus")), vec!["/timezone"]),
        (with(&agent, "timezone", json!("z".repeat(100_000))), vec!["/timezone"]),
        (with(&agent, "at", json!(in_a_while(60_000))), vec!["/at"]),
        (without_cron(&agent), vec!["/cron"]),
        (moment("2020-01-01T00:00:00Z"), vec!["/at"]),
        (moment("9999-12-31T23:59:59Z"), vec!["/at"]),
        (with(&agent, "jitter_s", json!(3_601)), vec!["/jitter_s"]),
        (with(&agent, "name", json!(" ")), vec!["/name"]),
        (with(&agent, "name", json!("n".repeat(100_000))), vec!["/name"]),
        (with(&agent, "agent_id", json!(uuid::Uuid::now_v7())), vec!["/agent_id"]),
        (with(&agent, "agent_id", json!(retired)), vec!["/agent_id"]),
        (with(&insight, "input", json!({ "values": [1] })), vec!["/input/values"]),
        (with(&insight, "input", json!({ "values": [1], "horizon": 0 })), vec!["/input/values", "/input/horizon"]),
    ];
    for (body, pointers) in cases {
        let refused = admin.post("/api/v1/schedules", &body).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), pointers, "{body}");
    }
    for body in [
        json!({}),
        with(&agent, "colour", json!("red")),
        with(&agent, "agent_id", json!("x")),
        with(&agent, "cron", json!(5)),
        with(&agent, "overlap", json!("twice")),
        with(&agent, "missed", json!(null)),
        with(&agent, "jitter_s", json!(-1)),
        with(&agent, "timezone", json!(["UTC"])),
        moment("tomorrow"),
        moment("2031-02-30T00:00:00Z"),
    ] {
        admin.post("/api/v1/schedules", &body).await.problem(400);
    }
    let huge = with(&agent, "input", json!("x".repeat(1024 * 1024)));
    admin.post("/api/v1/schedules", &huge).await.problem(413);
    assert_eq!(admin.head().await, head);
}

#[tokio::test]
async fn a_schedule_is_made_once_under_a_key_though_its_moment_has_passed() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let mut body = without_cron(&agent(&admin).await);
    body["at"] = json!(in_a_while(1_000));
    let first = admin.post_keyed("/api/v1/schedules", "k1", &body).await.expect(201);
    until(&admin, &first.id(), "it has fired", |schedule| schedule["status"] == "ended").await;
    assert_eq!(admin.post_keyed("/api/v1/schedules", "k1", &body).await.expect(201).json(), first.json());
    body["name"] = json!("Another");
    admin.post_keyed("/api/v1/schedules", "k1", &body).await.problem(422);
    assert_eq!(admin.get("/api/v1/schedules").await.expect(200).items().len(), 1);
}

#[tokio::test]
async fn at_its_moment_a_schedule_gives_its_owners_task_to_the_agent_once() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (operator, agent) = (admin.colleague("op", &["operator"]).await, agent(&admin).await);
    let mut body = without_cron(&agent);
    body["at"] = json!(in_a_while(700));
    let id = made(&operator, &body).await;
    let fired = until(&operator, &id, "it has fired", |schedule| schedule["last_task_id"].is_string()).await;
    let ended = (&fired["status"], &fired["next_runs"], &fired["last_outcome"]);
    assert_eq!(ended, (&json!("ended"), &json!([]), &json!("submitted")));
    let task = operator.task_ended(fired["last_task_id"].as_str().unwrap()).await;
    assert_eq!((&task["status"], &task["input"]), (&json!("completed"), &body["input"]));
    assert_eq!((task["requested_by"].as_str(), task["agent_id"].as_str()), (Some(operator.user_id()), Some(&*agent)));
    assert_eq!(operator.get("/api/v1/tasks").await.expect(200).items().len(), 1);
    until(&operator, &id, "the end is heard of", |schedule| schedule["open_tasks"] == 0).await;
    let history = history(&operator, &id).await;
    let expected = ["created", "fired", "task_ended"].map(|name| format!("marvin.schedule.{name}.v1"));
    assert_eq!(types(&history), expected);
    let facts = &history[1]["data"]["facts"];
    assert_eq!(facts["planned_at"], body["at"]);
    assert_eq!(facts["outcome"]["submitted"]["task_id"], fired["last_task_id"]);
}

#[tokio::test]
async fn a_moment_at_which_the_server_was_killed_fires_once_after_the_start() {
    let server = Launch::with_admin().start();
    let admin = Client::admin(&server).await;
    let agent = agent(&admin).await;
    let mut schedules = Vec::new();
    for ms in [300, 600, 900, 1_200] {
        let mut body = without_cron(&agent);
        body["at"] = json!(in_a_while(ms));
        schedules.push(made(&admin, &body).await);
    }
    until(&admin, &schedules[0], "the first has fired", |schedule| schedule["status"] == "ended").await;
    let server = server.kill9().start();
    let admin = admin.at(&server);
    for id in &schedules {
        let schedule = until(&admin, id, "it has fired", |schedule| schedule["last_task_id"].is_string()).await;
        admin.task_ended(schedule["last_task_id"].as_str().unwrap()).await;
        let history = history(&admin, id).await;
        assert_eq!(types(&history).iter().filter(|kind| kind.contains(".fired.")).count(), 1);
    }
    assert_eq!(admin.get("/api/v1/tasks").await.expect(200).items().len(), schedules.len());
}

#[tokio::test]
async fn a_trigger_fires_now_and_under_a_key_once() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let id = made(&admin, &body(&agent(&admin).await)).await;
    let path = format!("/api/v1/schedules/{id}/trigger");
    let key = |key: &str| admin.request(Method::POST, &path).header("idempotency-key", key);
    let first = admin.send(key("now")).await.expect(200);
    assert_eq!(first.id(), id);
    assert_eq!(admin.send(key("now")).await.expect(200).json(), first.json());
    let schedule = until(&admin, &id, "it has fired", |schedule| schedule["last_task_id"].is_string()).await;
    assert_eq!(schedule["status"], "active");
    admin.task_ended(schedule["last_task_id"].as_str().unwrap()).await;
    assert_eq!(admin.get("/api/v1/tasks").await.expect(200).items().len(), 1);
    // Also while it is paused, and whoever asks: the task is the owner's.
    admin.order(&format!("/api/v1/schedules/{id}/pause")).await.expect(200);
    let operator = admin.colleague("op", &["operator"]).await;
    operator.order(&path).await.expect(200);
    let tasks = eventually("the task is there", async || {
        let tasks = admin.get("/api/v1/tasks").await.expect(200).items();
        (tasks.len() == 2).then_some(tasks)
    })
    .await;
    assert!(tasks.iter().all(|task| task["requested_by"] == admin.user_id()));
}

#[tokio::test]
async fn a_trigger_is_refused_where_a_task_would_be() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = agent(&admin).await;
    let id = made(&admin, &body(&agent)).await;
    admin.delete(&format!("/api/v1/agents/{agent}")).await.expect(200);
    let head = admin.head().await;
    admin.order(&format!("/api/v1/schedules/{id}/trigger")).await.problem(422);
    assert_eq!(admin.head().await, head);
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_and_repeating_it_appends_nothing() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = agent(&admin).await;
    let path = format!("/api/v1/schedules/{}", made(&admin, &body(&agent)).await);
    let change = json!({ "name": "Other", "timezone": "Asia/Tokyo", "overlap": "queue", "input": null });
    let changed = admin.patch(&path, &change).await.expect(200);
    let shown = admin.get_at(&path, changed.position()).await.expect(200).json();
    let fields =
        (&shown["name"], &shown["timezone"], &shown["overlap"], &shown["cron"], &shown["missed"], &shown["input"]);
    let expected = ["Other", "Asia/Tokyo", "queue", NEVER_HERE, "one"].map(|text| json!(text));
    assert_eq!(fields, (&expected[0], &expected[1], &expected[2], &expected[3], &expected[4], &Value::Null));
    assert!(shown["next_runs"][0].as_str().unwrap().ends_with("-12-31T15:00:00.000Z"), "{}", shown["next_runs"]);
    let again = json!({ "timezone": "Asia/Tokyo", "overlap": "queue", "cron": NEVER_HERE, "agent_id": agent });
    assert_eq!(admin.patch(&path, &again).await.expect(200).json(), changed.json());
    for (refused, pointer) in [
        (json!({ "cron": "x" }), "/cron"),
        (json!({ "cron": "* * * * *", "at": in_a_while(60_000) }), "/at"),
        (json!({ "timezone": "" }), "/timezone"),
        (json!({ "at": "2020-01-01T00:00:00Z" }), "/at"),
        (json!({ "name": "" }), "/name"),
        (json!({ "agent_id": uuid::Uuid::now_v7() }), "/agent_id"),
        (json!({ "jitter_s": 4_000 }), "/jitter_s"),
    ] {
        let answer = admin.patch(&path, &refused).await;
        answer.problem(422);
        assert_eq!(answer.pointers(), [pointer], "{refused}");
    }
    admin.patch(&path, &json!({ "owner": admin.user_id() })).await.problem(400);
    let stale = admin.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&json!({ "jitter_s": 5 }));
    admin.send(stale).await.problem(412);
    let fresh =
        admin.request(Method::PATCH, &path).header("if-match", changed.header("etag")).json(&json!({ "jitter_s": 5 }));
    admin.send(fresh).await.expect(200);
}

#[tokio::test]
async fn a_paused_schedule_plans_nothing_until_it_is_resumed() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let id = made(&admin, &body(&agent(&admin).await)).await;
    let path = format!("/api/v1/schedules/{id}");
    let paused = admin.order(&format!("{path}/pause")).await.expect(200);
    assert_eq!(admin.order(&format!("{path}/pause")).await.expect(200).json(), paused.json(), "paused already");
    let shown = admin.get_at(&path, paused.position()).await.expect(200).json();
    let fields = (&shown["status"], &shown["paused_reason"], &shown["next_runs"]);
    assert_eq!(fields, (&json!("paused"), &json!("requested"), &json!([])));
    let resumed = admin.order(&format!("{path}/resume")).await.expect(200);
    let shown = admin.get_at(&path, resumed.position()).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["paused_reason"]), (&json!("active"), &Value::Null));
    assert_eq!(shown["next_runs"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_removed_schedule_is_gone_and_its_history_stays() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let mut body = without_cron(&agent(&admin).await);
    body["at"] = json!(in_a_while(1_500));
    let id = made(&admin, &body).await;
    let path = format!("/api/v1/schedules/{id}");
    let stale = admin.request(Method::DELETE, &path).header("if-match", "\"2\"");
    admin.send(stale).await.problem(412);
    let removed = admin.delete(&path).await.expect(200);
    assert_eq!(admin.delete(&path).await.expect(200).json(), removed.json(), "removed already");
    admin.get_at(&path, removed.position()).await.problem(404);
    assert_eq!(admin.get("/api/v1/schedules").await.expect(200).items(), Vec::<Value>::new());
    for call in ["pause", "resume", "trigger"] {
        admin.order(&format!("{path}/{call}")).await.problem(404);
    }
    admin.patch(&path, &json!({ "name": "X" })).await.problem(404);
    assert_eq!(types(&history(&admin, &id).await).len(), 2);
    // One that is due behind it has fired, and this one has not.
    body["at"] = json!(in_a_while(1_600));
    let behind = made(&admin, &body).await;
    until(&admin, &behind, "the one behind has fired", |schedule| schedule["status"] == "ended").await;
    assert_eq!(types(&history(&admin, &id).await).len(), 2);
}

#[tokio::test]
async fn what_fails_again_and_again_is_paused_and_its_owner_is_told() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let operator = admin.colleague("op", &["operator"]).await;
    let agent = failing(&admin).await;
    let id = made(&operator, &body(&agent)).await;
    let trigger = format!("/api/v1/schedules/{id}/trigger");
    for failures in 1..=5 {
        operator.order(&trigger).await.expect(200);
        until(&operator, &id, "the failure counts", |schedule| schedule["failures"] == failures).await;
    }
    let paused = until(&operator, &id, "it is paused", |schedule| schedule["status"] == "paused").await;
    assert_eq!(paused["paused_reason"], "repeated_failure");
    let told = eventually("the owner is told", async || {
        let inbox = operator.get("/api/v1/notifications").await.expect(200).items();
        inbox.into_iter().find(|told| told["link"]["kind"] == "schedule")
    })
    .await;
    assert_eq!((&told["severity"], &told["link"]["id"]), (&json!("critical"), &json!(id)));
    assert_eq!(told["title"], "Your schedule for Failing was paused");
    let resumed = operator.order(&format!("/api/v1/schedules/{id}/resume")).await.expect(200);
    let shown = operator.get_at(&format!("/api/v1/schedules/{id}"), resumed.position()).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["failures"]), (&json!("active"), &json!(0)));
}

#[tokio::test]
async fn the_owners_words_are_for_who_may_read_them_and_the_owner_alone_changes_them() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (ann, bob) = (admin.colleague("ann", &["operator"]).await, admin.colleague("bob", &["operator"]).await);
    let (auditor, member) = (admin.colleague("au", &["auditor"]).await, admin.colleague("me", &["member"]).await);
    let id = made(&ann, &body(&agent(&admin).await)).await;
    let path = format!("/api/v1/schedules/{id}");
    for (reader, name) in
        [(&ann, json!("Count")), (&admin, json!("Count")), (&auditor, json!("Count")), (&bob, Value::Null)]
    {
        let shown = until(reader, &id, "it is shown", |_| true).await;
        assert_eq!((&shown["name"], shown["input"].is_null()), (&name, name.is_null()));
        let personal = history(reader, &id).await[0]["data"].get("personal").map(|words| words["name"].clone());
        assert_eq!(personal.unwrap_or_default(), name);
    }
    bob.patch(&path, &json!({ "name": "Mine" })).await.problem(403);
    bob.patch(&path, &json!({ "input": 1 })).await.problem(403);
    let changed = bob.patch(&path, &json!({ "jitter_s": 5 })).await.expect(200).position();
    // A member sees nothing of it, in the log either.
    let query = format!("/api/v1/events?types=schedule.created,schedule.changed&subject=schedule/{id}");
    for (reader, seen) in [(&member, 0), (&bob, 2), (&ann, 2)] {
        let events = reader.get_at(&query, changed).await.expect(200).json();
        assert_eq!(events.as_array().unwrap().len(), seen);
    }
}

#[tokio::test]
async fn the_schedules_of_an_erased_person_end_and_their_words_are_gone() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (operator, agent) = (admin.colleague("op", &["operator"]).await, agent(&admin).await);
    let (theirs, mine) = (made(&operator, &body(&agent)).await, made(&admin, &body(&agent)).await);
    admin.delete(&format!("/api/v1/users/{}", operator.user_id())).await.expect(200);
    // A view that has not heard of either yet has nothing to list.
    eventually("only theirs is gone", async || {
        let left = admin.get("/api/v1/schedules").await.expect(200).items();
        let left: Vec<_> = left.iter().map(|schedule| schedule["id"].as_str().unwrap()).collect();
        (left == [mine.as_str()]).then_some(())
    })
    .await;
    admin.get(&format!("/api/v1/schedules/{theirs}")).await.problem(404);
    let history = history(&admin, &theirs).await;
    assert_eq!(history[1]["data"]["facts"]["reason"], "owner_erased");
    assert_eq!((&history[0]["data"]["personal"], &history[0]["data"]["erased"]), (&Value::Null, &json!(true)));
}

/// The example of `docs/schedules.md`, as somebody would type it.
#[tokio::test]
async fn the_example_of_the_documentation_makes_a_schedule() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = agent(&admin).await;
    let page = include_str!("../../docs/schedules.md");
    let example = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", example]).env("MARVIN", admin.url()).env("COOKIE", admin.cookie());
    let output = shell.env("CSRF", admin.csrf()).env("AGENT", &agent).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let schedule = until(&admin, answer["id"].as_str().unwrap(), "it is shown", |_| true).await;
    assert_eq!((&schedule["name"], &schedule["timezone"]), (&json!("Orders of the week"), &json!("Europe/Zurich")));
}
