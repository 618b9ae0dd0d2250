//! What a worker is given, and that nothing is given twice.
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::HashSet;

use super::{Shop, lease};

#[tokio::test]
async fn a_worker_leases_a_task_keeps_it_and_completes_it() {
    let shop = Shop::open(json!({})).await;
    let member = shop.admin.colleague("ann", &["member"]).await;
    let input = json!({ "text": "ann's words", "any": [1, null] });
    let path = format!("/api/v1/agents/{}/tasks", shop.agent);
    let talk = uuid::Uuid::now_v7().to_string();
    let submission =
        json!({ "input": input, "priority": 7, "conversation_id": talk, "deadline": "2199-01-01T00:00:00.000Z" });
    let submitted = member.post(&path, &submission).await.expect(202);
    let leased = shop.lease_one().await;
    let shown =
        member.get_at(&format!("/api/v1/tasks/{}", leased.task), shop.admin.head().await).await.expect(200).json();
    assert_eq!(
        leased.told["task"],
        json!({
            "id": submitted.id(), "agent_id": shop.agent, "requested_by": member.user_id(), "conversation_id": talk,
            "input": input, "attempt": 1, "priority": 7, "deadline": "2199-01-01T00:00:00.000Z",
            "created_at": shown["created_at"],
        })
    );
    assert_eq!(leased.told["expires_in_ms"], 30_000);
    assert_eq!(leased.told.as_object().unwrap().len(), 3);
    assert_eq!((&shown["status"], &shown["attempt"]), (&json!("running"), &json!(1)));
    assert!(shop.lease(10).await.is_empty(), "it is leased already");
    for _ in 0..2 {
        assert_eq!(shop.heartbeat(&leased).await.expect(200).json(), json!({ "expires_in_ms": 30_000 }));
    }
    let receipt = shop.complete(&leased, json!({ "words": 2 })).await.expect(200);
    assert_eq!((receipt.id(), receipt.json()["sequence"].clone()), (leased.task.clone(), json!(3)));
    let done = member.get_at(&format!("/api/v1/tasks/{}", leased.task), receipt.position()).await.expect(200).json();
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!({ "words": 2 })));
}

#[tokio::test]
async fn the_log_tells_who_worked_and_never_the_lease() {
    let shop = Shop::open(json!({})).await;
    let task = shop.submit(json!(1)).await;
    let leased = shop.lease_one().await;
    shop.heartbeat(&leased).await.expect(200);
    shop.complete(&leased, json!(2)).await.expect(200);
    let history = shop.history(&task).await;
    let types: Vec<_> = history.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["marvin.task.submitted.v1", "marvin.task.started.v1", "marvin.task.completed.v1"]);
    for event in &history[1..] {
        assert_eq!(event["actor"], format!("user/{}", shop.worker.user_id()));
        assert_eq!(event["correlationid"], history[0]["correlationid"], "one chain");
    }
    assert_eq!(history[2]["causationid"], history[1]["id"]);
    let all = shop.admin.get("/api/v1/events?limit=1000").await.expect(200).json().to_string();
    let shown = shop.admin.get(&format!("/api/v1/tasks/{task}")).await.expect(200).json().to_string();
    assert!(!all.contains(&leased.lease) && !shown.contains(&leased.lease));
}

#[tokio::test]
async fn tasks_are_leased_by_priority_then_age_as_many_as_asked_for_and_as_slots_are_free() {
    let shop = Shop::open(json!({ "max_concurrency": 3 })).await;
    let mut tasks = Vec::new();
    for priority in [1, 9, 5, 9, 0] {
        let body = json!({ "input": priority, "priority": priority });
        tasks.push(shop.admin.post(&format!("/api/v1/agents/{}/tasks", shop.agent), &body).await.expect(202).id());
    }
    let mut leased = shop.lease(1).await;
    assert_eq!(leased.len(), 1);
    leased.extend(shop.lease(100).await);
    assert_eq!(leased.iter().map(|leased| &leased.task).collect::<Vec<_>>(), [&tasks[1], &tasks[3], &tasks[2]]);
    assert!(shop.lease(1).await.is_empty(), "no slot is free");
    shop.complete(&leased[1], json!(null)).await.expect(200);
    shop.fail(&leased[0], false).await.expect(200);
    let next: Vec<_> = shop.lease(100).await.into_iter().map(|leased| leased.task).collect();
    assert_eq!(next, [tasks[0].clone(), tasks[4].clone()]);
}

const TASKS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_who_lease_a_hundred_tasks_at_once_get_each_task_once() {
    let shop = Shop::open(json!({ "max_concurrency": 1000 })).await;
    let submitted: HashSet<String> =
        join_all((0..TASKS).map(|number| shop.submit(json!(number)))).await.into_iter().collect();
    let other = shop.admin.colleague("other", &["integrator"]).await;
    let take = async |client| {
        let mut leased = Vec::new();
        loop {
            let more = lease(client, &shop.agent, 30, 0).await;
            if more.is_empty() {
                return leased;
            }
            leased.extend(more);
        }
    };
    let (one, two) = tokio::join!(take(&shop.worker), take(&other));
    let leased: Vec<_> = one.iter().chain(&two).collect();
    assert_eq!(leased.len(), TASKS);
    assert_eq!(leased.iter().map(|leased| leased.task.clone()).collect::<HashSet<_>>(), submitted);
    assert_eq!(leased.iter().map(|leased| &leased.lease).collect::<HashSet<_>>().len(), TASKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_together_never_hold_more_tasks_than_the_agent_may_run_at_once() {
    const SLOTS: usize = 3;
    let shop = Shop::open(json!({ "max_concurrency": SLOTS })).await;
    join_all((0..20).map(|number| shop.submit(json!(number)))).await;
    let mut done = 0;
    while done < 20 {
        let leased: Vec<_> = join_all((0..8).map(|_| shop.lease(5))).await.into_iter().flatten().collect();
        assert!(leased.len() <= SLOTS, "{} at once", leased.len());
        let position = shop.admin.head().await;
        let running = shop.admin.get_at("/api/v1/tasks?status=running", position).await.expect(200).items();
        assert_eq!(running.len(), leased.len());
        for leased in &leased {
            shop.complete(leased, json!(null)).await.expect(200);
        }
        done += leased.len();
    }
}

#[tokio::test]
async fn a_paused_agent_gives_no_task_and_a_retired_one_those_it_had() {
    let shop = Shop::open(json!({})).await;
    let path = format!("/api/v1/agents/{}", shop.agent);
    let first = shop.submit(json!(1)).await;
    let second = shop.submit(json!(2)).await;
    let [leased] = <[_; 1]>::try_from(shop.lease(1).await).ok().unwrap();
    shop.admin.order(&format!("{path}/pause")).await.expect(200);
    assert!(shop.lease(10).await.is_empty());
    shop.heartbeat(&leased).await.expect(200);
    shop.complete(&leased, json!("what runs goes on")).await.expect(200);
    shop.admin.order(&format!("{path}/resume")).await.expect(200);
    shop.admin.delete(&path).await.expect(200);
    let last = shop.lease_one().await;
    assert_eq!((leased.task, &last.task), (first, &second));
    shop.complete(&last, Value::Null).await.expect(200);
}

#[tokio::test]
async fn processes_of_our_own_leave_the_tasks_of_workers_alone() {
    let shop = Shop::open(json!({})).await;
    let theirs = shop.submit(json!(1)).await;
    // Several sweeps go by while these are done.
    let ours = shop.admin.agent("rules", json!({ "rules": [] })).await;
    for _ in 0..20 {
        assert_eq!(shop.admin.task_done(&ours, json!(1)).await["status"], "completed");
    }
    let waiting = shop.admin.get(&format!("/api/v1/tasks/{theirs}")).await.expect(200).json();
    assert_eq!((&waiting["status"], &waiting["attempt"]), (&json!("queued"), &json!(0)));
    assert_eq!(shop.lease_one().await.task, theirs);
}

#[tokio::test]
async fn nobody_is_leased_the_words_of_who_is_erased() {
    let shop = Shop::open(json!({})).await;
    let member = shop.admin.colleague("ann", &["member"]).await;
    let task = member.submit(&shop.agent, json!("ann's words")).await.id();
    shop.admin.delete(&format!("/api/v1/users/{}", member.user_id())).await.expect(200);
    assert!(shop.lease(10).await.iter().all(|leased| leased.told["task"]["input"] != "ann's words"));
    let shown = shop.with_status(&task, "cancelled").await;
    assert_eq!((&shown["input"], &shown["erased"]), (&Value::Null, &json!(true)));
}
