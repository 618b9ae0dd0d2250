//! Duties as rows of the log's schema, for any number of nodes.
use async_trait::async_trait;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Duties, Held, millis};
use crate::{postgres::Postgres, store::StoreError};

#[derive(Debug)]
pub struct PostgresDuties(pub Postgres);

fn token(row: &Row, column: usize) -> u64 {
    row.get::<_, i64>(column).cast_unsigned()
}

#[async_trait]
impl Duties for PostgresDuties {
    async fn take(&self, duty: &str, holder: Uuid, ttl: Duration) -> Result<Option<u64>, StoreError> {
        // What follows the conflict is asked once the row is locked, so the time there is no older than what is found.
        let sql = "INSERT INTO duties AS d (duty, holder, token, expires_at) \
                   VALUES ($1, $2, 1, clock_timestamp() + $3::bigint * interval '1 millisecond') \
                   ON CONFLICT (duty) DO UPDATE SET holder = excluded.holder, \
                       expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond', \
                       token = d.token + CASE WHEN d.expires_at <= clock_timestamp() THEN 1 ELSE 0 END \
                   WHERE d.holder = excluded.holder OR d.expires_at <= clock_timestamp() \
                   RETURNING d.token";
        let rows = self.0.query(sql, &[&duty, &holder, &millis(ttl)]).await?;
        Ok(rows.first().map(|row| token(row, 0)))
    }

    async fn renew(&self, holder: Uuid, ttl: Duration) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "UPDATE duties SET expires_at = clock_timestamp() + $2::bigint * interval '1 millisecond' \
                   WHERE holder = $1 AND expires_at > clock_timestamp() RETURNING duty, token";
        let rows = self.0.query(sql, &[&holder, &millis(ttl)]).await?;
        let mut renewed: Vec<_> = rows.iter().map(|row| (row.get(0), token(row, 1))).collect();
        renewed.sort_unstable();
        Ok(renewed)
    }

    async fn release(&self, duty: &str, holder: Uuid) -> Result<(), StoreError> {
        let sql = "UPDATE duties SET expires_at = '-infinity' WHERE duty = $1 AND holder = $2";
        self.0.execute(sql, &[&duty, &holder]).await.map(drop)
    }

    async fn held(&self) -> Result<Vec<Held>, StoreError> {
        let sql =
            "SELECT duty, holder, token, expires_at FROM duties WHERE expires_at > clock_timestamp() ORDER BY duty";
        let rows = self.0.query(sql, &[]).await?;
        let held =
            |row: &Row| Held { duty: row.get(0), holder: row.get(1), token: token(row, 2), expires_at: row.get(3) };
        Ok(rows.iter().map(held).collect())
    }

    async fn pass(&self, duty: &str, token: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO duties AS d (duty, token, expires_at) VALUES ($1, $2, '-infinity') \
                   ON CONFLICT (duty) DO UPDATE SET token = excluded.token WHERE d.token < excluded.token";
        self.0.execute(sql, &[&duty, &token.cast_signed()]).await.map(drop)
    }
}
