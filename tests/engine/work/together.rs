//! Several processes that run agents together: which task is next, and how many run at once.
use super::*;
use marvin::{agent::slots::Taken, store::StoreError};
use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
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

/// Slots that a task of priority 9 is given later than any other would be, were they asked for at once.
struct Slow {
    inner: Arc<dyn Slots>,
    urgent: Uuid,
}

#[async_trait]
impl Slots for Slow {
    async fn take(&self, agent: Uuid, max: u32, task: Uuid, holder: Uuid, ttl: Duration) -> Result<Taken, StoreError> {
        if task == self.urgent {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.inner.take(agent, max, task, holder, ttl).await
    }
    async fn renew(&self, holders: Vec<Uuid>, ttl: Duration) -> Result<HashSet<Uuid>, StoreError> {
        self.inner.renew(holders, ttl).await
    }
    async fn release(&self, task: Uuid, holder: Uuid) -> Result<u32, StoreError> {
        self.inner.release(task, holder).await
    }
    async fn held(&self) -> Result<HashSet<Uuid>, StoreError> {
        self.inner.held().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_free_slot_is_the_most_urgent_tasks_however_long_it_takes_to_get_it() {
    let shop = Workshop::open().await;
    let agent = shop.agent(Limits { max_concurrency: 4, ..hasty() }).await;
    let slots = shop.stack.stores.slots.clone();
    // Somebody else has three of the four.
    for _ in 0..3 {
        slots.take(agent, 4, Uuid::now_v7(), Uuid::now_v7(), Duration::from_secs(3_600)).await.unwrap();
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = order.clone();
    let script = script(move |run| {
        noted.lock().unwrap().push(run.assignment.input.clone());
        Box::pin(async move { Ok(json!("done")) })
    });
    let mut tasks = Vec::new();
    for (priority, name) in [(1, "last"), (9, "urgent"), (5, "middling")] {
        tasks.push(shop.submit(agent, |task| (task.priority, task.input) = (priority, json!(name))).await);
    }
    shop.caught_up().await;
    let slow = Arc::new(Slow { inner: slots, urgent: tasks[1] });
    let _process = shop.worker_with(shop.stack.stores.log.clone(), slow, script);
    for task in tasks {
        shop.in_phase(task, |phase| phase == Phase::Final).await;
    }
    assert_eq!(*order.lock().unwrap(), ["urgent", "middling", "last"].map(|name| json!(name)));
}

/// Slots that are away behind the first that was taken.
struct Unrenewed {
    inner: Arc<dyn Slots>,
    taken: AtomicUsize,
}

#[async_trait]
impl Slots for Unrenewed {
    async fn take(&self, agent: Uuid, max: u32, task: Uuid, holder: Uuid, ttl: Duration) -> Result<Taken, StoreError> {
        if self.taken.fetch_add(1, SeqCst) > 0 {
            return Err(StoreError::Closed);
        }
        self.inner.take(agent, max, task, holder, ttl).await
    }
    async fn renew(&self, _holders: Vec<Uuid>, _ttl: Duration) -> Result<HashSet<Uuid>, StoreError> {
        Err(StoreError::Closed)
    }
    async fn release(&self, _task: Uuid, _holder: Uuid) -> Result<u32, StoreError> {
        Err(StoreError::Closed)
    }
    async fn held(&self) -> Result<HashSet<Uuid>, StoreError> {
        Err(StoreError::Closed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_does_not_outlive_its_lease_though_nobody_can_tell_that_it_has_run_out() {
    let shop = Workshop::open().await;
    let crowd = Arc::new(Crowd::default());
    let counted = crowd.clone();
    let script = script(move |_| {
        let crowd = counted.clone();
        Box::pin(async move {
            crowd.most.fetch_max(crowd.now.fetch_add(1, SeqCst) + 1, SeqCst);
            let _leaving = Leaving(crowd);
            std::future::pending().await
        })
    });
    let task = shop.submit(shop.agent(Limits { max_concurrency: 1, ..hasty() }).await, |_| {}).await;
    let away = Arc::new(Unrenewed { inner: shop.stack.stores.slots.clone(), taken: AtomicUsize::new(0) });
    let cut_off = shop.worker_with(shop.stack.stores.log.clone(), away, script.clone());
    shop.in_phase(task, |phase| phase == Phase::Running).await;
    // Another one gives up the first attempt when its lease has run out, and makes the second.
    let _other = shop.worker(script);
    eventually("the task is started again", async || {
        (shop.story(task).await.iter().filter(|event| *event == "started").count() == 2).then_some(())
    })
    .await;
    eventually("the second attempt runs", async || (crowd.now.load(SeqCst) == 1).then_some(())).await;
    assert_eq!(crowd.most.load(SeqCst), 1, "never both");
    assert_eq!(cut_off.worker.running_count(), 0);
}

/// Whoever leaves the crowd, however that comes.
struct Leaving(Arc<Crowd>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}
