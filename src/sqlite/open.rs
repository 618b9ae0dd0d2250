//! Opening a database file: its settings and why, its check, its migrations. A file that does not fit is left as it is.
use refinery::Runner;
use rusqlite::{Connection, OptionalExtension};
use std::path::{Path, PathBuf};

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

/// Why a database cannot be opened. Each is one sentence for the person who started the program; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is damaged ({reason}): restore it from a backup; nothing was changed", path = .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} was written by a newer Marvin: start that version, or a newer one", path = .path.display())]
    Newer { path: PathBuf },
    #[error("{path} cannot be opened: {source}", path = .path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{path} cannot be migrated: {reason}", path = .path.display())]
    Migration { path: PathBuf, reason: String },
    #[error("the writer of {path} cannot be started: {source}", path = .path.display())]
    Thread {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl OpenError {
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged { path, reason: error.to_string() },
            _ => Self::Unusable { path, source: error },
        }
    }
}

/// Opens `path`, checks the whole file, and brings its tables up to date.
///
/// # Errors
/// `Damaged`, `Newer`, `Unusable` or `Migration`; the file then stands as it stood.
pub fn migrate(path: &Path, durability: Durability, migrations: Runner) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path).map_err(|error| OpenError::of(path, error))?;
    check(&connection, path)?;
    tune_writer(&connection, durability).map_err(|error| OpenError::of(path, error))?;
    refuse_newer(&connection, path, &migrations)?;
    migrations
        .run(&mut connection)
        .map_err(|error| OpenError::Migration { path: path.to_owned(), reason: error.to_string() })?;
    Ok(connection)
}

/// `quick_check` reads every page; it does not compare indexes with tables, which would take far longer.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| OpenError::of(path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Damaged { path: path.to_owned(), reason: verdict }) }
}

fn tune_writer(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    // Readers go on while the writer commits, and a commit is one append to one file.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::PowerCut => "FULL",
        Durability::Crash => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    tune_reader(connection)
}

pub(super) fn tune_reader(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
    // Sorting never spills text that the file itself holds only sealed into a temporary file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A schema that someone planted in the file cannot call functions with side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(())
}

fn refuse_newer(connection: &Connection, path: &Path, migrations: &Runner) -> Result<(), OpenError> {
    let newest: Option<i64> = connection
        .query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0))
        .optional()
        .or_else(|_| Ok(None))
        .map(Option::flatten)
        .map_err(|error: rusqlite::Error| OpenError::of(path, error))?;
    let known = migrations.get_migrations().iter().map(|migration| i64::from(migration.version())).max();
    if newest > known { Err(OpenError::Newer { path: path.to_owned() }) } else { Ok(()) }
}
