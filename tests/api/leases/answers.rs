//! How attempts end: completed once, failed and tried again, cancelled under the worker's hands.
use serde_json::{Value, json};

use super::{Shop, kind_of};

#[tokio::test]
async fn a_result_that_is_sent_again_is_answered_as_at_first_and_another_one_is_late() {
    let shop = Shop::open(json!({})).await;
    shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    let first = shop.complete(&leased, json!({ "a": 1, "b": [2] })).await.expect(200);
    // The order of fields says nothing.
    for output in [json!({ "a": 1, "b": [2] }), json!({ "b": [2], "a": 1 })] {
        assert_eq!(shop.complete(&leased, output).await.expect(200).json(), first.json());
    }
    assert_eq!(kind_of(&shop.complete(&leased, json!({ "a": 2 })).await, 409), "/problems/late-result");
    assert_eq!(kind_of(&shop.fail(&leased, true).await, 409), "/problems/late-result");
    assert_eq!(kind_of(&shop.heartbeat(&leased).await, 409), "/problems/late-result");
    assert_eq!(
        shop.admin.get(&format!("/api/v1/tasks/{}", leased.task)).await.json()["output"],
        json!({ "a": 1, "b": [2] })
    );
    assert_eq!(shop.history(&leased.task).await.len(), 3);
}

#[tokio::test]
async fn a_result_may_carry_an_idempotency_key_like_any_other_command() {
    let shop = Shop::open(json!({})).await;
    shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    let path = format!("/api/v1/tasks/{}/complete", leased.task);
    let body = |output| json!({ "lease": leased.lease, "output": output });
    let first = shop.worker.post_keyed(&path, "result-1", &body(1)).await.expect(200);
    assert_eq!(shop.worker.post_keyed(&path, "result-1", &body(1)).await.expect(200).json(), first.json());
    shop.worker.post_keyed(&path, "result-1", &body(2)).await.problem(422);
    shop.worker.post_keyed(&path, "result-2", &body(1)).await.problem(409);
}

#[tokio::test]
async fn a_failure_that_may_pass_leads_to_another_attempt_until_there_are_none_left() {
    let shop = Shop::open(json!({ "max_attempts": 2, "backoff_initial_ms": 1, "backoff_max_ms": 1 })).await;
    let task = shop.submit(json!(1)).await;
    let first = shop.lease_one().await;
    let failed = shop.fail(&first, true).await.expect(200);
    let waiting = shop.admin.get_at(&format!("/api/v1/tasks/{task}"), failed.position()).await.expect(200).json();
    assert_eq!(waiting["status"], "retrying");
    assert_eq!(waiting["error"], json!({ "code": "no_luck", "message": "It rains" }));
    let second = super::lease(&shop.worker, &shop.agent, 1, 30).await.remove(0);
    assert_eq!((&second.task, &second.told["task"]["attempt"]), (&task, &json!(2)));
    // The first lease has said what it had to say, and may say that again.
    assert_eq!(shop.fail(&first, true).await.expect(200).json(), failed.json());
    assert_eq!(kind_of(&shop.complete(&first, json!(1)).await, 409), "/problems/late-result");
    let last = shop.fail(&second, true).await.expect(200);
    let dead = shop.admin.get_at(&format!("/api/v1/tasks/{task}"), last.position()).await.expect(200).json();
    assert_eq!((&dead["status"], &dead["error"]["code"]), (&json!("dead"), &json!("no_luck")));
    assert!(shop.lease(1).await.is_empty());
}

#[tokio::test]
async fn a_failure_that_lasts_fails_the_task_in_the_workers_words() {
    let shop = Shop::open(json!({})).await;
    let task = shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    let failed = shop.fail(&leased, false).await.expect(200);
    let shown = shop.admin.get_at(&format!("/api/v1/tasks/{task}"), failed.position()).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["attempt"]), (&json!("failed"), &json!(1)));
    assert_eq!(shown["error"], json!({ "code": "no_luck", "message": "It rains" }));
    let retried = shop.admin.order(&format!("/api/v1/tasks/{task}/retry")).await.expect(200);
    assert!(retried.position() > failed.position());
    assert_eq!(shop.lease_one().await.told["task"]["attempt"], 2);
}

#[tokio::test]
async fn a_worker_is_told_that_its_task_was_cancelled_and_then_its_slot_is_free() {
    let shop = Shop::open(json!({ "max_concurrency": 1 })).await;
    let task = shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    let next = shop.submit(json!(2)).await;
    shop.admin.order(&format!("/api/v1/tasks/{task}/cancel")).await.expect(200);
    assert!(shop.lease(1).await.is_empty(), "the worker has not heard of it, and may be at work");
    for _ in 0..2 {
        assert_eq!(kind_of(&shop.heartbeat(&leased).await, 409), "/problems/cancelled");
    }
    assert_eq!(shop.lease_one().await.task, next);
    assert_eq!(kind_of(&shop.complete(&leased, json!(1)).await, 409), "/problems/cancelled");
    assert_eq!(kind_of(&shop.fail(&leased, true).await, 409), "/problems/cancelled");
    let shown = shop.admin.get(&format!("/api/v1/tasks/{task}")).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["output"]), (&json!("cancelled"), &Value::Null));
}

#[tokio::test]
async fn an_output_beyond_a_mebibyte_is_refused_and_the_task_may_still_be_answered() {
    const MEBIBYTE: usize = 1024 * 1024;
    let shop = Shop::open(json!({})).await;
    shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    let head = shop.admin.head().await;
    shop.complete(&leased, json!("x".repeat(MEBIBYTE))).await.problem(413);
    // Fits into a body, and is longer once it is written out.
    let grows = format!("{{\"lease\":\"{}\",\"output\":[{}1e9]}}", leased.lease, "1e9,".repeat(MEBIBYTE / 6));
    let request = shop.worker.request(reqwest::Method::POST, &format!("/api/v1/tasks/{}/complete", leased.task));
    let refused = shop.worker.send(request.header("content-type", "application/json").body(grows)).await;
    refused.problem(422);
    assert_eq!(refused.pointers(), ["/output"]);
    assert_eq!(shop.admin.head().await, head, "nothing was recorded");
    shop.heartbeat(&leased).await.expect(200);
    shop.complete(&leased, json!("x".repeat(MEBIBYTE / 2))).await.expect(200);
}
