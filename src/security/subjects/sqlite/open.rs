//! Opens the file of subjects: looks before it changes anything, so that a wrong key or a damaged file stays as it is.
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::statements;
use crate::security::cipher::DataKey;
use crate::security::keyfile::KeyWrap;
use crate::security::random;
use crate::security::subjects::SubjectsError;
use crate::sqlite::{one_line, wal};

mod embedded {
    refinery::embed_migrations!("migrations/sqlite/subjects");
}

/// How long a statement waits for another process, such as a backup, before it fails: longer than any of ours takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Credentials and wrapped keys are nobody else's business; the files beside the database take over its mode.
const MODE: u32 = 0o600;
/// The key that facts are sealed under.
const FACTS: &str = "facts";
/// The key of the email index and of other HMACs.
const HMAC: &str = "hmac";

/// The keys of the instance, unwrapped.
pub struct InstanceKeys {
    pub facts: DataKey,
    pub hmac: DataKey,
}

/// A row of `instance_keys`.
pub struct StoredKey {
    pub name: String,
    pub key_id: Uuid,
    pub wrapped: Vec<u8>,
}

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
    let failed = |error| super::failure(path, error);
    // SQLite goes by what it finds in the write-ahead log as soon as it reads: this comes before.
    if let Some(detail) = wal::damage(path).map_err(SubjectsError::unavailable)? {
        return Err(SubjectsError::Damaged { path: path.to_owned(), detail });
    }
    let connection = Connection::open(path).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    check_whole(path, &connection)?;
    check_version(path, &connection)?;
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

fn check_whole(path: &Path, connection: &Connection) -> Result<(), SubjectsError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| super::failure(path, error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(SubjectsError::Damaged { path: path.to_owned(), detail: one_line(&verdict) })
}

/// Every migration that was applied must be one of ours, unchanged; else another version of Marvin made the schema.
fn check_version(path: &Path, connection: &Connection) -> Result<(), SubjectsError> {
    let runner = embedded::migrations::runner();
    let applied = applied_migrations(connection).map_err(|error| super::failure(path, error))?;
    let ours = |version: i64, checksum: &str| {
        let mut known = runner.get_migrations().iter();
        known.any(|known| known.version() == version && known.checksum().to_string() == checksum)
    };
    match applied.iter().find(|(version, checksum)| !ours(*version, checksum)) {
        Some((found, _)) => Err(SubjectsError::OtherVersion { path: path.to_owned(), found: *found }),
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
pub fn prepare(path: &Path, connection: &mut Connection, new_keys: &[StoredKey]) -> Result<(), SubjectsError> {
    let failed = |error| super::failure(path, error);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    // Readers (a backup) and the writer do not block each other, and a crash needs no rollback journal.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    embedded::migrations::runner().run(connection).map_err(SubjectsError::unavailable)?;
    if new_keys.is_empty() {
        return Ok(());
    }
    if statements::has_subjects(connection).map_err(failed)? {
        return Err(SubjectsError::Damaged {
            path: path.to_owned(),
            detail: "it holds people but no instance keys".into(),
        });
    }
    statements::put_instance_keys(connection, new_keys).map_err(failed)
}

/// Unwraps the keys that the store holds, or draws new ones for a store that holds none; these are returned to be kept.
pub async fn instance_keys(
    path: &Path,
    stored: &[StoredKey],
    wrap: &dyn KeyWrap,
) -> Result<(InstanceKeys, Vec<StoredKey>), SubjectsError> {
    if stored.is_empty() {
        let (facts, kept_facts) = draw(FACTS, wrap).await?;
        let (hmac, kept_hmac) = draw(HMAC, wrap).await?;
        return Ok((InstanceKeys { facts, hmac }, vec![kept_facts, kept_hmac]));
    }
    let facts = unwrap_named(path, stored, FACTS, wrap).await?;
    let hmac = unwrap_named(path, stored, HMAC, wrap).await?;
    Ok((InstanceKeys { facts, hmac }, Vec::new()))
}

async fn draw(name: &str, wrap: &dyn KeyWrap) -> Result<(DataKey, StoredKey), SubjectsError> {
    let key = DataKey::generate(uuid::Builder::from_random_bytes(random::bytes()).into_uuid());
    let wrapped = wrap.wrap_key(&context(name), key.expose()).await.map_err(SubjectsError::unavailable)?;
    let stored = StoredKey { name: name.to_owned(), key_id: key.id, wrapped };
    Ok((key, stored))
}

async fn unwrap_named(
    path: &Path,
    stored: &[StoredKey],
    name: &str,
    wrap: &dyn KeyWrap,
) -> Result<DataKey, SubjectsError> {
    let damaged = |detail: String| SubjectsError::Damaged { path: path.to_owned(), detail };
    let row =
        stored.iter().find(|row| row.name == name).ok_or_else(|| damaged(format!("its {name} key is missing")))?;
    let unwrapped = wrap.unwrap_key(&context(name), &row.wrapped).await;
    let key = unwrapped.map_err(|error| super::not_unwrapped(path, &format!("its {name} key"), error))?;
    Ok(DataKey::from_bytes(row.key_id, key))
}

/// Binds a wrapped key of the instance to its name.
pub fn context(name: &str) -> Vec<u8> {
    [b"instance key ", name.as_bytes()].concat()
}
