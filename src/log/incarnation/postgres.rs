//! Incarnations as rows of the log's schema.
use async_trait::async_trait;
use marvin_domain::Position;
use tokio_postgres::Row;

use super::{Incarnation, Incarnations};
use crate::{log::checkpoint::Checkpoint, postgres::Postgres, store::StoreError};

#[derive(Debug)]
pub struct PostgresIncarnations(pub Postgres);

#[async_trait]
impl Incarnations for PostgresIncarnations {
    async fn newest(&self) -> Result<Incarnation, StoreError> {
        let sql = "SELECT id, position, event_id, drawn_at FROM incarnations ORDER BY number DESC LIMIT 1";
        let rows = self.0.query(sql, &[]).await?;
        rows.first().map(incarnation).ok_or_else(|| StoreError::Commit("the log names no history".into()))
    }

    async fn draw(&self, behind: Checkpoint) -> Result<Incarnation, StoreError> {
        let sql = "INSERT INTO incarnations (id, position, event_id, drawn_at) \
                   VALUES (gen_random_uuid(), $1, $2, date_trunc('milliseconds', clock_timestamp())) \
                   RETURNING id, position, event_id, drawn_at";
        let rows = self.0.query(sql, &[&behind.position.cast_signed(), &behind.event_id]).await?;
        rows.first().map(incarnation).ok_or_else(|| StoreError::Commit("a history was not drawn".into()))
    }
}

fn incarnation(row: &Row) -> Incarnation {
    let position: Position = row.get::<_, i64>(1).cast_unsigned();
    Incarnation { id: row.get(0), behind: Checkpoint { position, event_id: row.get(2) }, drawn_at: row.get(3) }
}
