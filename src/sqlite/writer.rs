//! The writer thread: takes what has gathered, runs it in one transaction, commits, and only then answers.
use rusqlite::Connection;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
    vec::Drain,
};
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};
use tracing::error;

use super::open::gather;
use crate::store::StoreError;

/// Jobs that may wait; beyond it callers wait to hand theirs in, so that memory stays bounded.
const QUEUE_JOBS_MAX: usize = 1_024;
/// Jobs per transaction: enough to amortise the sync of a commit, few enough that nobody waits long for strangers.
const BATCH_JOBS_MAX: usize = 256;
/// How long the thread looks for more before it sleeps. Who writes one thing after the other comes back within it, and waking the
/// thread would take a third as long as the whole commit.
const SLEEPLESS: Duration = Duration::from_micros(50);
/// Counts commits over all files; with the appends beside it, it tells how many share a sync.
pub const COMMITS: &str = "marvin_sqlite_commits_total";

/// Answers the caller once the fate of the transaction is known.
type Reply = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;
/// Runs in the batch's transaction, or hears why it cannot, and then has answered already.
type Job = Box<dyn FnOnce(Result<&Connection, &StoreError>) -> Option<Reply> + Send>;

/// Answered once everything is in the one file.
type Closed = oneshot::Sender<Result<(), StoreError>>;

enum Message {
    Job(Job),
    Close(Closed),
}

pub(super) struct Writer {
    messages: mpsc::Sender<Message>,
}

impl Writer {
    pub(super) fn start(path: &Path, connection: Connection) -> std::io::Result<Self> {
        let (messages, mut queue) = mpsc::channel::<Message>(QUEUE_JOBS_MAX);
        let name = path.file_name().map_or_else(|| "sqlite".into(), |name| name.to_string_lossy().into_owned());
        std::thread::Builder::new().name(name).spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_JOBS_MAX);
            let mut next = queue.blocking_recv();
            while let Some(Message::Job(first)) = next {
                batch.push(first);
                next = loop {
                    match queue.try_recv() {
                        Ok(Message::Job(job)) if batch.len() < BATCH_JOBS_MAX => batch.push(job),
                        other => break other.ok(),
                    }
                };
                commit(&connection, &mut batch);
                next = next.or_else(|| soon(&mut queue)).or_else(|| queue.blocking_recv());
            }
            // What still waits is dropped with the queue, and reads "closed".
            drop(queue);
            if let Some(Message::Close(answer)) = next {
                answer.send(gather(&connection)).ok();
            }
        })?;
        Ok(Self { messages })
    }

    /// Commits what was handed in before, moves it all into the one file, and ends the thread.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let (answer, outcome) = oneshot::channel();
        match self.messages.send(Message::Close(answer)).await {
            Ok(()) => outcome.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Runs a job that leaves nothing behind when it fails: see [`undone_on_error`].
    pub(super) async fn run<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    answer.send(Err(E::from(error.clone()))).ok();
                    return None;
                }
            };
            let result = job(connection);
            // A caller that went away is no reason to undo what it asked for.
            Some(Box::new(move |committed: Result<(), &StoreError>| {
                let result = match (result, committed) {
                    (Err(own), _) => Err(own),
                    (Ok(value), Ok(())) => Ok(value),
                    (Ok(_), Err(failed)) => Err(E::from(failed.clone())),
                };
                answer.send(result).ok();
            }))
        });
        self.messages.send(Message::Job(job)).await.map_err(|_| StoreError::Closed)?;
        outcome.await.map_err(|_| StoreError::Closed)?
    }
}

/// What comes while the thread stays awake.
fn soon(queue: &mut mpsc::Receiver<Message>) -> Option<Message> {
    let begun = Instant::now();
    while begun.elapsed() < SLEEPLESS {
        match queue.try_recv() {
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
            other => return other.ok(),
        }
    }
    None
}

/// Runs a job behind a savepoint, so that a job that fails leaves nothing and the others of its batch stand.
pub(super) fn undone_on_error<T, E: From<StoreError>>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let run = |sql: &str| connection.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(StoreError::from);
    run("SAVEPOINT job")?;
    let result = job(connection);
    if result.is_err() {
        // On a full disk SQLite may have rolled the whole transaction back already; `commit` finds that out.
        run("ROLLBACK TO job").ok();
    }
    run("RELEASE job").ok();
    result
}

fn commit(connection: &Connection, batch: &mut Vec<Job>) {
    if let Err(error) = begin(connection) {
        error!(error = %error, jobs = batch.len(), "a transaction could not be begun");
        // Nothing of it ran: each is told why.
        for job in batch.drain(..) {
            job(Err(&error));
        }
        return;
    }
    let mut replies = Vec::with_capacity(batch.len());
    let mut jobs = batch.drain(..);
    let outcome = transact(connection, &mut jobs, &mut replies);
    if let Err(error) = &outcome {
        error!(error = %error, jobs = replies.len(), "a transaction could not be committed");
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").ok();
        }
        for job in jobs {
            job(Err(error));
        }
    }
    for reply in replies {
        reply(outcome.as_ref().copied());
    }
}

fn begin(connection: &Connection) -> Result<(), StoreError> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    Ok(())
}

fn transact(connection: &Connection, jobs: &mut Drain<'_, Job>, replies: &mut Vec<Reply>) -> Result<(), StoreError> {
    for job in jobs {
        // A job that panics must not take the writer with it: its batch is undone, and the callers hear of it.
        let run = catch_unwind(AssertUnwindSafe(|| job(Ok(connection))));
        replies.extend(run.map_err(|_| StoreError::Commit("a job of the batch panicked".into()))?);
        if connection.is_autocommit() {
            return Err(StoreError::Commit(
                "the transaction was rolled back by the database (is the disk full?)".into(),
            ));
        }
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    metrics::counter!(COMMITS).increment(1);
    Ok(())
}
