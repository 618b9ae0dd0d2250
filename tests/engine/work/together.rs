//! Several processes that run agents together: which task is next, and how many run at once.
use super::*;
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::sync::Semaphore;

/// Counts who runs at once.
#[derive(Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_never_run_more_of_an_agents_tasks_at_once_than_it_may() {
    let shop = Workshop::open().await;
    let crowd = Arc::new(Crowd::default());
    let counted = crowd.clone();
    let script = script(move |_| {
        let crowd = counted.clone();
        Box::pin(async move {
            crowd.most.fetch_max(crowd.now.fetch_add(1, SeqCst) + 1, SeqCst);
            // Others get to run in between.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            crowd.now.fetch_sub(1, SeqCst);
            Ok(json!("done"))
        })
    });
    let _processes = [shop.worker(script.clone()), shop.worker(script.clone()), shop.worker(script)];
    let agent = shop.agent(Limits { max_concurrency: 3, ..hasty() }).await;
    let tasks = futures_util::future::join_all((0..60).map(|_| shop.submit(agent, |_| {}))).await;
    for task in tasks {
        shop.in_phase(task, |phase| phase == Phase::Final).await;
        assert_eq!(shop.story(task).await, ["submitted", "started", "completed"]);
    }
    let most = crowd.most.load(SeqCst);
    assert!((2..=3).contains(&most), "{most} ran at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_task_of_priority_9_overtakes_those_of_priority_1_that_wait() {
    let shop = Workshop::open().await;
    let (gate, order) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (passed, noted) = (gate.clone(), order.clone());
    let script = script(move |run| {
        noted.lock().unwrap().push(run.assignment.input.clone());
        let gate = passed.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(json!("done"))
        })
    });
    let _process = shop.worker(script);
    let agent = shop.agent(Limits { max_concurrency: 1, ..hasty() }).await;
    let first = shop.submit(agent, |task| (task.priority, task.input) = (1, json!("first"))).await;
    shop.in_phase(first, |phase| phase == Phase::Running).await;
    let mut tasks = vec![first];
    for (priority, name) in [(1, "second"), (1, "third"), (9, "urgent")] {
        tasks.push(shop.submit(agent, |task| (task.priority, task.input) = (priority, json!(name))).await);
    }
    // The order is read from a view: it has to know them all before the slot is free.
    shop.caught_up().await;
    gate.add_permits(tasks.len());
    for task in tasks {
        shop.in_phase(task, |phase| phase == Phase::Final).await;
    }
    assert_eq!(*order.lock().unwrap(), ["first", "urgent", "second", "third"].map(|name| json!(name)));
}
