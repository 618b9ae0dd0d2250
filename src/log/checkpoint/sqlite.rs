//! Checkpoints as rows of `log.db`.
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, params, types::Type};
use uuid::Uuid;

use super::{Checkpoint, Checkpoints};
use crate::{
    sqlite::{Database, Inspected, OpenError},
    store::StoreError,
};

#[derive(Debug)]
pub struct SqliteCheckpoints(pub Database);

#[async_trait]
impl Checkpoints for SqliteCheckpoints {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, StoreError> {
        let name = name.to_owned();
        self.0
            .read(move |connection| {
                let mut select =
                    connection.prepare_cached("SELECT position, event_id FROM checkpoints WHERE name = ?1")?;
                Ok(select.query_row([name], |row| checkpoint_at(row, 0)).optional()?)
            })
            .await
    }

    async fn store(&self, name: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.0
            .write(move |connection| {
                let Checkpoint { position, event_id } = checkpoint;
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO checkpoints (name, position, event_id) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![name, position.cast_signed(), event_id.as_bytes()])?;
                Ok(())
            })
            .await
    }
}

/// The checkpoints in a file that was only looked at, by name.
///
/// # Errors
/// See [`Inspected::look`].
pub fn kept(inspected: &Inspected) -> Result<Vec<(String, Checkpoint)>, OpenError> {
    if !inspected.has_table("checkpoints")? {
        return Ok(Vec::new());
    }
    let select = "SELECT name, position, event_id FROM checkpoints ORDER BY name";
    inspected.look(|connection| {
        connection.prepare(select)?.query_map([], |row| Ok((row.get(0)?, checkpoint_at(row, 1)?)))?.collect()
    })
}

/// The checkpoint whose position stands in `column` and whose event id stands in the next one.
///
/// # Errors
/// When what stands there is no position and id.
pub fn checkpoint_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Checkpoint> {
    let event_id = Uuid::from_slice(&row.get::<_, Vec<u8>>(column + 1)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column + 1, Type::Blob, error.into()))?;
    Ok(Checkpoint { position: row.get::<_, i64>(column)?.cast_unsigned(), event_id })
}
