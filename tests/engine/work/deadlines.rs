//! Tasks that wait behind their deadline, by a clock of the tests' own.
use super::*;
use chrono::{DateTime, Utc};
use marvin::agent::deadline::Deadlines;
use std::sync::Mutex;

/// More than one page of what a look finds.
const MANY: usize = 1_200;

fn noon(seconds: i64) -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + chrono::Duration::seconds(seconds)
}

struct Clock(Arc<Mutex<DateTime<Utc>>>);

impl Clock {
    fn at_noon() -> Self {
        Self(Arc::new(Mutex::new(noon(0))))
    }

    fn set(&self, seconds: i64) {
        *self.0.lock().unwrap() = noon(seconds);
    }

    /// A process that looks to the deadlines, with caches of its own.
    fn node(&self, shop: &Workshop) -> Deadlines {
        let time = self.0.clone();
        Deadlines {
            dispatcher: shop.elsewhere(),
            views: shop.views.clone(),
            log: shop.stack.stores.log.clone(),
            clock: Arc::new(move || *time.lock().unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_its_deadline_fails_once_however_many_processes_look() {
    let (shop, clock) = (Workshop::open().await, Clock::at_noon());
    let agent = shop.agent(hasty()).await;
    let early = shop.submit(agent, |task| task.deadline = Some(noon(60))).await;
    let late = shop.submit(agent, |task| task.deadline = Some(noon(61))).await;
    let endless = shop.submit(agent, |_| {}).await;
    shop.caught_up().await;
    let nodes = [clock.node(&shop), clock.node(&shop), clock.node(&shop)];
    let look = async || {
        let looks = nodes.iter().map(|node| async move { node.end_all().await.unwrap() });
        futures_util::future::join_all(looks).await;
        shop.caught_up().await;
    };
    clock.set(59);
    look().await;
    assert_eq!(shop.story(early).await, ["submitted"]);
    clock.set(60);
    look().await;
    look().await;
    assert_eq!(shop.story(early).await, ["submitted", "failed: deadline_passed"]);
    assert_eq!(shop.story(late).await, ["submitted"]);
    // A process that starts later finds what nobody looked at meanwhile, and nothing twice.
    clock.set(3_600);
    clock.node(&shop).end_all().await.unwrap();
    shop.caught_up().await;
    clock.node(&shop).end_all().await.unwrap();
    assert_eq!(shop.story(late).await, ["submitted", "failed: deadline_passed"]);
    assert_eq!(shop.story(endless).await, ["submitted"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_retried_behind_its_deadline_fails_once_more() {
    let (shop, clock) = (Workshop::open().await, Clock::at_noon());
    let task = shop.submit(shop.agent(hasty()).await, |task| task.deadline = Some(noon(1))).await;
    let node = clock.node(&shop);
    clock.set(1);
    for _ in 0..2 {
        shop.caught_up().await;
        node.end_all().await.unwrap();
        shop.in_phase(task, |phase| phase == Phase::Failed).await;
        shop.send(task, TaskCommand::Retry).await;
    }
    let failed = "failed: deadline_passed";
    assert_eq!(shop.story(task).await, ["submitted", failed, "retried", failed, "retried"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_would_come_behind_the_deadline_is_not_waited_for() {
    let (shop, clock) = (Workshop::open().await, Clock::at_noon());
    let task = shop.submit(shop.agent(hasty()).await, |task| task.deadline = Some(noon(10))).await;
    shop.send(task, TaskCommand::Start { worker: Uuid::now_v7(), at: noon(1) }).await;
    let node = clock.node(&shop);
    clock.set(10);
    shop.caught_up().await;
    node.end_all().await.unwrap();
    assert_eq!(shop.story(task).await, ["submitted", "started"], "what runs looks to its deadline itself");
    let failure = marvin_domain::task::Failure::new("busy", "later");
    shop.send(task, TaskCommand::Fail { attempt: 1, failure, retry_at: Some(noon(3_600)) }).await;
    shop.caught_up().await;
    node.end_all().await.unwrap();
    let expected = ["submitted", "started", "retry_scheduled: busy", "failed: deadline_passed"];
    assert_eq!(shop.story(task).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_page_of_them_is_ended_by_one_look() {
    let (shop, clock) = (Workshop::open().await, Clock::at_noon());
    let agent = shop.agent(hasty()).await;
    for _ in 0..MANY / 100 {
        let submitted = (0..100).map(|_| shop.submit(agent, |task| task.deadline = Some(noon(1))));
        futures_util::future::join_all(submitted).await;
    }
    shop.caught_up().await;
    clock.set(1);
    clock.node(&shop).end_all().await.unwrap();
    let events = shop.stack.events().await;
    let failed = events.iter().filter(|event| matches!(event.event, Event::Task(TaskEvent::Failed(_)))).count();
    assert_eq!(failed, MANY);
}
