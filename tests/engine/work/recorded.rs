//! A step is done until its result is recorded, and never again.
use super::*;
use marvin::agent::TaskFailure;
use marvin::log::{Append, AppendError, ReadError, Receipt, StoredEvent};
use marvin::store::StoreError;
use marvin_domain::{Position, Sequence};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};
use tokio::sync::watch;

/// Steps of a task.
const STEPS: u32 = 3;

/// What was done to the world outside, which keeps no promises by itself: each entry is a step that was done.
type Outside = Arc<Mutex<Vec<u32>>>;

/// Does each step outside and records it; panics behind the recording of the steps that it is told to fail at, once each.
fn stepping(outside: Outside, fails_behind: Vec<u32>) -> Script {
    let fails_behind = Arc::new(Mutex::new(fails_behind));
    script(move |run| {
        let (outside, fails_behind) = (outside.clone(), fails_behind.clone());
        Box::pin(async move {
            for step in 1..=STEPS {
                if run.recorded().is_none() {
                    outside.lock().unwrap().push(step);
                    run.record("tool", "do", json!(step), Vec::new()).await?;
                }
                let position = fails_behind.lock().unwrap().iter().position(|behind| *behind == step);
                if let Some(position) = position {
                    fails_behind.lock().unwrap().remove(position);
                    panic!("the test asked for it");
                }
            }
            Ok(json!("done"))
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_result_is_recorded_is_not_done_again_by_any_later_attempt() {
    let shop = Workshop::open().await;
    let outside = Outside::default();
    // In two processes, either of which may take any attempt.
    let script = stepping(outside.clone(), vec![1, 2, 2, 3]);
    let _workers = [shop.worker(script.clone()), shop.worker(script)];
    let task = shop.submit(shop.agent(hasty()).await, |task| task.max_attempts = 9).await;
    let done = shop.in_phase(task, |phase| matches!(phase, Phase::Final | Phase::Failed)).await;
    assert_eq!((done.phase, done.attempt, done.steps), (Phase::Final, 5, STEPS));
    assert_eq!(*outside.lock().unwrap(), [1, 2, 3]);
}

/// A step's result may be no longer than 1 MiB, and the log is read 8 MiB at a time.
const LONG_RESULT_BYTES: usize = 1_000_000;
const LONG_STEPS: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_far_behind_in_a_long_journal_is_not_done_again_either() {
    let shop = Workshop::open().await;
    let (outside, failed) = (Outside::default(), Arc::new(AtomicBool::default()));
    let result = "x".repeat(LONG_RESULT_BYTES);
    let _worker = shop.worker(script({
        let outside = outside.clone();
        move |run| {
            let (outside, failed, result) = (outside.clone(), failed.clone(), result.clone());
            Box::pin(async move {
                for step in 1..=LONG_STEPS {
                    if run.recorded().is_none() {
                        outside.lock().unwrap().push(step);
                        run.record("tool", "do", json!(result), Vec::new()).await?;
                    }
                }
                assert!(failed.swap(true, SeqCst), "the test asked for it");
                Ok(json!("done"))
            })
        }
    }));
    let task = shop.submit(shop.agent(hasty()).await, |task| task.max_attempts = 2).await;
    let done = shop.in_phase(task, |phase| matches!(phase, Phase::Final | Phase::Failed)).await;
    assert_eq!((done.phase, done.attempt, done.steps), (Phase::Final, 2, LONG_STEPS));
    assert_eq!(*outside.lock().unwrap(), (1..=LONG_STEPS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_wait_for_what_comes_next_are_recorded_with_it_and_with_a_failure() {
    let shop = Workshop::open().await;
    let done = Outside::default();
    let worker = shop.worker(script({
        let done = done.clone();
        move |run| {
            let done = done.clone();
            Box::pin(async move {
                for step in 1..=4 {
                    if run.recorded().is_none() {
                        done.lock().unwrap().push(step);
                        match step {
                            2 => run.record("tool", "do", json!(step), Vec::new()).await?,
                            _ => run.record_with_next("tool", "think", json!(step))?,
                        }
                    }
                    if step == 3 && run.assignment.attempt == 1 {
                        return Err(TaskFailure::passing("try_again", "the test asked for it").into());
                    }
                }
                Ok(json!("done"))
            })
        }
    }));
    let task = shop.submit(shop.agent(hasty()).await, |task| task.max_attempts = 2).await;
    shop.in_phase(task, |phase| matches!(phase, Phase::Final | Phase::Failed)).await;
    let step = "step_completed";
    let expected =
        ["submitted", "started", step, step, step, "retry_scheduled: try_again", "started", step, "completed"];
    assert_eq!(shop.story(task).await, expected);
    assert_eq!(*done.lock().unwrap(), [1, 2, 3, 4]);
    worker.worker.drain().await;
}

/// A log that takes one step and then is gone for whoever recorded it: what a process sees of its own death behind the commit.
struct Dying {
    inner: Arc<dyn EventLog>,
    is_dead: AtomicBool,
}

#[async_trait]
impl EventLog for Dying {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        if self.is_dead.load(SeqCst) {
            return Err(AppendError::Unavailable(StoreError::Closed));
        }
        let steps = append.streams.iter().flat_map(|stream| &stream.events);
        let is_step = steps.into_iter().any(|event| event.event_type == "step_completed");
        let appended = self.inner.append(append).await?;
        if is_step {
            self.is_dead.store(true, SeqCst);
            return Err(AppendError::Unavailable(StoreError::Closed));
        }
        Ok(appended)
    }
    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
        self.inner.find_command(command_id).await
    }
    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.inner.read(after, limit).await
    }
    async fn read_stream(&self, stream: StreamId, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.inner.read_stream(stream, after, limit).await
    }
    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_behind_the_commit_of_a_step_leaves_that_step_done() {
    let shop = Workshop::open().await;
    let outside = Outside::default();
    let dying = Arc::new(Dying { inner: shop.stack.stores.log.clone(), is_dead: AtomicBool::new(false) });
    let task = shop.submit(shop.agent(hasty()).await, |task| task.max_attempts = 9).await;
    let dead = shop.worker_on(dying.clone(), stepping(outside.clone(), Vec::new()));
    eventually("it has died", async || dying.is_dead.load(SeqCst).then_some(())).await;
    // Nothing of it goes on: neither its handler nor its lease.
    dead.stop_loops();
    shop.let_leases_run_out();
    let _next = shop.worker(stepping(outside.clone(), Vec::new()));
    let done = shop.in_phase(task, |phase| phase == Phase::Final).await;
    assert_eq!((done.attempt, done.steps), (2, STEPS));
    assert_eq!(*outside.lock().unwrap(), [1, 2, 3]);
    assert!(shop.story(task).await.contains(&"heartbeat_lost".to_owned()));
}
