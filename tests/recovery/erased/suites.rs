//! One log, sealed by two suites: whichever is set now, everything opens.
use rstest::rstest;
use serde_json::json;

use super::{HER_WORDS, Home, Mode, rebuilt, two_people};
use crate::{journal, support::eventually};

/// Where a payload's facts say their suite: behind the payload's head and the format of what is sealed.
const SUITE_AT: usize = 6;
const XCHACHA20POLY1305: u8 = 1;
const AES256GCM: u8 = 2;

#[rstest]
#[case::embedded(Mode::Embedded)]
#[case::postgres(Mode::Postgres)]
#[tokio::test]
async fn what_another_suite_sealed_opens_beside_what_this_one_seals(#[case] mode: Mode) {
    let first = Home::new(mode).await.set("MARVIN_CIPHER", "aes256gcm");
    let (server, admin, her, _him) = two_people(&first).await;
    server.stop();
    let changed = first.head().await;
    let home = first.set("MARVIN_CIPHER", "xchacha20poly1305");
    let server = home.launch.clone().start();
    let (admin, client) = (admin.at(&server), her.client.at(&server));
    // On a stream that the other suite began, and on a new one.
    client.order(&format!("/api/v1/tasks/{}/cancel", her.waiting)).await.expect(200);
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let fresh = client.task_done(&agent, json!({ "text": HER_WORDS })).await["id"].as_str().unwrap().to_owned();
    let (server, admin) = rebuilt(&home, server.stop(), &admin).await;
    for id in [&her.done, &her.failed, &her.waiting, &fresh] {
        let task = admin.get(&format!("/api/v1/tasks/{id}")).await.expect(200).json();
        assert_eq!(task["input"]["text"], HER_WORDS);
    }
    let mut events = Vec::new();
    journal::read_on(&admin, &mut events).await;
    journal::check_contiguous(&events);
    let suite = |position: u64| if position <= changed { AES256GCM } else { XCHACHA20POLY1305 };
    for event in &events {
        assert_eq!(home.payload(event.position).await[SUITE_AT], suite(event.position));
        let written = ["user.registered", "task.submitted", "task.completed", "notification.raised"];
        assert!(!written.contains(&&*event.kind) || event.personal.is_object(), "{event:?}");
    }
    eventually("nothing is stuck", async || {
        (admin.get("/readyz").await.expect(200).json()["degraded"] == json!([])).then_some(())
    })
    .await;
    drop(server);
}
