//! This node's writer: takes what gathered while a batch was being committed, and writes it as one batch. A lone command never waits.
use marvin_domain::{Position, StreamId};
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_postgres::Statement;
use tracing::warn;
use uuid::Uuid;

use super::{
    advance,
    batch::{self, Outcome},
    lone,
};
use crate::{
    log::{Append, AppendError},
    postgres::{
        Postgres,
        lines::{Line, over},
    },
    store::{StoreError, chain},
};

/// Commands that may wait; beyond it callers wait to hand theirs in, so that memory stays bounded.
const QUEUE_COMMANDS_MAX: usize = 1_024;
/// Commands per batch: enough to amortise the sync of a commit, few enough that nobody waits long for strangers.
const BATCH_COMMANDS_MAX: usize = 256;
/// Bytes per batch: far below what one statement may hold (1 GiB), and at least one command of the largest kind.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a batch is sent again after a lost connection. Then its callers hear of it; they may send again themselves.
const RESEND_PATIENCE: Duration = Duration::from_secs(6);
/// Pause before a lost connection is made again; doubles up to the maximum.
const RECONNECT_INITIAL: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// The indexes are right whatever the planner knows of a table that was empty when it planned.
const PLANNING: &str = "SET enable_seqscan = off";

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

struct Waiting {
    append: Append,
    reply: oneshot::Sender<Outcome>,
}

pub(super) fn start(postgres: Postgres, head: watch::Sender<Position>, tasks: &mut JoinSet<()>) -> Handle {
    let (sender, queue) = mpsc::channel(QUEUE_COMMANDS_MAX);
    let writer = Arc::new(Mutex::new(Writer { postgres, head, connection: None }));
    tasks.spawn(run(writer.clone(), queue));
    Handle { queue: sender, writer }
}

async fn run(writer: Arc<Mutex<Writer>>, mut queue: mpsc::Receiver<Waiting>) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match queue.recv().await {
                Some(first) => waiting.push_back(first),
                None => return,
            }
        }
        // What comes while another batch is being written joins this one.
        let mut writer = writer.lock().await;
        while waiting.len() < QUEUE_COMMANDS_MAX
            && let Ok(next) = queue.try_recv()
        {
            waiting.push_back(next);
        }
        let (appends, replies): (Vec<_>, Vec<_>) =
            gather(&mut waiting).into_iter().map(|waiting| (waiting.append, waiting.reply)).unzip();
        let outcomes = writer.write(&appends.iter().collect::<Vec<_>>()).await;
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // A caller that went away is no reason to undo what it asked for.
            reply.send(outcome).ok();
        }
    }
}

/// Takes the next batch: one command a stream and one a command id, oldest first. The others wait for the next one.
fn gather(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut batch, mut left) = (Vec::new(), VecDeque::new());
    let (mut streams, mut ids) = (HashSet::<StreamId>::new(), HashSet::<Uuid>::new());
    let mut bytes = 0;
    while let Some(next) = waiting.pop_front() {
        let append = &next.append;
        let is_full = batch.len() >= BATCH_COMMANDS_MAX || (bytes > 0 && bytes + append.bytes() > BATCH_BYTES_MAX);
        let is_free =
            !ids.contains(&append.command_id) && append.streams.iter().all(|append| !streams.contains(&append.stream));
        // Also of who waits: what comes behind it on the same stream must not overtake it.
        ids.insert(append.command_id);
        streams.extend(append.streams.iter().map(|append| append.stream));
        if is_free && !is_full {
            bytes += append.bytes();
            batch.push(next);
        } else {
            left.push_back(next);
        }
    }
    *waiting = left;
    batch
}

/// A connection and the statements prepared on it.
struct Connected {
    line: Line,
    lone: Statement,
    batch: Statement,
}

impl Connected {
    async fn append(&mut self, batch: &[&Append]) -> Result<Vec<Outcome>, StoreError> {
        let Self { line: Line { client, wire, .. }, lone, batch: several } = self;
        let appending = async {
            if let [command] = batch
                && let Some(receipt) = lone::append(client, lone, command).await?
            {
                return Ok(vec![Ok(receipt)]);
            }
            batch::append(client, several, batch).await
        };
        over(wire, appending).await
    }
}

struct Writer {
    postgres: Postgres,
    head: watch::Sender<Position>,
    connection: Option<Connected>,
}

impl Writer {
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
        match (&error, batch) {
            // One command that the database cannot take must not fail the others.
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
            None => connect(&self.postgres).await?,
        };
        let answer = connection.append(batch).await;
        // Kept only when it answered: what a refused statement left on the wire is its end, too.
        if !matches!(answer, Err(StoreError::Unreachable(_))) {
            self.connection = Some(connection);
        }
        answer
    }
}

async fn connect(postgres: &Postgres) -> Result<Connected, StoreError> {
    let mut line = Line::connect(postgres).await?;
    let client = &line.client;
    let preparing = async {
        client.batch_execute(PLANNING).await?;
        Ok::<_, tokio_postgres::Error>((lone::prepare(client).await?, batch::prepare(client).await?))
    };
    let (lone, batch) = over(&mut line.wire, preparing).await?;
    Ok(Connected { line, lone, batch })
}

#[cfg(test)]
mod tests;
