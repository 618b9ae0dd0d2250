//! Opening a database file: its settings and why, its check, its migrations. A file that does not fit is left as it is.
use refinery::Runner;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::path::{Path, PathBuf};

use super::{Database, wal};
use crate::store::StoreError;

/// How long a statement waits for another connection's lock. Only a checkpoint or a backup ever holds one here.
const BUSY_TIMEOUT_MS: u64 = 5_000;
/// Prepared statements kept per connection: more than any adapter has.
const STATEMENTS_CACHED: usize = 64;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: the file is synced at every commit.
    PowerCut,
    /// A killed process. A power cut may take the newest commits back, never tear the file: for what can be derived again.
    Crash,
}

impl Durability {
    /// What helps when the file is damaged.
    fn remedy(self) -> &'static str {
        match self {
            Self::PowerCut => "restore it from a backup",
            Self::Crash => "delete it, the next start builds it anew",
        }
    }
}

/// Why a database cannot be opened. Each is one sentence for the person who started the program; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is damaged ({reason}): {remedy}; nothing was changed", path = .path.display())]
    Damaged { path: PathBuf, reason: String, remedy: &'static str },
    #[error("{path} was written by a newer Marvin: start that version, or a newer one", path = .path.display())]
    Newer { path: PathBuf },
    #[error("{path} cannot be opened", path = .path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{path} cannot be migrated: {reason}", path = .path.display())]
    Migration { path: PathBuf, reason: String },
    #[error("{path} cannot be used", path = .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A file that is whole and of a version this program knows. Nothing has been written to it.
pub struct Inspected {
    path: PathBuf,
    durability: Durability,
    migrations: Runner,
    connection: Connection,
}

impl Inspected {
    /// Opens `path` and reads the whole of it. A file that is not there is begun, empty.
    ///
    /// # Errors
    /// `Damaged`, `Newer` or `Unusable`; the file then stands as it stood, and so does a write-ahead log that a killed process
    /// left beside it.
    pub fn open(path: &Path, durability: Durability, migrations: Runner) -> Result<Self, OpenError> {
        // SQLite goes by what it finds in the write-ahead log as soon as it reads: this comes before.
        if durability == Durability::PowerCut {
            refuse_damaged_wal(path, durability)?;
        }
        let connection = Connection::open(path).map_err(|error| failure(path, durability, error))?;
        let inspected = Self { path: path.to_owned(), durability, migrations, connection };
        // Until every store is known to fit, closing this one must not move a left-over write-ahead log into it.
        inspected.look(|connection| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true))?;
        inspected.look(tune_reader)?;
        inspected.check()?;
        inspected.refuse_newer()?;
        Ok(inspected)
    }

    /// Asks the file something.
    ///
    /// # Errors
    /// `Damaged` or `Unusable`.
    pub fn look<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, OpenError> {
        ask(&self.connection).map_err(|error| failure(&self.path, self.durability, error))
    }

    /// Whether the file has a table of this name.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn has_table(&self, name: &str) -> Result<bool, OpenError> {
        self.look(|connection| {
            connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
        })
    }

    /// Brings the tables up to date and starts the writer thread. This is the first write to the file.
    ///
    /// # Errors
    /// `Unusable`, `Migration` or `Io`.
    pub fn prepare(mut self) -> Result<Database, OpenError> {
        only_for_owner(&self.path)?;
        self.look(|connection| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false))?;
        self.look(|connection| tune_writer(connection, self.durability))?;
        let Self { path, migrations, connection, .. } = &mut self;
        migrations
            .run(connection)
            .map_err(|error| OpenError::Migration { path: path.clone(), reason: error.to_string() })?;
        let Self { path, connection, .. } = self;
        Database::start(&path, connection).map_err(|source| OpenError::Io { path, source })
    }

    /// `quick_check` reads every page; it does not compare indexes with tables, which would take far longer.
    fn check(&self) -> Result<(), OpenError> {
        let verdict: String =
            self.look(|connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if verdict == "ok" {
            return Ok(());
        }
        let (path, remedy) = (self.path.clone(), self.durability.remedy());
        Err(OpenError::Damaged { path, reason: one_line(&verdict), remedy })
    }

    fn refuse_newer(&self) -> Result<(), OpenError> {
        if !self.has_table("refinery_schema_history")? {
            return Ok(());
        }
        let newest: Option<i64> = self.look(|connection| {
            connection.query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0))
        })?;
        let known = self.migrations.get_migrations().iter().map(|migration| migration.version()).max();
        if newest > known { Err(OpenError::Newer { path: self.path.clone() }) } else { Ok(()) }
    }
}

fn refuse_damaged_wal(path: &Path, durability: Durability) -> Result<(), OpenError> {
    match wal::damage(path) {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(OpenError::Damaged { path: path.to_owned(), reason, remedy: durability.remedy() }),
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}

/// What is in the file is sealed; what is in clear (ids, times, states) is nobody else's business either. SQLite gives its
/// side files the same mode.
fn only_for_owner(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

/// Moves what stands in the write-ahead log into the file, so that the file alone is whole. Safe to repeat.
///
/// # Errors
/// When a reader or writer is in the way for longer than a statement waits, or the disk is full; nothing is lost then.
pub fn gather(connection: &Connection) -> Result<(), StoreError> {
    let is_blocked: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_blocked { Err(StoreError::Commit("the file is in use".into())) } else { Ok(()) }
}

fn failure(path: &Path, durability: Durability, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            OpenError::Damaged { path, reason: error.to_string(), remedy: durability.remedy() }
        }
        _ => OpenError::Unusable { path, source: error },
    }
}

/// A verdict of the database may stand on several lines; a person reads one sentence.
pub fn one_line(verdict: &str) -> String {
    verdict.lines().map(|line| line.trim_matches(['*', ' '])).collect::<Vec<_>>().join(": ")
}

fn tune_writer(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    // Readers go on while the writer commits, and a commit is one append to one file.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: the log is synced at every commit, before it is acknowledged. NORMAL: only before a checkpoint, which keeps the
    // file whole and may lose the newest commits in a power cut.
    let synchronous = match durability {
        Durability::PowerCut => "FULL",
        Durability::Crash => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    tune_reader(connection)
}

/// A further connection to a file that is open already; it cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    tune_reader(&connection)?;
    Ok(connection)
}

fn tune_reader(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
    // Sorting never spills text that the file itself holds only sealed into a temporary file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A schema that someone planted in the file cannot call functions with side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    // Otherwise every new value of a LIMIT has its statement prepared anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn a_page_of_another_length_has_no_statement_prepared_anew() {
        let connection = Connection::open_in_memory().unwrap();
        tune_reader(&connection).unwrap();
        let mut page = connection.prepare("SELECT name FROM sqlite_schema LIMIT ?1").unwrap();
        for length in 1..10 {
            page.query([length]).unwrap().next().unwrap();
        }
        assert_eq!(page.get_status(StatementStatus::RePrepare), 0);
    }
}
