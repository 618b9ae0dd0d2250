//! A cancellation reaches a handler wherever it is.
use super::*;
use marvin::log::{Append, AppendError, ReadError, Receipt, StoredEvent};
use marvin_domain::{Position, Sequence, task::CancelReason};
use tokio::sync::{mpsc, watch};

const CANCEL: TaskCommand = TaskCommand::Cancel { reason: CancelReason::Requested };

/// Tells when a handler began, and when it was dropped.
struct Life(mpsc::UnboundedSender<&'static str>);

impl Life {
    fn begin(told: &mpsc::UnboundedSender<&'static str>) -> Self {
        told.send("begun").unwrap();
        Self(told.clone())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.send("gone").ok();
    }
}

/// Never returns.
fn endless(told: mpsc::UnboundedSender<&'static str>) -> Script {
    script(move |_| {
        let life = Life::begin(&told);
        Box::pin(async move {
            let _life = life;
            std::future::pending().await
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_is_gone_once_its_task_is_cancelled_from_elsewhere_and_its_slot_is_free() {
    let shop = Workshop::open().await;
    let (told, mut heard) = mpsc::unbounded_channel();
    let _worker = shop.worker(endless(told));
    let agent = shop.agent(Limits { max_concurrency: 1, ..hasty() }).await;
    let (first, second) = (shop.submit(agent, |_| {}).await, shop.submit(agent, |_| {}).await);
    assert_eq!(heard.recv().await, Some("begun"));
    shop.send(first, CANCEL).await;
    assert_eq!(heard.recv().await, Some("gone"));
    assert_eq!(heard.recv().await, Some("begun"), "the next one has the slot");
    shop.send(second, CANCEL).await;
    assert_eq!(heard.recv().await, Some("gone"));
    assert_eq!(shop.story(first).await, ["submitted", "started", "cancelled"]);
}

/// A log that lets nobody go on who has read the journal of a task that was just started to its end, until it is let go: what they
/// know of the task is by then out of date.
struct Held {
    inner: Arc<dyn EventLog>,
    task: Uuid,
    is_held: watch::Sender<bool>,
    has_waiting: watch::Sender<bool>,
}

#[async_trait]
impl EventLog for Held {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        let of_task = append.streams.iter().filter(|stream| stream.stream.id == self.task);
        let starts = of_task.flat_map(|stream| &stream.events).any(|event| event.event_type == "started");
        let appended = self.inner.append(append).await;
        if starts {
            self.is_held.send_replace(true);
        }
        appended
    }
    async fn find_command(&self, command_id: Uuid) -> Result<Option<(Receipt, Option<String>)>, ReadError> {
        self.inner.find_command(command_id).await
    }
    async fn read(&self, after: Position, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        self.inner.read(after, limit).await
    }
    async fn read_stream(&self, stream: StreamId, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let read = self.inner.read_stream(stream, after, limit).await?;
        if stream.id == self.task && *self.is_held.borrow() {
            self.has_waiting.send_replace(true);
            self.is_held.subscribe().wait_for(|held| !held).await.unwrap();
        }
        Ok(read)
    }
    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_between_the_claim_and_the_handler_stops_the_handler() {
    let shop = Workshop::open().await;
    let task = shop.submit(shop.agent(hasty()).await, |_| {}).await;
    let (is_held, has_waiting) = (watch::Sender::new(false), watch::Sender::new(false));
    let held = Arc::new(Held { inner: shop.stack.stores.log.clone(), task, is_held, has_waiting });
    let (told, mut heard) = mpsc::unbounded_channel();
    let process = shop.worker_on(held.clone(), endless(told));
    held.has_waiting.subscribe().wait_for(|waiting| *waiting).await.unwrap();
    shop.send(task, CANCEL).await;
    // Cancellations are heard of in their order, so this one shows that the worker knows of the other.
    let other = shop.submit(shop.agent(hasty()).await, |_| {}).await;
    assert_eq!(heard.recv().await, Some("begun"));
    shop.send(other, CANCEL).await;
    assert_eq!(heard.recv().await, Some("gone"));
    held.is_held.send_replace(false);
    tokio::time::timeout(crate::wait::DEADLINE, process.worker.drain()).await.expect("nothing runs any more");
    assert_eq!(process.worker.running_count(), 0);
    assert_eq!(shop.story(task).await, ["submitted", "started", "cancelled"]);
}
