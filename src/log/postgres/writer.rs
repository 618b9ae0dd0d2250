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
use connected::{Connected, Unanswered};
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
            let mut outcomes = writer.write(&[&append]).await;
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

struct Writer {
    postgres: Postgres,
    head: watch::Sender<Position>,
    connection: Option<Connected>,
}

impl Writer {
    /// Writes what waits, as fast as it goes; what that leaves unanswered is written again, batch by batch.
    async fn stream(&mut self, gathering: &mut Gathering) {
        let Some(mut connection) = self.connection.take() else {
            return self.write_one(gathering.next_batch()).await;
        };
        let Unanswered { mut error, batches } = match connection.stream(gathering, &self.head).await {
            Ok(()) => {
                self.connection = Some(connection);
                return;
            }
            Err(unanswered) => unanswered,
        };
        drop(connection);
        warn!(
            batches = batches.len(),
            error = error.as_ref().map(|error| chain(error)),
            "what was under way was not written or not answered"
        );
        for batch in batches {
            match error.take() {
                // It was answered, and would be answered alike again.
                Some(error) if !matches!(error, StoreError::Unreachable(_)) => {
                    let outcomes = self.refused(&batch.commands(), error).await;
                    batch.answer(outcomes);
                }
                _ => self.write_one(batch).await,
            }
        }
    }

    async fn write_one(&mut self, batch: Batch) {
        let outcomes = self.write(&batch.commands()).await;
        batch.answer(outcomes);
    }

    /// Writes a batch, again if the connection was lost: a command that was written answers its first result then.
    async fn write(&mut self, batch: &[&Append]) -> Vec<Outcome> {
        let deadline = Instant::now() + RESEND_PATIENCE;
        let mut pause = RECONNECT_INITIAL;
        let error = loop {
            match self.attempt(batch).await {
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
        self.refused(batch, error).await
    }

    /// What becomes of a batch that the database did not take.
    async fn refused(&mut self, batch: &[&Append], error: StoreError) -> Vec<Outcome> {
        match (&error, batch) {
            // One command that it cannot take must not fail the others.
            (StoreError::Refused(_), [_, _, ..]) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for command in batch {
                    outcomes.extend(Box::pin(self.write(&[command])).await);
                }
                outcomes
            }
            _ => {
                warn!(error = %chain(&error), commands = batch.len(), "a batch was not written");
                batch.iter().map(|_| Err(AppendError::Unavailable(error.clone()))).collect()
            }
        }
    }

    async fn attempt(&mut self, batch: &[&Append]) -> Result<Vec<Outcome>, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connected::new(&self.postgres).await?,
        };
        let answer = connection.append(batch).await;
        // Kept only when it answered: what a refused statement left on the wire is its end, too.
        if !matches!(answer, Err(StoreError::Unreachable(_))) {
            self.connection = Some(connection);
        }
        answer
    }
}
