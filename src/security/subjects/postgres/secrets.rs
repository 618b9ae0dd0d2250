//! The rows of secrets.
use std::sync::Arc;

use deadpool_postgres::Object;
use uuid::Uuid;

use super::rows::{REGISTRATIONS_LOCK, wrapped_of};
use super::{Tables, unavailable};
use crate::postgres::STATEMENT_TIMEOUT;
use crate::security::subjects::SubjectsError;
use crate::security::subjects::keyring::{FACTS, Replacement};
use crate::security::subjects::secrets::{KeptSecret, SealedSecret};
use crate::store::StoreError;

/// Whoever keeps a secret holds it, on every node, so that they are counted one after the other.
const SECRETS_LOCK: &str = "hashtextextended($1 || ' secrets', 20261123)";

impl Tables {
    /// Keeps a value unless that makes more than `names_max` names; answers whether it did. Nothing when a rotation began since the
    /// key was wrapped: see [`register`](Self::register).
    pub(super) async fn put_secret(
        &self,
        secret: &SealedSecret,
        names_max: u32,
        like: &[u8],
    ) -> Result<Option<bool>, SubjectsError> {
        let SealedSecret { id, name, wrapped, sealed, kept_at_ms } = secret;
        let mut client = self.postgres.client().await.map_err(unavailable)?;
        let keeping = async {
            let transaction = client.transaction().await?;
            let locks = format!(
                "SELECT pg_advisory_xact_lock_shared({REGISTRATIONS_LOCK}), pg_advisory_xact_lock({SECRETS_LOCK})"
            );
            transaction.execute(&locks, &[&self.schema]).await?;
            let stands = self.sql("SELECT FROM $S.instance_keys WHERE name = $1 AND wrapped = $2");
            if transaction.query_opt(&stands, &[&FACTS, &like]).await?.is_none() {
                return Ok(None);
            }
            let keep = self.sql(
                "INSERT INTO $S.secrets (id, name, wrapped_key, sealed, kept_at) SELECT $1, $2, $3, $4, $5 \
                 WHERE (SELECT count(DISTINCT name) FROM $S.secrets WHERE name <> $2) < $6",
            );
            let kept =
                transaction.execute(&keep, &[id, name, wrapped, sealed, kept_at_ms, &i64::from(names_max)]).await?;
            transaction.commit().await?;
            Ok::<_, tokio_postgres::Error>(Some(kept > 0))
        };
        match tokio::time::timeout(STATEMENT_TIMEOUT, keeping).await {
            Ok(kept) => kept.map_err(unavailable),
            Err(late) => {
                // Its answer may still come; nobody else must wait behind it.
                drop(Object::take(client));
                Err(unavailable(StoreError::Unreachable(Arc::new(late))))
            }
        }
    }

    pub(super) async fn get_secret(&self, id: Uuid) -> Result<Option<SealedSecret>, SubjectsError> {
        let sql = "SELECT name, wrapped_key, sealed, kept_at FROM $S.secrets WHERE id = $1";
        let rows = self.query(sql, &[&id]).await?;
        Ok(rows.first().map(|row| {
            let (name, wrapped, sealed) = (row.get(0), row.get(1), row.get(2));
            SealedSecret { id, name, wrapped, sealed, kept_at_ms: row.get(3) }
        }))
    }

    pub(super) async fn list_secrets(&self) -> Result<Vec<KeptSecret>, SubjectsError> {
        let rows = self.query("SELECT id, name, kept_at FROM $S.secrets ORDER BY name, id", &[]).await?;
        Ok(rows.iter().map(|row| KeptSecret { id: row.get(0), name: row.get(1), kept_at_ms: row.get(2) }).collect())
    }

    pub(super) async fn delete_secrets(&self, name: &str, newest: Uuid) -> Result<(), SubjectsError> {
        self.execute("DELETE FROM $S.secrets WHERE name = $1 AND id <= $2", &[&name, &newest]).await.map(drop)
    }

    pub(super) async fn wrapped_keys_of_secrets(&self) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError> {
        let rows = self.query("SELECT id, wrapped_key FROM $S.secrets", &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    pub(super) async fn replace_keys_of_secrets(&self, keys: &[Replacement<Uuid>]) -> Result<(), SubjectsError> {
        let of: Vec<_> = keys.iter().map(|key| key.of).collect();
        let (old, new) = wrapped_of(keys);
        let sql = "UPDATE $S.secrets AS kept SET wrapped_key = r.new \
                   FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS r (of, old, new) \
                   WHERE kept.id = r.of AND kept.wrapped_key = r.old";
        self.execute(sql, &[&of, &old, &new]).await.map(drop)
    }
}
