//! The log, pulled: gapless pages, filters, CloudEvents, and who sees what.
use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::support::{Answer, Client, Server, eventually};

const TYPE: &str = "application/cloudevents-batch+json";

fn events(answer: &Answer) -> Vec<Value> {
    answer.json().as_array().unwrap().clone()
}

fn position(event: &Value) -> u64 {
    event["position"].as_str().unwrap().parse().unwrap()
}

fn next(answer: &Answer) -> Option<String> {
    let (path, rel) = answer.header("link").split_once('>')?;
    assert_eq!(rel, "; rel=\"next\"");
    Some(path.trim_start_matches('<').to_owned())
}

/// All pages from `path` on, following the links to where the log ends now.
async fn walk(client: &Client, path: &str) -> Vec<Value> {
    let (mut walked, mut path, head) = (Vec::new(), path.to_owned(), client.head().await);
    loop {
        let page = client.get_at(&path, head).await.expect(200);
        assert_eq!(page.header("content-type"), TYPE);
        walked.extend(events(&page));
        let Some(next) = next(&page) else { return walked };
        assert_ne!(next, path, "each page goes on");
        path = next;
    }
}

/// A log with all kinds of events in it, and everything in it done.
async fn busy(admin: &Client) -> (Client, String) {
    let then = json!([
        { "notify": { "to": "requester", "severity": "info", "title": "T", "body": "{{ input.words }}" } },
        { "output": "{{ input.words }}" },
    ]);
    let config = json!({ "rules": [{ "name": "r", "when": "true", "then": then }] });
    let agent = admin.agent("rules", config).await;
    let ann = admin.colleague("ann", &["member"]).await;
    for number in 0..4 {
        admin.task_done(&agent, json!({ "words": format!("admin's {number}") })).await;
        ann.task_done(&agent, json!({ "words": format!("ann's {number}") })).await;
    }
    ann.task_done(&agent, json!({})).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    for (person, count) in [(admin, 8), (&ann, 9)] {
        eventually("all notifications are raised", async || {
            (person.get("/api/v1/notifications").await.expect(200).items().len() == count).then_some(())
        })
        .await;
    }
    (ann, agent)
}

#[tokio::test]
async fn pages_with_their_links_walk_every_position_once_whatever_their_size() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    busy(&admin).await;
    let head = admin.head().await;
    for limit in [1, 7, 100, 1000] {
        let walked = walk(&admin, &format!("/api/v1/events?limit={limit}")).await;
        let positions: Vec<u64> = walked.iter().map(position).collect();
        assert_eq!(positions, (1..=head).collect::<Vec<_>>(), "pages of {limit}");
    }
    let page = admin.get(&format!("/api/v1/events?after={}&limit=2", head - 3)).await.expect(200);
    assert_eq!((events(&page).len(), page.position()), (2, head - 1));
    let last = admin.get(&next(&page).unwrap()).await.expect(200);
    assert_eq!((events(&last).len(), last.position(), last.header("link")), (1, head, ""));
}

#[tokio::test]
async fn each_stream_counts_its_own_events_without_a_gap() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    busy(&admin).await;
    let mut sequences = std::collections::BTreeMap::<String, u64>::new();
    for event in walk(&admin, "/api/v1/events").await {
        let last = sequences.entry(event["subject"].as_str().unwrap().to_owned()).or_default();
        *last += 1;
        assert_eq!(event["sequence"], last.to_string(), "{event}");
    }
    assert!(sequences.len() > 10);
}

#[tokio::test]
async fn an_event_is_a_cloud_event_with_its_place_cause_and_actor() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (_, agent) = busy(&admin).await;
    let all = walk(&admin, "/api/v1/events").await;
    let instance = server.launch().database().map_or("marvin".to_owned(), |database| database.instance);
    let source = format!("/marvin/{instance}");
    let mut ids = BTreeSet::new();
    for event in &all {
        assert_eq!((&event["specversion"], &event["source"]), (&json!("1.0"), &json!(source)));
        assert_eq!(event["datacontenttype"], "application/json");
        let name: Vec<&str> = event["type"].as_str().unwrap().split('.').collect();
        let (kind, id) = event["subject"].as_str().unwrap().split_once('/').unwrap();
        assert!(name.len() == 4 && name[0] == "marvin" && name[1] == kind && name[3] == "v1", "{event}");
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{event}");
        assert!(ids.insert(event["id"].as_str().unwrap()), "ids are unique");
        let time = event["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time} has milliseconds in UTC");
        assert!(event["data"]["facts"].is_object() && event["correlationid"].is_string(), "{event}");
        for (name, value) in event.as_object().unwrap().iter().filter(|(name, _)| *name != "data") {
            assert!(value.is_string() && name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name} of {event}");
        }
    }
    assert!(all.windows(2).all(|pair| pair[0]["time"].as_str() <= pair[1]["time"].as_str()), "time never goes back");
    let of = |name: &str| all.iter().find(|event| event["type"] == format!("marvin.{name}.v1")).unwrap();
    let (submitted, completed, raised) = (of("task.submitted"), of("task.completed"), of("notification.raised"));
    assert_eq!(submitted["actor"], format!("user/{}", admin.user_id()));
    assert_eq!(completed["actor"], format!("agent/{agent}"));
    assert_eq!(of("instance.set_up")["actor"], "system");
    assert_eq!(completed["correlationid"], submitted["correlationid"], "one chain, one correlation");
    assert_eq!(raised["correlationid"], submitted["correlationid"]);
    assert!(ids.contains(completed["causationid"].as_str().unwrap()), "the cause is an event of this log");
    assert!(submitted.get("causationid").is_none(), "a person's command has no event behind it");
}

#[tokio::test]
async fn filters_keep_what_they_name_and_pages_of_them_reach_the_head() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (ann, agent) = busy(&admin).await;
    let all = walk(&admin, "/api/v1/events").await;
    let wanted = |keep: &dyn Fn(&Value) -> bool| all.iter().filter(|event| keep(event)).cloned().collect::<Vec<_>>();
    let is = |event: &Value, names: &[&str]| names.iter().any(|name| event["type"] == format!("marvin.{name}.v1"));
    let middle = all[all.len() / 2]["time"].as_str().unwrap().to_owned();
    let cases: Vec<(String, Vec<Value>)> = vec![
        ("types=task.completed".into(), wanted(&|event| is(event, &["task.completed"]))),
        (
            "types=marvin.task.failed.v1,agent.created".into(),
            wanted(&|event| is(event, &["task.failed", "agent.created"])),
        ),
        ("types=task.forgotten".into(), Vec::new()),
        (format!("subject=agent/{agent}"), wanted(&|event| event["subject"] == format!("agent/{agent}"))),
        (
            format!("subject=user%2F{}", ann.user_id()),
            wanted(&|event| event["subject"] == format!("user/{}", ann.user_id())),
        ),
        (
            "subject=instance/00000000-0000-0000-0000-000000000000".into(),
            wanted(&|event| is(event, &["instance.set_up"])),
        ),
        (format!("from={middle}"), wanted(&|event| event["time"].as_str().unwrap() >= middle.as_str())),
        (format!("to={middle}"), wanted(&|event| event["time"].as_str().unwrap() < middle.as_str())),
        (format!("from={middle}&to={middle}"), Vec::new()),
        (
            format!("types=task.submitted&from={middle}"),
            wanted(&|event| is(event, &["task.submitted"]) && event["time"].as_str().unwrap() >= middle.as_str()),
        ),
    ];
    for (query, wanted) in cases {
        for limit in [1, 1000] {
            let found = walk(&admin, &format!("/api/v1/events?{query}&limit={limit}")).await;
            assert_eq!(found, wanted, "{query}");
        }
    }
}

#[tokio::test]
async fn what_lies_beyond_the_head_and_what_is_no_filter_is_400() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let head = admin.head().await;
    assert_eq!(events(&admin.get(&format!("/api/v1/events?after={head}")).await.expect(200)), Vec::<Value>::new());
    let types = vec!["x"; 101].iter().enumerate().map(|(at, x)| format!("{x}{at}")).collect::<Vec<_>>().join(",");
    for (query, pointer) in [
        (format!("after={}", head + 1), "/after"),
        ("after=-1".into(), "/after"),
        ("after=".into(), "/after"),
        ("limit=0".into(), "/limit"),
        ("limit=1001".into(), "/limit"),
        ("types=".into(), "/types"),
        ("types=task.completed,".into(), "/types"),
        (format!("types={types}"), "/types"),
        ("subject=task".into(), "/subject"),
        ("subject=cat/0190a1b2-7c1e-7d4b-8a55-0123456789ab".into(), "/subject"),
        ("subject=task/latest".into(), "/subject"),
        ("from=yesterday".into(), "/from"),
        ("to=2026-13-01T00:00:00Z".into(), "/to"),
        ("colour=red".into(), "/colour"),
        ("limit=1&limit=2".into(), "/limit"),
    ] {
        let refused = admin.get(&format!("/api/v1/events?{query}")).await;
        refused.problem(400);
        assert_eq!(refused.pointers(), [pointer], "{query}");
        if ["/after", "/types", "/subject", "/colour"].contains(&pointer) {
            let refused = admin.get(&format!("/api/v1/events/stream?{query}")).await;
            refused.problem(400);
        }
    }
    let bad = admin.request(reqwest::Method::GET, "/api/v1/events/stream").header("last-event-id", "x");
    admin.send(bad).await.problem(400);
}

#[tokio::test]
async fn each_role_sees_the_events_and_the_words_that_are_its_to_see() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (ann, _) = busy(&admin).await;
    let (auditor, integrator) =
        (admin.colleague("au", &["auditor"]).await, admin.colleague("in", &["integrator"]).await);
    let operator = admin.colleague("op", &["operator"]).await;
    let all = walk(&admin, "/api/v1/events").await;
    let personal = |event: &Value| event["data"].get("personal").is_some();
    assert_eq!(walk(&auditor, "/api/v1/events").await, all, "an auditor sees what the administrator sees");
    assert!(serde_json::to_string(&all).unwrap().contains("ann's 3"));
    for reader in [&integrator, &operator] {
        let seen = walk(reader, "/api/v1/events").await;
        assert_eq!(seen.iter().map(position).collect::<Vec<_>>(), all.iter().map(position).collect::<Vec<_>>());
        for event in seen.iter().filter(|event| personal(event)) {
            assert_eq!(event["subject"], format!("user/{}", reader.user_id()), "only their own words");
        }
        let text = serde_json::to_string(&seen).unwrap();
        assert!(!text.contains("ann's") && !text.contains("ann@"));
    }
    let seen = walk(&ann, "/api/v1/events").await;
    let own: BTreeSet<String> = ["/api/v1/tasks", "/api/v1/notifications"].map(str::to_owned).into();
    let mut mine = BTreeSet::from([format!("user/{}", ann.user_id())]);
    for list in own {
        let kind = list.trim_start_matches("/api/v1/").trim_end_matches('s').to_owned();
        let items = ann.get(&format!("{list}?limit=200")).await.expect(200).items();
        mine.extend(items.iter().map(|item| format!("{kind}/{}", item["id"].as_str().unwrap())));
    }
    let expected: Vec<_> = all
        .iter()
        .filter(|event| {
            let subject = event["subject"].as_str().unwrap();
            subject.starts_with("agent/") || mine.contains(subject)
        })
        .map(position)
        .collect();
    assert_eq!(seen.iter().map(position).collect::<Vec<_>>(), expected);
    let text = serde_json::to_string(&seen).unwrap();
    assert!(text.contains("ann's 0") && !text.contains("admin's"));
}
