//! One SQLite file: a writer thread that commits what has gathered in one transaction, and a pool of readers.
//!
//! Knows nothing of tables. The log, the lease rows and the views each bring their own statements.
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::sync::Semaphore;

pub mod backup;
mod open;
pub mod wal;
mod writer;
use backup::Snapshot;
pub use open::{Durability, Inspected, OpenError, gather, one_line};
pub use writer::COMMITS;
use writer::{Writer, undone_on_error};

use crate::store::StoreError;

/// Milliseconds since 1970 by the database's clock, as SQL.
pub const NOW_MS: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
/// Connections that read at once: more than the cores of a small machine gain nothing.
const READERS_MAX: usize = 4;

/// A handle that may be cloned; the file is closed when the last one goes.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.inner.path.display())
    }
}

impl Database {
    /// Takes a connection that is open, checked and migrated, and starts its writer thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(path: &Path, connection: Connection) -> std::io::Result<Self> {
        let writer = Writer::start(path, connection)?;
        let inner = Inner {
            writer,
            path: path.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(READERS_MAX)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `job` on the writer thread, in one transaction with whatever else has gathered, and answers once it is committed.
    ///
    /// When `job` fails, what it wrote is undone and the others of its batch are not touched. When the commit fails, nothing of
    /// the batch was written.
    ///
    /// # Errors
    /// The job's own, or a `StoreError` of the transaction.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.inner.writer.run(move |connection| undone_on_error(connection, job)).await
    }

    /// As [`write`](Self::write), for a job that leaves nothing behind when it fails: it needs no savepoint around it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_whole<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.inner.writer.run(job).await
    }

    /// Finishes the writes handed in before, leaves the file whole without a write-ahead log, and writes nothing from then on:
    /// a later write reads [`StoreError::Closed`]. Safe to repeat.
    ///
    /// # Errors
    /// As [`gather`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.writer.close().await
    }

    /// Runs `job` on a reader, outside the async threads. It sees every commit that was acknowledged before.
    ///
    /// # Errors
    /// The job's own, or a `StoreError` when no reader can be opened.
    pub async fn read<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        // The permit goes with the work: a caller that goes away frees no place while its job still runs.
        let permit = self.inner.permits.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let inner = self.inner.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let connection = match inner.take() {
                Some(connection) => connection,
                None => open::reader(&inner.path)?,
            };
            let outcome = job(&connection);
            inner.give_back(connection);
            drop(permit);
            outcome
        });
        reading.await.map_err(|_| StoreError::Closed)?
    }

    /// The file as it stands now, beside the readers. Blocks on the disk for one page.
    ///
    /// # Errors
    /// See [`Snapshot::take`].
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::take(&self.inner.path)
    }
}

impl Inner {
    fn take(&self) -> Option<Connection> {
        self.idle.lock().ok()?.pop()
    }

    fn give_back(&self, connection: Connection) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(connection);
        }
    }
}
