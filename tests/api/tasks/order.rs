//! Which task is next, and lists of tasks.
use serde_json::{Value, json};

use super::events_of;
use crate::support::{Client, Server};

#[tokio::test]
async fn more_urgent_tasks_start_first_and_among_equals_the_older() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let body = json!({ "name": "One at a time", "kind": "rules", "config": { "rules": [] }, "limits": { "max_concurrency": 1 } });
    let agent = admin.post("/api/v1/agents", &body).await.expect(201).id();
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let mut submitted = Vec::new();
    for priority in [1, 9, 5, 9, 0] {
        let body = json!({ "input": priority, "priority": priority });
        let receipt = admin.post(&format!("/api/v1/agents/{agent}/tasks"), &body).await.expect(202);
        submitted.push((receipt.id(), receipt.position()));
    }
    // The order is read from a view: it has to know them all before any starts.
    admin.get_at("/api/v1/tasks", submitted[4].1).await.expect(200);
    admin.order(&format!("/api/v1/agents/{agent}/resume")).await.expect(200);
    let mut started = Vec::new();
    for (id, _) in &submitted {
        admin.task_ended(id).await;
        let events = events_of(&admin, id).await;
        started.push(events[1]["position"].as_str().unwrap().parse::<u64>().unwrap());
    }
    let mut order: Vec<usize> = (0..5).collect();
    order.sort_by_key(|index| started[*index]);
    assert_eq!(order, [1, 3, 2, 0, 4]);
}

#[tokio::test]
async fn lists_hold_what_their_filters_say_and_pages_walk_each_task_exactly_once() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let (done, waiting) = (admin.agent("rules", json!({ "rules": [] })), admin.agent("rules", json!({ "rules": [] })));
    let (done, waiting) = (done.await, waiting.await);
    admin.order(&format!("/api/v1/agents/{waiting}/pause")).await.expect(200);
    let conversation = uuid::Uuid::now_v7().to_string();
    let (mut all, mut position) = (Vec::new(), 0);
    for number in 0..13 {
        let agent = if number % 3 == 0 { &waiting } else { &done };
        let talk = if number % 2 == 0 { json!(conversation) } else { Value::Null };
        let body = json!({ "input": number, "conversation_id": talk });
        let receipt = admin.post(&format!("/api/v1/agents/{agent}/tasks"), &body).await.expect(202);
        let id = receipt.id();
        position = receipt.position();
        if number % 3 != 0 {
            admin.task_ended(&id).await;
        }
        all.push(id);
    }
    all.reverse();
    admin.get_at("/api/v1/tasks", position).await.expect(200);
    for (filter, wanted) in [
        (String::new(), all.clone()),
        (format!("&agent_id={waiting}"), all.iter().step_by(3).cloned().collect()),
        ("&status=queued".to_owned(), all.iter().step_by(3).cloned().collect()),
        (format!("&conversation_id={conversation}"), all.iter().step_by(2).cloned().collect()),
        (format!("&status=queued&conversation_id={conversation}"), all.iter().step_by(6).cloned().collect()),
        ("&status=dead".to_owned(), Vec::new()),
        (format!("&agent_id={}", uuid::Uuid::now_v7()), Vec::new()),
    ] {
        for limit in [1, 5, 200] {
            assert_eq!(walk(&admin, limit, &filter).await, wanted, "{filter} by {limit}");
        }
    }
}

/// The ids of all pages, one after the other.
async fn walk(client: &Client, limit: usize, filter: &str) -> Vec<String> {
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/api/v1/tasks?limit={limit}{filter}{cursor}")).await.expect(200);
        assert!(page.items().len() <= limit);
        walked.extend(page.items().iter().map(|task| task["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.json()["next_cursor"].as_str().map(str::to_owned) else { return walked };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn a_walk_meets_each_task_once_while_others_are_submitted() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    let mut before = Vec::new();
    for number in 0..20 {
        before.push(admin.submit(&agent, json!(number)).await.id());
    }
    before.reverse();
    admin.get_at("/api/v1/tasks", admin.head().await).await.expect(200);
    let (busy, target) = (admin.clone(), agent.clone());
    let submitting = tokio::spawn(async move {
        for number in 20..40 {
            busy.submit(&target, json!(number)).await;
        }
    });
    let walked = walk(&admin, 3, "").await;
    submitting.await.unwrap();
    let known: Vec<_> = walked.iter().filter(|id| before.contains(id)).cloned().collect();
    assert_eq!(known, before);
}

#[tokio::test]
async fn a_page_of_large_tasks_is_shorter_than_its_limit_and_leads_on() {
    let server = Server::start();
    let admin = Client::admin(&server).await;
    let agent = admin.agent("rules", json!({ "rules": [] })).await;
    admin.order(&format!("/api/v1/agents/{agent}/pause")).await.expect(200);
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(admin.submit(&agent, json!("x".repeat(1_500_000))).await.id());
    }
    submitted.reverse();
    let page = admin.get_at("/api/v1/tasks?limit=200", admin.head().await).await.expect(200);
    assert_eq!(page.items().len(), 2, "two are below four million bytes, three are above");
    assert!(page.json()["next_cursor"].is_string());
    assert_eq!(walk(&admin, 200, "").await, submitted);
}
