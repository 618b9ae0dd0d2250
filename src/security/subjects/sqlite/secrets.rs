//! The SQL of secrets: one function a statement, each on a connection that the caller holds.
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uuid::Uuid;

use super::statements::uuid;
use crate::security::subjects::keyring::Replacement;
use crate::security::subjects::secrets::{KeptSecret, SealedSecret};

/// Keeps a value unless that makes more than `names_max` names; answers whether it did.
pub fn put(connection: &mut Connection, secret: &SealedSecret, names_max: u32) -> Result<bool> {
    let transaction = connection.transaction()?;
    let count = "SELECT count(DISTINCT name) FROM secrets WHERE name <> ?1";
    let others: u32 = transaction.query_row(count, [&secret.name], |row| row.get(0))?;
    if others >= names_max {
        return Ok(false);
    }
    let SealedSecret { id, name, wrapped, sealed, kept_at_ms } = secret;
    let sql = "INSERT INTO secrets (id, name, wrapped_key, sealed, kept_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.execute(sql, params![id.as_bytes(), name, wrapped, sealed, kept_at_ms])?;
    transaction.commit()?;
    Ok(true)
}

pub fn get(connection: &Connection, id: Uuid) -> Result<Option<SealedSecret>> {
    let sql = "SELECT name, wrapped_key, sealed, kept_at FROM secrets WHERE id = ?1";
    let read = |row: &Row<'_>| {
        let (name, wrapped, sealed) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(SealedSecret { id, name, wrapped, sealed, kept_at_ms: row.get(3)? })
    };
    connection.prepare_cached(sql)?.query_row([id.as_bytes()], read).optional()
}

pub fn list(connection: &Connection) -> Result<Vec<KeptSecret>> {
    let mut statement = connection.prepare_cached("SELECT id, name, kept_at FROM secrets ORDER BY name, id")?;
    let read = |row: &Row<'_>| Ok(KeptSecret { id: uuid(row, 0)?, name: row.get(1)?, kept_at_ms: row.get(2)? });
    statement.query_map([], read)?.collect()
}

pub fn delete(connection: &Connection, name: &str, newest: Uuid) -> Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM secrets WHERE name = ?1 AND id <= ?2")?;
    statement.execute(params![name, newest.as_bytes()]).map(drop)
}

pub fn wrapped(connection: &Connection) -> Result<Vec<(Uuid, Vec<u8>)>> {
    let mut statement = connection.prepare_cached("SELECT id, wrapped_key FROM secrets")?;
    statement.query_map([], |row| Ok((uuid(row, 0)?, row.get(1)?)))?.collect()
}

pub fn replace_wrapped(connection: &mut Connection, keys: &[Replacement<Uuid>]) -> Result<()> {
    let transaction = connection.transaction()?;
    for key in keys {
        let sql = "UPDATE secrets SET wrapped_key = ?3 WHERE id = ?1 AND wrapped_key = ?2";
        transaction.execute(sql, params![key.of.as_bytes(), key.old, key.new])?;
    }
    transaction.commit()
}
