//! Opens the file of subjects: looks before it changes anything, so that a wrong key or a damaged file stays as it is.
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};

use super::statements;
use crate::security::subjects::keyring::StoredKey;
use crate::security::subjects::{Place, SubjectsError};
use crate::sqlite::{one_line, wal};

mod embedded {
    refinery::embed_migrations!("migrations/sqlite/subjects");
}

/// How long a statement waits for another process, such as a backup, before it fails: longer than any of ours takes.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Credentials and wrapped keys are nobody else's business; the files beside the database take over its mode.
const MODE: u32 = 0o600;
/// Whether the file holds anything that an absent key file would make unreadable.
pub fn holds_data(path: &Path) -> std::io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() > 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the file and checks that it is whole and of a version this program knows. Writes nothing into it.
pub fn inspect(path: &Path) -> Result<(Connection, Vec<StoredKey>), SubjectsError> {
    OpenOptions::new().create(true).append(true).mode(MODE).open(path).map_err(SubjectsError::unavailable)?;
    let place = Place::from(path);
    let failed = |error| super::failure(&place, error);
    // SQLite goes by what it finds in the write-ahead log as soon as it reads: this comes before.
    if let Some(detail) = wal::damage(path).map_err(SubjectsError::unavailable)? {
        return Err(SubjectsError::damaged(&place, detail));
    }
    let connection = Connection::open(path).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    check_whole(&place, &connection)?;
    check_version(&place, &connection)?;
    let keys = stored_keys(&connection).map_err(failed)?;
    Ok((connection, keys))
}

/// Settings of the connection; none of them writes to the file.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Until the file is known to be whole and ours, closing it must not move a left-over log into it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // A commit is on the disk before it is acknowledged: a user's key must not be lost after their first event.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Deleted content is overwritten with zeros instead of staying in free pages.
    connection.pragma_update(None, "secure_delete", "ON")?;
    // What spills while a statement or a VACUUM runs stays in memory: a temporary file would keep bytes of the erased.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A schema that someone planted in the file cannot call functions with side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    // Deleting a person takes their credentials and sessions with them.
    connection.pragma_update(None, "foreign_keys", "ON")
}

fn check_whole(place: &Place, connection: &Connection) -> Result<(), SubjectsError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| super::failure(place, error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(SubjectsError::damaged(place, one_line(&verdict)))
}

/// Every migration that was applied must be one of ours, unchanged; else another version of Marvin made the schema.
fn check_version(place: &Place, connection: &Connection) -> Result<(), SubjectsError> {
    let runner = embedded::migrations::runner();
    let applied = applied_migrations(connection).map_err(|error| super::failure(place, error))?;
    let ours = |version: i64, checksum: &str| {
        let mut known = runner.get_migrations().iter();
        known.any(|known| known.version() == version && known.checksum().to_string() == checksum)
    };
    match applied.iter().find(|(version, checksum)| !ours(*version, checksum)) {
        Some((found, _)) => Err(SubjectsError::OtherVersion { place: place.clone(), found: *found }),
        None => Ok(()),
    }
}

fn applied_migrations(connection: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    if !has_table(connection, "refinery_schema_history")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT version, checksum FROM refinery_schema_history ORDER BY version")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn stored_keys(connection: &Connection) -> rusqlite::Result<Vec<StoredKey>> {
    if !has_table(connection, "instance_keys")? {
        return Ok(Vec::new());
    }
    statements::instance_keys(connection)
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let found =
        connection.query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1", [name], |_| Ok(()));
    found.optional().map(|found| found.is_some())
}

/// Brings the schema up to date and keeps newly made keys. This is the first write to the file.
pub fn prepare(place: &Place, connection: &mut Connection, new_keys: &[StoredKey]) -> Result<(), SubjectsError> {
    let failed = |error| super::failure(place, error);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    // Readers (a backup) and the writer do not block each other, and a crash needs no rollback journal.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    embedded::migrations::runner().run(connection).map_err(SubjectsError::unavailable)?;
    if new_keys.is_empty() {
        return Ok(());
    }
    if statements::has_subjects(connection).map_err(failed)? {
        return Err(SubjectsError::damaged(place, "it holds people but no instance keys"));
    }
    statements::put_instance_keys(connection, new_keys).map_err(failed)
}
