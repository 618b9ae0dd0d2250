//! This node's writer: takes what gathered while a batch was being committed, and writes it as one batch. A lone command never waits.
use marvin_domain::Position;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::warn;

use super::{advance, batch::Outcome};
use crate::{
    log::{Append, AppendError},
    postgres::Postgres,
    store::{StoreError, chain},
};

mod connected;
mod gathering;
use connected::{Connected, Ended};
use gathering::{Batch, Gathering, Waiting};

/// Commands that may wait; beyond it callers wait to hand theirs in, so that memory stays bounded.
const QUEUE_COMMANDS_MAX: usize = 1_024;
/// How long a batch is sent again after a lost connection. Then its callers hear of it; they may send again themselves.
const RESEND_PATIENCE: Duration = Duration::from_secs(6);
/// Pause before a lost connection is made again; doubles up to the maximum.
const RECONNECT_INITIAL: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(super) struct Handle {
    queue: mpsc::Sender<Waiting>,
    writer: Arc<Mutex<Writer>>,
}

impl Handle {
    pub(super) async fn append(&self, append: Append) -> Outcome {
        // Nobody writes and nobody waits: the caller writes by itself, which saves waking another task and being woken by it.
        // When it goes away meanwhile, the connection goes with it, and nobody else's command does.
        if let Ok(mut writer) = self.writer.try_lock() {
            let mut outcomes = writer.write(&[&append], Tried::since(Instant::now())).await;
            return outcomes.pop().unwrap_or(Err(AppendError::Unavailable(StoreError::Closed)));
        }
        let (reply, outcome) = oneshot::channel();
        let closed = || AppendError::Unavailable(StoreError::Closed);
        self.queue.send(Waiting { append, reply }).await.map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }
}

pub(super) fn start(postgres: Postgres, head: watch::Sender<Position>, tasks: &mut JoinSet<()>) -> Handle {
    let (sender, queue) = mpsc::channel(QUEUE_COMMANDS_MAX);
    let writer = Arc::new(Mutex::new(Writer { postgres, head, connection: None }));
    tasks.spawn(run(writer.clone(), queue));
    Handle { queue: sender, writer }
}

async fn run(writer: Arc<Mutex<Writer>>, queue: mpsc::Receiver<Waiting>) {
    let mut gathering = Gathering::new(queue);
    while gathering.one_more().await {
        // Kept until nobody waits: the others would wait for the commit of a caller that writes by itself in between.
        let mut writer = writer.lock().await;
        while gathering.count() > 0 {
            writer.stream(&mut gathering).await;
        }
    }
}

/// What a batch has been through.
struct Tried {
    /// How long it is sent again counts from here.
    since: Instant,
    /// Why nobody knows what became of an earlier attempt. What the server answers to a later one says nothing of that.
    lost: Option<StoreError>,
}

impl Tried {
    fn since(since: Instant) -> Self {
        Self { since, lost: None }
    }
}

struct Writer {
    postgres: Postgres,
    head: watch::Sender<Position>,
    connection: Option<Connected>,
}

impl Writer {
    /// Writes what waits, as fast as it goes; what was lost on the way is written again, batch by batch.
    async fn stream(&mut self, gathering: &mut Gathering) {
        let Some(mut connection) = self.connection.take() else {
            let batch = gathering.next_batch();
            let tried = Tried::since(batch.begun);
            return self.write_and_answer(batch, tried).await;
        };
        let Ended { refused, lost } = connection.stream(gathering, &self.head).await;
        if lost.is_none() {
            self.connection = Some(connection);
        }
        for (batch, error) in refused {
            let outcomes = self.refused(&batch.commands(), error, Tried::since(batch.begun)).await;
            batch.answer(outcomes);
        }
        if let Some(lost) = lost {
            warn!(batches = lost.len(), "the connection was lost; what was under way is sent again");
            let cause = StoreError::Unreachable(Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
            for batch in lost {
                let tried = Tried { since: batch.begun, lost: Some(cause.clone()) };
                self.write_and_answer(batch, tried).await;
            }
        }
    }

    async fn write_and_answer(&mut self, batch: Batch, tried: Tried) {
        let outcomes = self.write(&batch.commands(), tried).await;
        batch.answer(outcomes);
    }

    /// Writes a batch, again if the connection was lost: a command that was written answers its first result then.
    async fn write(&mut self, batch: &[&Append], mut tried: Tried) -> Vec<Outcome> {
        let deadline = tried.since + RESEND_PATIENCE;
        let mut pause = RECONNECT_INITIAL;
        let error = loop {
            match self.attempt(batch, &mut tried).await {
                Ok(outcomes) => {
                    let last = outcomes.iter().flatten().map(|receipt| receipt.position).max();
                    advance(&self.head, last.unwrap_or(0));
                    return outcomes;
                }
                Err(error @ StoreError::Unreachable(_)) => {
                    self.connection = None;
                    if Instant::now() + pause > deadline {
                        break error;
                    }
                    warn!(error = %chain(&error), commands = batch.len(), "a batch is sent again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RECONNECT_MAX);
                }
                Err(error) => break error,
            }
        };
        self.refused(batch, error, tried).await
    }

    /// What becomes of a batch that the database did not take.
    async fn refused(&mut self, batch: &[&Append], mut error: StoreError, tried: Tried) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        // One command that it cannot take must not fail the others.
        if let (StoreError::Refused(_), [_, _, ..]) = (&error, batch) {
            for command in batch {
                let written = Box::pin(self.write(&[command], Tried::since(tried.since))).await.pop();
                let Some(Err(AppendError::Unavailable(met))) = written else {
                    outcomes.extend(written);
                    continue;
                };
                let told = tried.lost.as_ref().unwrap_or(&met).clone();
                outcomes.push(Err(AppendError::Unavailable(told)));
                // Only what is wrong with one command is its own affair; all else would be met again by each, in turn.
                if self.connection.is_none() || !matches!(met, StoreError::Refused(_)) {
                    error = met;
                    break;
                }
            }
        }
        let left = batch.len() - outcomes.len();
        if left > 0 {
            warn!(error = %chain(&error), commands = left, "commands were not written");
        }
        let told = tried.lost.unwrap_or(error);
        outcomes.resize_with(batch.len(), || Err(AppendError::Unavailable(told.clone())));
        outcomes
    }

    async fn attempt(&mut self, batch: &[&Append], tried: &mut Tried) -> Result<Vec<Outcome>, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connected::new(&self.postgres).await?,
        };
        let answer = connection.append(batch).await;
        match &answer {
            Err(error @ StoreError::Unreachable(_)) => tried.lost = Some(error.clone()),
            // Kept only when it answered: what a refused statement left on the wire is its end, too.
            _ => self.connection = Some(connection),
        }
        answer
    }
}
