//! What no worker should send, and leases that are not theirs to use.
use reqwest::Method;
use serde_json::{Value, json};

use super::{NO_LEASE, Shop, agent, ask, kind_of};
use crate::support::eventually;

#[tokio::test]
async fn asking_for_no_tasks_for_too_many_or_for_too_long_is_refused() {
    let shop = Shop::open(json!({})).await;
    shop.submit(json!(1)).await;
    let path = format!("/api/v1/agents/{}/lease", shop.agent);
    for (body, status, pointer) in [
        (json!({ "max": 0, "wait_s": 0 }), 422, "/max"),
        (json!({ "max": 101, "wait_s": 0 }), 422, "/max"),
        (json!({ "max": 1_000_000_000, "wait_s": 0 }), 422, "/max"),
        (json!({ "max": 1, "wait_s": 31 }), 422, "/wait_s"),
        (json!({ "max": -1, "wait_s": 0 }), 400, "/max"),
        (json!({ "max": 1e9, "wait_s": 0 }), 400, "/max"),
        (json!({ "max": 1, "wait_s": -1 }), 400, "/wait_s"),
        (json!({ "max": u64::MAX, "wait_s": 0 }), 400, "/max"),
    ] {
        let refused = shop.worker.post(&path, &body).await;
        refused.problem(status);
        assert_eq!(refused.pointers(), [pointer], "{body}");
    }
    for body in [json!({}), json!({ "max": 1 }), json!({ "wait_s": 0 }), Value::Null] {
        shop.worker.post(&path, &body).await.problem(400);
    }
    shop.worker.post_keyed(&path, "again", &json!({ "max": 1, "wait_s": 0 })).await.problem(400);
    assert_eq!(shop.lease(100).await.len(), 1, "none of these took the task");
}

#[tokio::test]
async fn only_agents_of_the_kind_worker_have_their_tasks_leased() {
    let shop = Shop::open(json!({})).await;
    let rules = shop.admin.agent("rules", json!({ "rules": [] })).await;
    let refused = ask(&shop.worker, &rules, 1, 30).await.problem(422);
    assert!(refused["detail"].as_str().unwrap().contains("rules"), "{refused}");
    ask(&shop.worker, &uuid::Uuid::now_v7().to_string(), 1, 30).await.problem(404);
    ask(&shop.worker, "all", 1, 0).await.problem(404);
    let attempt = format!("/api/v1/agents/{}/try", shop.agent);
    shop.admin.post(&attempt, &json!({ "input": 1 })).await.problem(422);
}

#[tokio::test]
async fn a_worker_agent_has_no_configuration_and_takes_any_input() {
    let shop = Shop::open(json!({})).await;
    for (config, pointer) in
        [(json!({ "url": 1 }), "/config/url"), (json!([]), "/config"), (json!({ "a/b": 1 }), "/config/a~1b")]
    {
        let mut body = agent(json!({}));
        body["config"] = config;
        let refused = shop.admin.post("/api/v1/agents", &body).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), [pointer]);
    }
    for input in [json!(null), json!([]), json!("text"), json!({ "deep": { "er": [1.5] } })] {
        shop.submit(input.clone()).await;
        assert_eq!(shop.lease_one().await.told["task"]["input"], input);
    }
}

#[tokio::test]
async fn a_lease_answers_for_its_own_task_and_no_other() {
    let shop = Shop::open(json!({})).await;
    for number in 0..2 {
        shop.submit(json!(number)).await;
    }
    let leased = shop.lease(2).await;
    let (one, other) = (&leased[0], &leased[1]);
    let queued = shop.submit(json!(3)).await;
    let rules = shop.admin.agent("rules", json!({ "rules": [] })).await;
    let done = shop.admin.task_done(&rules, json!(1)).await["id"].as_str().unwrap().to_owned();
    let calls = |lease: &str| {
        [
            ("heartbeat", json!({ "lease": lease })),
            ("complete", json!({ "lease": lease, "output": 1 })),
            ("fail", json!({ "lease": lease, "code": "a", "message": "", "retry": false })),
        ]
    };
    // The last event that comes by itself.
    eventually("the end of the task is told", async || (shop.admin.unread().await == 1).then_some(())).await;
    let head = shop.admin.head().await;
    for (task, lease) in
        [(&one.task, &*other.lease), (&one.task, NO_LEASE), (&queued, &*one.lease), (&done, &*one.lease)]
    {
        for (call, body) in calls(lease) {
            assert_eq!(kind_of(&shop.say(task, call, &body).await, 409), "/problems/late-result", "{call}");
        }
    }
    for (call, body) in calls(&one.lease) {
        shop.say(&uuid::Uuid::now_v7().to_string(), call, &body).await.problem(404);
        shop.say(&shop.agent, call, &body).await.problem(404);
    }
    let longer = format!("{}A", one.lease);
    for lease in ["", "x", &one.lease[1..], &longer, &"A".repeat(100_000), "Ä", "\0"] {
        for (call, body) in calls(lease) {
            let refused = shop.say(&one.task, call, &body).await;
            refused.problem(422);
            assert_eq!(refused.pointers(), ["/lease"]);
        }
    }
    assert_eq!(shop.admin.head().await, head);
    for leased in [one, other] {
        shop.heartbeat(leased).await.expect(200);
        shop.complete(leased, json!(1)).await.expect(200);
    }
}

#[tokio::test]
async fn a_failure_says_what_it_is_in_a_code_of_small_letters_and_few_words() {
    let shop = Shop::open(json!({})).await;
    let task = shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    let fail =
        |code: &str, message: &str| json!({ "lease": leased.lease, "code": code, "message": message, "retry": false });
    for code in ["", "Broken", "no luck", "no-luck", "ä", "a\n", &"a".repeat(65)] {
        let refused = shop.say(&task, "fail", &fail(code, "")).await;
        refused.problem(422);
        assert_eq!(refused.pointers(), ["/code"], "{code:?}");
    }
    let refused = shop.say(&task, "fail", &fail("a", &"ä".repeat(4_001))).await;
    refused.problem(422);
    assert_eq!(refused.pointers(), ["/message"]);
    for field in ["lease", "code", "message", "retry"] {
        let mut body = fail("a", "b");
        body.as_object_mut().unwrap().remove(field);
        shop.say(&task, "fail", &body).await.problem(400);
    }
    shop.say(&task, "fail", &fail(&"a_9".repeat(21), &"ä".repeat(4_000))).await.expect(200);
}

#[tokio::test]
async fn who_may_not_work_is_leased_nothing() {
    let shop = Shop::open(json!({})).await;
    let task = shop.submit(json!(1)).await;
    for role in ["operator", "member", "auditor"] {
        let somebody = shop.admin.colleague(role, &[role]).await;
        ask(&somebody, &shop.agent, 1, 0).await.problem(403);
    }
    let bare = shop.worker.bare(Method::POST, &format!("/api/v1/agents/{}/lease", shop.agent));
    let without_token = bare.header("cookie", shop.worker.cookie()).json(&json!({ "max": 1, "wait_s": 0 }));
    shop.worker.send(without_token).await.problem(403);
    assert_eq!(shop.lease_one().await.task, task);
}
