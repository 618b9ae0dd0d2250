//! Copies SQLite files as they stood at one moment, while others go on writing to them.
//!
//! A snapshot is an open read transaction: writers go on beside it, and the write-ahead log keeps growing until it is let
//! go. Copies are written under temporary names, checked and synced, and get their own names only once all of them are
//! whole, so a directory that a kill left half done holds no file that could be taken for a backup.
use rusqlite::{Connection, OpenFlags, backup::Backup, backup::StepResult};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::open;
use crate::store::StoreError;

/// Pages copied between two looks at whether to go on: 4 MiB, some milliseconds.
const STEP_PAGES: i32 = 1_024;

/// Why there is no backup. What was begun of it is gone again.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{} is not empty: name a directory that is empty or not there yet", .0.display())]
    NotEmpty(PathBuf),
    #[error("{path} cannot be written", path = .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} cannot be copied", path = .path.display())]
    Copy {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the copy of {path} is damaged ({reason}): check the disks and run marvin doctor", path = .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the backup was stopped")]
    Stopped,
}

/// A file as it stood when this was taken, for as long as it is held.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    connection: Connection,
}

impl Snapshot {
    /// Blocks on the disk for one page.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let connection = open::reader(path)?;
        // The first read is what fixes the moment; BEGIN alone does not.
        connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// Asks the snapshot something.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn look<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        ask(&self.connection).map_err(StoreError::from)
    }

    /// Writes the file as it stood to `target`, which must not exist, and syncs it.
    fn copy(self, target: &Path, stopped: &AtomicBool) -> Result<(), BackupError> {
        let io = |source| BackupError::Io { path: target.to_owned(), source };
        let failed = |source| BackupError::Copy { path: self.path.clone(), source };
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map_err(io)?;
        let mut copy = Connection::open(target).map_err(failed)?;
        // Nobody reads the copy until it is whole, and it is synced once, at its end.
        copy.pragma_update(None, "synchronous", "OFF").map_err(failed)?;
        let backup = Backup::new(&self.connection, &mut copy).map_err(failed)?;
        while backup.step(STEP_PAGES).map_err(failed)? != StepResult::Done {
            if stopped.load(Ordering::Relaxed) {
                return Err(BackupError::Stopped);
            }
        }
        drop(backup);
        // The copy is one file then; its next start turns the write-ahead log on again.
        copy.pragma_update(None, "journal_mode", "DELETE").map_err(failed)?;
        copy.close().map_err(|(_, source)| failed(source))?;
        File::open(target).and_then(|file| file.sync_all()).map_err(io)
    }
}

/// Copies each snapshot, in order, into `directory` under its file's own name; each is let go as soon as it is copied.
/// Blocks for as long as that takes; ends early once `stopped` is set.
///
/// # Errors
/// See [`BackupError`].
pub fn copy_all(snapshots: Vec<Snapshot>, directory: &Path, stopped: &AtomicBool) -> Result<(), BackupError> {
    let made = make_empty(directory)?;
    let mut partial = Partial { directory, made, files: Vec::new(), kept: false };
    let mut copies = Vec::new();
    for snapshot in snapshots {
        let name = snapshot.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (unfinished, place) = (directory.join(format!("{name}.partial")), directory.join(name));
        partial.files.extend([unfinished.clone(), place.clone()]);
        snapshot.copy(&unfinished, stopped)?;
        check(&unfinished)?;
        copies.push((unfinished, place));
    }
    for (unfinished, place) in &copies {
        fs::rename(unfinished, place).map_err(|source| BackupError::Io { path: place.clone(), source })?;
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for path in [directory, parent] {
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(|source| BackupError::Io { path: path.to_owned(), source })?;
    }
    partial.kept = true;
    Ok(())
}

/// Makes the directory (0700), or finds it empty; answers whether it made it.
fn make_empty(directory: &Path) -> Result<bool, BackupError> {
    let io = |source| BackupError::Io { path: directory.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(directory).map_err(io)?;
            if entries.next().is_none() { Ok(false) } else { Err(BackupError::NotEmpty(directory.to_owned())) }
        }
        Err(error) => Err(io(error)),
    }
}

/// A backup that is read for the first time on the day it is needed is too late to find damage.
fn check(copy: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::Copy { path: copy.to_owned(), source };
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(BackupError::Damaged { path: copy.to_owned(), reason: open::one_line(&verdict) })
}

/// Takes away what was begun, unless it came to its end.
struct Partial<'a> {
    directory: &'a Path,
    made: bool,
    files: Vec<PathBuf>,
    kept: bool,
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for file in &self.files {
            fs::remove_file(file).ok();
        }
        if self.made {
            fs::remove_dir(self.directory).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use tempfile::TempDir;

    const GO_ON: AtomicBool = AtomicBool::new(false);

    /// A file with so many rows of 1,000 bytes, and the connection that writes to it.
    fn written(rows: u32) -> (TempDir, PathBuf, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)").unwrap();
        add(&connection, rows);
        (dir, path, connection)
    }

    fn add(connection: &Connection, rows: u32) {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                   INSERT INTO t (x) SELECT randomblob(1000) FROM n";
        connection.execute(sql, [rows]).unwrap();
    }

    fn rows(path: &Path) -> i64 {
        Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_copy_holds_what_was_committed_before_the_snapshot_and_nothing_later() {
        let (dir, path, connection) = written(100);
        let snapshot = Snapshot::take(&path).unwrap();
        add(&connection, 50);
        let target = dir.path().join("copy");
        copy_all(vec![snapshot], &target, &GO_ON).unwrap();
        assert_eq!(names(&target), ["log.db"]);
        assert_eq!((rows(&target.join("log.db")), rows(&path)), (100, 150));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&target), mode(&target.join("log.db"))), (0o700, 0o600));
    }

    #[test]
    fn a_writer_commits_while_a_snapshot_is_held_and_waits_for_nothing() {
        let (_dir, path, connection) = written(10);
        connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        let snapshot = Snapshot::take(&path).unwrap();
        add(&connection, 10);
        assert_eq!(snapshot.look(|held| held.query_row("SELECT count(*) FROM t", [], |row| row.get(0))).ok(), Some(10));
    }

    #[test]
    fn a_directory_that_holds_anything_is_refused_and_left_alone() {
        let (dir, path, _connection) = written(1);
        let target = dir.path().join("copy");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("note"), "mine").unwrap();
        let refused = copy_all(vec![Snapshot::take(&path).unwrap()], &target, &GO_ON);
        assert!(matches!(refused, Err(BackupError::NotEmpty(named)) if named == target));
        assert_eq!(names(&target), ["note"]);
        fs::remove_file(target.join("note")).unwrap();
        copy_all(vec![Snapshot::take(&path).unwrap()], &target, &GO_ON).unwrap();
        let refused = copy_all(vec![Snapshot::take(&path).unwrap()], &path, &GO_ON);
        assert!(matches!(refused, Err(BackupError::Io { .. })), "a file is no directory: {refused:?}");
    }

    #[test]
    fn a_backup_that_is_stopped_leaves_nothing_behind() {
        // More pages than one step copies.
        let (dir, path, _connection) = written(6_000);
        let target = dir.path().join("copy");
        let snapshots = || vec![Snapshot::take(&path).unwrap()];
        assert!(matches!(copy_all(snapshots(), &target, &AtomicBool::new(true)), Err(BackupError::Stopped)));
        assert!(!target.exists());
        fs::create_dir(&target).unwrap();
        assert!(copy_all(snapshots(), &target, &AtomicBool::new(true)).is_err());
        assert_eq!(names(&target), [""; 0]);
    }

    #[test]
    fn a_damaged_file_gives_no_backup() {
        let (dir, path, connection) = written(600);
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(connection);
        let mut content = fs::read(&path).unwrap();
        let middle = content.len() / 2 / 4096 * 4096;
        content[middle..middle + 4096].fill(0xa5);
        fs::write(&path, content).unwrap();
        let target = dir.path().join("copy");
        let refused = copy_all(vec![Snapshot::take(&path).unwrap()], &target, &GO_ON);
        assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{refused:?}");
        assert!(!target.exists());
    }
}
