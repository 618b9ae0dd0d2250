//! What an operator asks of the stores, also while they serve: a backup of files, a new key-encryption key.
//!
//! A backup works on files, so it names the adapters that own them. One thing is done at a time: no backup holds a half rotated
//! store of subjects, unless a rotation was cut short before.
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::{JoinError, spawn_blocking},
};
use tracing::info;

use crate::{
    log::sqlite::SqliteLog,
    security::{
        keyfile::{KeyFileError, MasterKey},
        subjects::{SqliteSubjects, SubjectStore, SubjectsError},
    },
    sqlite::backup::{BackupError, copy_all},
};

#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error("a backup or a rotation is under way: ask again when it is done")]
    Busy,
    #[error("the log and the keys are in PostgreSQL: back them up with pg_dump, as docs/postgresql.md says")]
    NoFiles,
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Subjects(#[from] SubjectsError),
    #[error("it ended before it was done")]
    Ended(#[from] JoinError),
}

#[derive(Debug)]
pub struct Upkeep {
    /// What can be copied by this process; databases bring tools of their own for that.
    files: Option<Files>,
    subjects: Arc<dyn SubjectStore>,
    key: Arc<MasterKey>,
    turn: Arc<Mutex<()>>,
    stopped: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Files {
    log: Arc<SqliteLog>,
    subjects: Arc<SqliteSubjects>,
}

impl Upkeep {
    /// Of stores that are files.
    pub fn of_files(log: Arc<SqliteLog>, subjects: Arc<SqliteSubjects>, key: Arc<MasterKey>) -> Self {
        Self { files: Some(Files { log, subjects: subjects.clone() }), ..Self::of_keys(subjects, key) }
    }

    /// Of stores that a database keeps, but for the key file.
    pub fn of_keys(subjects: Arc<dyn SubjectStore>, key: Arc<MasterKey>) -> Self {
        Self { files: None, subjects, key, turn: Arc::default(), stopped: Arc::default() }
    }

    /// Where the key-encryption key is kept: in no backup.
    pub fn key_file(&self) -> &Path {
        self.key.path()
    }

    /// Copies the log and the store of subjects into `directory`, which is made (0700) or empty; answers how many events
    /// the copy holds: all that were acknowledged before this was called, and maybe some more.
    ///
    /// # Errors
    /// Nothing is left in `directory` then, and it may be repeated.
    pub async fn back_up(&self, directory: PathBuf) -> Result<u64, UpkeepError> {
        let files = self.files.as_ref().ok_or(UpkeepError::NoFiles)?;
        let turn = self.take_turn()?;
        let begun = Instant::now();
        // Neither file may be copied as of an earlier moment than the other. With the subjects earlier, the log would hold
        // words of people whose key came later, and its reader would stop. With the log earlier, it would lack the event
        // that explains why an erased person's key is gone, and end before the position that erasures have reached. So
        // both snapshots are of one moment, at which no key comes or goes: what is restored is what a crash at that
        // moment would have left. The smaller file is copied first, because an erasure waits until its snapshot is gone.
        let log = files.log.clone();
        let (subjects, (log, events)) = files.subjects.snapshot_with(move || log.snapshot()).await?;
        let stopped = self.stopped.clone();
        let copied = spawn_blocking(move || {
            // The turn goes with the work, which ends by itself when nobody waits for it any more.
            let _turn = turn;
            copy_all(vec![subjects, log], &directory, &stopped)
        });
        copied.await??;
        info!(events, duration_ms = begun.elapsed().as_millis() as u64, "a backup was made");
        Ok(events)
    }

    /// Puts a new key-encryption key into the key file and wraps every key under it; answers how many. A rotation that was
    /// cut short before is finished, without another new key.
    ///
    /// # Errors
    /// The key file then opens everything, and this may be repeated.
    pub async fn rotate_keys(&self) -> Result<u64, UpkeepError> {
        let _turn = self.take_turn()?;
        let begun = Instant::now();
        self.subjects.await_rotation().await?;
        let key = self.key.clone();
        spawn_blocking(move || key.begin_rotation()).await??;
        let rewrapped = self.subjects.rewrap().await?;
        let key = self.key.clone();
        spawn_blocking(move || key.end_rotation()).await??;
        info!(keys = rewrapped, duration_ms = begun.elapsed().as_millis() as u64, "the key-encryption key was rotated");
        Ok(rewrapped)
    }

    /// Lets a backup that runs end at its next step, without a result: call it before the stores are closed.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn take_turn(&self) -> Result<OwnedMutexGuard<()>, UpkeepError> {
        self.turn.clone().try_lock_owned().map_err(|_| UpkeepError::Busy)
    }
}
