//! Duties as rows of `log.db`.
use async_trait::async_trait;
use chrono::DateTime;
use rusqlite::{OptionalExtension, Row, params, types::Type};
use std::time::Duration;
use uuid::Uuid;

use super::{Duties, Held, millis};
use crate::{
    sqlite::{Database, NOW_MS},
    store::StoreError,
};

#[derive(Debug)]
pub struct SqliteDuties(pub Database);

impl SqliteDuties {
    /// Ends all leases. Only for the one process that owns the data directory, at its start: it knows that no holder lives.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn release_all(&self) -> Result<(), StoreError> {
        self.0.write(|connection| Ok(connection.execute("UPDATE duties SET expires_at = 0", []).map(drop)?)).await
    }
}

fn held(row: &Row<'_>) -> rusqlite::Result<Held> {
    let holder = Uuid::from_slice(&row.get::<_, Vec<u8>>(1)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, error.into()))?;
    let expires_at = DateTime::from_timestamp_millis(row.get(3)?).unwrap_or_default();
    Ok(Held { duty: row.get(0)?, holder, token: row.get::<_, i64>(2)?.cast_unsigned(), expires_at })
}

#[async_trait]
impl Duties for SqliteDuties {
    async fn take(&self, duty: &str, holder: Uuid, ttl: Duration) -> Result<Option<u64>, StoreError> {
        let sql = format!(
            "INSERT INTO duties (duty, holder, token, expires_at) VALUES (?1, ?2, 1, {NOW_MS} + ?3) \
             ON CONFLICT DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at, \
                 token = token + (expires_at <= {NOW_MS}) \
             WHERE holder = excluded.holder OR expires_at <= {NOW_MS} \
             RETURNING token"
        );
        let duty = duty.to_owned();
        self.0
            .write(move |connection| {
                let token: Option<i64> = connection
                    .prepare_cached(&sql)?
                    .query_row(params![duty, holder.as_bytes(), millis(ttl)], |row| row.get(0))
                    .optional()?;
                Ok(token.map(i64::cast_unsigned))
            })
            .await
    }

    async fn renew(&self, holder: Uuid, ttl: Duration) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = format!(
            "UPDATE duties SET expires_at = {NOW_MS} + ?2 WHERE holder = ?1 AND expires_at > {NOW_MS} \
             RETURNING duty, token"
        );
        self.0
            .write(move |connection| {
                let mut update = connection.prepare_cached(&sql)?;
                let renewed = update.query_map(params![holder.as_bytes(), millis(ttl)], |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
                })?;
                let mut renewed: Vec<_> = renewed.collect::<rusqlite::Result<_>>()?;
                renewed.sort_unstable();
                Ok(renewed)
            })
            .await
    }

    async fn release(&self, duty: &str, holder: Uuid) -> Result<(), StoreError> {
        let duty = duty.to_owned();
        self.0
            .write(move |connection| {
                connection
                    .prepare_cached("UPDATE duties SET expires_at = 0 WHERE duty = ?1 AND holder = ?2")?
                    .execute(params![duty, holder.as_bytes()])?;
                Ok(())
            })
            .await
    }

    async fn held(&self) -> Result<Vec<Held>, StoreError> {
        let sql =
            format!("SELECT duty, holder, token, expires_at FROM duties WHERE expires_at > {NOW_MS} ORDER BY duty");
        self.0
            .read(move |connection| {
                Ok(connection.prepare_cached(&sql)?.query_map([], held)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn pass(&self, duty: &str, token: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO duties (duty, token, expires_at) VALUES (?1, ?2, 0) \
                   ON CONFLICT DO UPDATE SET token = excluded.token WHERE token < excluded.token";
        let (duty, token) = (duty.to_owned(), token.cast_signed());
        self.0.write(move |connection| Ok(connection.execute(sql, params![duty, token]).map(drop)?)).await
    }
}
