//! How long an attempt outside may take.
use serde_json::json;

use super::{Shop, kind_of};
use crate::support::eventually;

/// Long enough for a lease and a heartbeat on a busy machine.
const TIMEOUT_MS: u64 = 4_000;

/// In a form that the API takes.
fn in_ms(ms: i64) -> String {
    (chrono::Utc::now() + chrono::TimeDelta::milliseconds(ms)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[tokio::test]
async fn an_attempt_that_takes_longer_than_its_agent_allows_ends_however_often_it_is_heard_of() {
    let shop = Shop::open(json!({ "timeout_ms": TIMEOUT_MS, "max_attempts": 1 })).await;
    let task = shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    assert!(leased.told["expires_in_ms"].as_u64().unwrap() <= TIMEOUT_MS);
    let mut left = TIMEOUT_MS;
    let refused = eventually("a heartbeat is refused", async || {
        let answer = shop.heartbeat(&leased).await;
        if answer.status != 200 {
            return Some(answer);
        }
        let now = answer.json()["expires_in_ms"].as_u64().unwrap();
        assert!(now <= left, "{now} after {left}: no heartbeat prolongs an attempt");
        left = now;
        None
    })
    .await;
    assert_eq!(kind_of(&refused, 409), "/problems/late-result");
    let dead = shop.admin.task_ended(&task).await;
    assert_eq!((&dead["status"], &dead["error"]["code"]), (&json!("dead"), &json!("timeout")), "{dead}");
    assert_eq!(kind_of(&shop.complete(&leased, json!(1)).await, 409), "/problems/late-result");
    // Nobody holds the slot any more.
    let next = shop.submit(json!(2)).await;
    assert_eq!(super::lease(&shop.worker, &shop.agent, 1, 30).await[0].task, next);
}

#[tokio::test]
async fn a_deadline_ends_an_attempt_and_there_is_no_other() {
    let shop = Shop::open(json!({})).await;
    let body = json!({ "input": 1, "deadline": in_ms(4_000) });
    let path = format!("/api/v1/agents/{}/tasks", shop.agent);
    let task = shop.admin.post(&path, &body).await.expect(202).id();
    let leased = shop.lease_one().await;
    assert!(leased.told["expires_in_ms"].as_u64().unwrap() <= 4_000);
    let failed = shop.admin.task_ended(&task).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("deadline_passed")));
    assert_eq!(kind_of(&shop.heartbeat(&leased).await, 409), "/problems/late-result");
}

#[tokio::test]
async fn nobody_is_leased_a_task_whose_deadline_has_passed() {
    let shop = Shop::open(json!({})).await;
    let deadline = in_ms(1_500);
    let body = json!({ "input": 1, "deadline": deadline });
    let path = format!("/api/v1/agents/{}/tasks", shop.agent);
    let task = shop.admin.post(&path, &body).await.expect(202).id();
    eventually("the deadline has passed", async || (in_ms(0) > deadline).then_some(())).await;
    assert!(shop.lease(1).await.is_empty());
    let failed = shop.admin.task_ended(&task).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("deadline_passed")));
}
