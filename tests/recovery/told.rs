//! What is told of data that nobody can read: where they are and what is wrong, and never a word of them.
use marvin::health::REASON_CHARS_MAX;
use rstest::rstest;
use serde_json::json;

use super::{
    doctor::diagnose,
    kills::views_reach,
    planting::{Unreadable, WORDS, plant_unreadable},
    support::{Client, Launch, Server, eventually},
};

/// A stopped server with a task that no worker takes; another one follows it in the log.
async fn house() -> (Launch, Client, String) {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let task = admin.submit(&agent, json!({})).await.id();
    admin.submit(&agent, json!({})).await;
    views_reach(&admin, admin.head().await).await;
    (server.stop().launch().clone(), admin, task)
}

#[rstest]
#[case(Unreadable::EventFacts, "a value is not of the form that is expected at line 1, column 24")]
#[case(Unreadable::EventPersonal, "a value is not of the form that is expected at line 1, column 24")]
#[case(
    Unreadable::EventMetadata,
    "its metadata do not fit: a value is not of the form that is expected at line 1, column"
)]
#[case(Unreadable::EventType, "unknown event task.xxx")]
#[case(Unreadable::DocumentFacts, "a value is not of the form that is expected at line 1, column 24")]
#[case(Unreadable::DocumentPersonal, "a value is not of the form that is expected at line 1, column 24")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_told_of_it_quotes_what_somebody_wrote(#[case] what: Unreadable, #[case] reason: &str) {
    let (launch, admin, task) = house().await;
    plant_unreadable(&launch, task.parse().unwrap(), admin.user_id().parse().unwrap(), what).await;
    let server = launch.clone().start();
    let admin = admin.at(&server);
    let mut answers = Vec::new();
    for path in [format!("/api/v1/tasks/{task}"), "/api/v1/tasks".into(), "/api/v1/events?limit=200".into()] {
        answers.push(admin.get(&path).await);
    }
    // Where a document is unreadable, no projector needs it before this.
    answers.push(admin.order(&format!("/api/v1/tasks/{task}/cancel")).await);
    let tasks = eventually("the tasks are stopped", async || {
        let tasks = admin.get("/api/v1/projections/tasks").await.expect(200);
        (tasks.json()["state"] == "stopped").then_some(tasks)
    })
    .await;
    let stopped = tasks.json()["stopped"]["reason"].as_str().unwrap().to_owned();
    assert!(stopped.contains(reason), "{stopped}");
    let ready = admin.get("/readyz").await.expect(200);
    assert!(String::from_utf8_lossy(&ready.body).contains(reason), "{ready:?}");
    answers.extend([tasks, ready, admin.get("/api/v1/projections").await]);
    let mut told: Vec<_> = answers.iter().map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).collect();
    let rebuilt = launch.run(&["rebuild", "tasks"]);
    for output in [rebuilt.stdout, rebuilt.stderr] {
        told.push(String::from_utf8(output).unwrap());
    }
    told.push(diagnose(&launch).text);
    told.push(server.log());
    assert!(told.last().unwrap().contains(reason));
    for text in told {
        assert!(!text.contains(WORDS), "{text}");
        assert!(!text.contains(&"x".repeat(REASON_CHARS_MAX + 1)), "{text}");
    }
}
