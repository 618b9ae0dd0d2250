//! Incarnations as rows of `log.db`.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Row, params, types::Type};
use uuid::Uuid;

use super::{Incarnation, Incarnations};
use crate::{
    log::checkpoint::{Checkpoint, sqlite::checkpoint_at},
    sqlite::Database,
    store::StoreError,
};

#[derive(Debug)]
pub struct SqliteIncarnations(pub Database);

#[async_trait]
impl Incarnations for SqliteIncarnations {
    async fn newest(&self) -> Result<Incarnation, StoreError> {
        // Rows are never deleted, so the last rowid is the newest row whatever the clock said.
        let newest = "SELECT id, position, event_id, drawn_at FROM incarnations ORDER BY rowid DESC LIMIT 1";
        self.0.read(move |connection| Ok(connection.prepare_cached(newest)?.query_row([], incarnation)?)).await
    }

    async fn draw(&self, behind: Checkpoint) -> Result<Incarnation, StoreError> {
        let insert = "INSERT INTO incarnations (id, position, event_id, drawn_at) VALUES (randomblob(16), ?1, ?2, ?3) \
                      RETURNING id, position, event_id, drawn_at";
        let Checkpoint { position, event_id } = behind;
        self.0
            .write(move |connection| {
                let values = params![position.cast_signed(), event_id.as_bytes(), Utc::now().timestamp_millis()];
                Ok(connection.prepare_cached(insert)?.query_row(values, incarnation)?)
            })
            .await
    }
}

fn incarnation(row: &Row<'_>) -> rusqlite::Result<Incarnation> {
    let id = Uuid::from_slice(&row.get::<_, Vec<u8>>(0)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, error.into()))?;
    let drawn_at = DateTime::from_timestamp_millis(row.get(3)?).unwrap_or_default();
    Ok(Incarnation { id, behind: checkpoint_at(row, 1)?, drawn_at })
}
