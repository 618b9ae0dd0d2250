//! The SQL of the subjects store: one function a statement, each on a connection that the caller holds.
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uuid::Uuid;

use crate::security::subjects::keyring::{Replacement, StoredKey};
use crate::security::subjects::{Checkpoint, Credential, HASH_BYTES, Registration, SessionRow};

const SESSION_COLUMNS: &str = "id, user_id, token_hash, created_at, expires_at";

pub fn instance_keys(connection: &Connection) -> Result<Vec<StoredKey>> {
    let mut statement = connection.prepare("SELECT name, key_id, wrapped FROM instance_keys")?;
    let key = |row: &Row<'_>| Ok(StoredKey { name: row.get(0)?, key_id: uuid(row, 1)?, wrapped: row.get(2)? });
    statement.query_map([], key)?.collect()
}

pub fn put_instance_keys(connection: &mut Connection, keys: &[StoredKey]) -> Result<()> {
    let transaction = connection.transaction()?;
    for key in keys {
        transaction.execute(
            "INSERT INTO instance_keys (name, key_id, wrapped) VALUES (?1, ?2, ?3)",
            params![key.name, key.key_id.as_bytes(), key.wrapped],
        )?;
    }
    transaction.commit()
}

pub fn has_subjects(connection: &Connection) -> Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM subjects)", [], |row| row.get(0))
}

/// Puts wrapped keys in place of the wrapped keys they were made from; those that are gone or changed stay so.
pub fn replace_instance_keys(connection: &mut Connection, keys: &[Replacement<String>]) -> Result<()> {
    let transaction = connection.transaction()?;
    for key in keys {
        let sql = "UPDATE instance_keys SET wrapped = ?3 WHERE name = ?1 AND wrapped = ?2";
        transaction.execute(sql, params![key.of, key.old, key.new])?;
    }
    transaction.commit()
}

/// The next rows behind `after`, in the order of ids.
pub fn wrapped_page(connection: &Connection, after: Option<Uuid>, rows_max: u32) -> Result<Vec<(Uuid, Vec<u8>)>> {
    let mut statement = connection
        .prepare_cached("SELECT user_id, wrapped_key FROM subjects WHERE user_id > ?1 ORDER BY user_id LIMIT ?2")?;
    // No bytes at all sort before any id.
    let after = after.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
    statement.query_map(params![after, rows_max], |row| Ok((uuid(row, 0)?, row.get(1)?)))?.collect()
}

/// As [`replace_instance_keys`], for people.
pub fn replace_wrapped(connection: &mut Connection, keys: &[Replacement<Uuid>]) -> Result<()> {
    let transaction = connection.transaction()?;
    {
        let sql = "UPDATE subjects SET wrapped_key = ?3 WHERE user_id = ?1 AND wrapped_key = ?2";
        let mut statement = transaction.prepare_cached(sql)?;
        for key in keys {
            statement.execute(params![key.of.as_bytes(), key.old, key.new])?;
        }
    }
    transaction.commit()
}

/// Makes the row for a new email; where the email has one, answers whose.
pub fn register(
    connection: &mut Connection,
    candidate: Uuid,
    email_hmac: &[u8],
    wrapped_key: &[u8],
    now_ms: i64,
) -> Result<Registration> {
    let transaction = connection.transaction()?;
    let registration = if insert_subject(&transaction, candidate, email_hmac, wrapped_key, now_ms)? {
        Registration::Created { user_id: candidate }
    } else {
        let user_id = user_by_email(&transaction, email_hmac)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Registration::Existing { user_id }
    };
    transaction.commit()?;
    Ok(registration)
}

/// Inserts the row unless the email or the id has one already; answers whether it did.
fn insert_subject(
    connection: &Connection,
    user_id: Uuid,
    email_hmac: &[u8],
    wrapped_key: &[u8],
    created_at_ms: i64,
) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO subjects (user_id, email_hmac, wrapped_key, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )?;
    Ok(statement.execute(params![user_id.as_bytes(), email_hmac, wrapped_key, created_at_ms])? > 0)
}

pub fn user_by_email(connection: &Connection, email_hmac: &[u8]) -> Result<Option<Uuid>> {
    let mut statement = connection.prepare_cached("SELECT user_id FROM subjects WHERE email_hmac = ?1")?;
    statement.query_row([email_hmac], |row| uuid(row, 0)).optional()
}

/// The wrapped keys of those of `user_ids` that have a row.
pub fn wrapped_keys(connection: &Connection, user_ids: &[Uuid]) -> Result<Vec<(Uuid, Vec<u8>)>> {
    let mut statement = connection.prepare_cached("SELECT wrapped_key FROM subjects WHERE user_id = ?1")?;
    let mut found = Vec::with_capacity(user_ids.len());
    for id in user_ids {
        if let Some(wrapped) = statement.query_row([id.as_bytes()], |row| row.get(0)).optional()? {
            found.push((*id, wrapped));
        }
    }
    Ok(found)
}

/// Deletes these people; the schema deletes their credentials and sessions in the same transaction.
pub fn delete_subjects(connection: &mut Connection, user_ids: &[Uuid]) -> Result<()> {
    let transaction = connection.transaction()?;
    for user_id in user_ids {
        transaction.prepare_cached("DELETE FROM subjects WHERE user_id = ?1")?.execute([user_id.as_bytes()])?;
    }
    transaction.commit()
}

/// Rewrites the files without what was deleted; answers whether nobody stood in the way.
///
/// `secure_delete` alone is not enough: when SQLite moves rows from page to page, it may leave copies of them in the
/// gaps of the old pages, and those are not overwritten when the row is deleted. Then the write-ahead log, which holds
/// older pages, is cut to nothing.
pub fn scrub(connection: &Connection) -> Result<bool> {
    connection.execute_batch("VACUUM")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Answers false when the id is another person's.
pub fn put_credential(connection: &Connection, credential: &Credential) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO credentials (id, user_id, phc, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET phc = excluded.phc WHERE user_id = excluded.user_id",
    )?;
    let (id, user_id) = (credential.id.as_bytes(), credential.user_id.as_bytes());
    Ok(statement.execute(params![id, user_id, credential.phc, credential.created_at_ms])? > 0)
}

pub fn credential(connection: &Connection, id: Uuid) -> Result<Option<Credential>> {
    let mut statement = connection.prepare_cached("SELECT user_id, phc, created_at FROM credentials WHERE id = ?1")?;
    let read =
        |row: &Row<'_>| Ok(Credential { id, user_id: uuid(row, 0)?, phc: row.get(1)?, created_at_ms: row.get(2)? });
    statement.query_row([id.as_bytes()], read).optional()
}

pub fn drop_other_credentials(connection: &Connection, user_id: Uuid, kept: Uuid) -> Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM credentials WHERE user_id = ?1 AND id <> ?2")?;
    statement.execute(params![user_id.as_bytes(), kept.as_bytes()]).map(drop)
}

pub fn create_session(connection: &Connection, session: &SessionRow) -> Result<()> {
    let sql = format!("INSERT INTO sessions ({SESSION_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)");
    connection
        .prepare_cached(&sql)?
        .execute(params![
            session.id.as_bytes(),
            session.user_id.as_bytes(),
            session.token_hash,
            session.created_at_ms,
            session.expires_at_ms,
        ])
        .map(drop)
}

pub fn session_by_token(connection: &Connection, token_hash: &[u8; HASH_BYTES]) -> Result<Option<SessionRow>> {
    let sql = format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE token_hash = ?1");
    connection.prepare_cached(&sql)?.query_row([token_hash], session).optional()
}

pub fn sessions_of(connection: &Connection, user_id: Uuid) -> Result<Vec<SessionRow>> {
    let sql = format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE user_id = ?1 ORDER BY created_at DESC, id DESC");
    connection.prepare_cached(&sql)?.query_map([user_id.as_bytes()], session)?.collect()
}

pub fn end_session(connection: &Connection, user_id: Uuid, id: Uuid) -> Result<Option<SessionRow>> {
    let sql = format!("DELETE FROM sessions WHERE user_id = ?1 AND id = ?2 RETURNING {SESSION_COLUMNS}");
    let mut statement = connection.prepare_cached(&sql)?;
    // Read to the end: a RETURNING statement that is dropped half way is rolled back.
    let mut ended = statement.query_map(params![user_id.as_bytes(), id.as_bytes()], session)?;
    let first = ended.next().transpose()?;
    ended.for_each(drop);
    Ok(first)
}

pub fn end_sessions_of(connection: &Connection, user_id: Uuid) -> Result<Vec<SessionRow>> {
    let sql = format!("DELETE FROM sessions WHERE user_id = ?1 RETURNING {SESSION_COLUMNS}");
    connection.prepare_cached(&sql)?.query_map([user_id.as_bytes()], session)?.collect()
}

pub fn purge_sessions(connection: &Connection, now_ms: i64) -> Result<u64> {
    let purged = connection.prepare_cached("DELETE FROM sessions WHERE expires_at <= ?1")?.execute([now_ms])?;
    Ok(purged as u64)
}

pub fn checkpoint(connection: &Connection, name: &str) -> Result<Option<Checkpoint>> {
    let mut statement = connection.prepare_cached("SELECT position, event_id FROM checkpoints WHERE name = ?1")?;
    // SQLite's integers are signed; the log's positions are far from the difference.
    let read =
        |row: &Row<'_>| Ok(Checkpoint { position: row.get::<_, i64>(0)?.cast_unsigned(), event_id: uuid(row, 1)? });
    statement.query_row([name], read).optional()
}

pub fn put_checkpoint(connection: &Connection, name: &str, checkpoint: Checkpoint) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO checkpoints (name, position, event_id) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET position = excluded.position, event_id = excluded.event_id",
    )?;
    statement.execute(params![name, checkpoint.position.cast_signed(), checkpoint.event_id.as_bytes()]).map(drop)
}

fn session(row: &Row<'_>) -> Result<SessionRow> {
    Ok(SessionRow {
        id: uuid(row, 0)?,
        user_id: uuid(row, 1)?,
        token_hash: row.get(2)?,
        created_at_ms: row.get(3)?,
        expires_at_ms: row.get(4)?,
    })
}

pub(super) fn uuid(row: &Row<'_>, column: usize) -> Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}
