//! The rows that hold wrapped keys: of people, and of the instance.
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Object;
use uuid::Uuid;

use super::{Tables, unavailable};
use crate::postgres::{Parameter, STATEMENT_TIMEOUT};
use crate::security::subjects::keyring::{FACTS, Replacement, StoredKey, WrappedRows};
use crate::security::subjects::{Forgotten, Registration, SubjectsError};
use crate::store::StoreError;

/// Registrations share this lock, on every node; a rotation takes it alone to replace the keys of the instance. So it waits
/// for those that wrapped under the old key, and who comes later sees the new one. Unlike a lock on the rows, it is had in
/// turn: however many register, a rotation is not kept waiting. The schema is part of its name.
pub(super) const REGISTRATIONS_LOCK: &str = "hashtextextended($1 || ' registrations', 20261122)";
/// How often a registration looks again for who has the email: in between, that person may have been erased.
const LOOKS_MAX: u32 = 3;

impl Tables {
    /// Keeps the keys of a new instance, unless another node was first or there are people already.
    pub(super) async fn keep_instance_keys(&self, keys: &[StoredKey]) -> Result<(), SubjectsError> {
        // One statement: a store has all of its keys or none.
        let sql = "INSERT INTO $S.instance_keys (name, key_id, wrapped) \
                   SELECT * FROM unnest($1::text[], $2::uuid[], $3::bytea[]) \
                   WHERE NOT EXISTS (SELECT FROM $S.subjects) ON CONFLICT DO NOTHING";
        let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        let ids: Vec<_> = keys.iter().map(|key| key.key_id).collect();
        let wrapped: Vec<_> = keys.iter().map(|key| key.wrapped.as_slice()).collect();
        self.execute(sql, &[&names, &ids, &wrapped]).await.map(drop)
    }

    /// Makes the row for a new email; where the email has one, answers whose. Nothing when a rotation began since the key was
    /// wrapped, that is, when the
    /// row of the instance's key is no longer `like` it was then.
    pub(super) async fn register(
        &self,
        candidate: Uuid,
        email_hmac: &[u8],
        wrapped: &[u8],
        now_ms: i64,
        like: &[u8],
    ) -> Result<Option<Registration>, SubjectsError> {
        let mut client = self.postgres.client().await.map_err(unavailable)?;
        let registering = async {
            let transaction = client.transaction().await?;
            let lock = format!("SELECT pg_advisory_xact_lock_shared({REGISTRATIONS_LOCK})");
            transaction.execute(&lock, &[&self.schema]).await?;
            let stands = self.sql("SELECT FROM $S.instance_keys WHERE name = $1 AND wrapped = $2");
            // A statement of its own: it sees what was committed before the lock was had.
            if transaction.query_opt(&stands, &[&FACTS, &like]).await?.is_none() {
                return Ok(None);
            }
            let insert = self.sql(
                "INSERT INTO $S.subjects (user_id, email_hmac, wrapped_key, created_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT DO NOTHING",
            );
            let find = self.sql("SELECT user_id FROM $S.subjects WHERE email_hmac = $1");
            let mut registration = None;
            for _ in 0..LOOKS_MAX {
                let made = transaction.execute(&insert, &[&candidate, &email_hmac, &wrapped, &now_ms]).await?;
                registration = match made {
                    0 => transaction.query_opt(&find, &[&email_hmac]).await?.map(|row| row.get(0)),
                    _ => Some(candidate),
                }
                .map(|user_id| match made {
                    0 => Registration::Existing { user_id },
                    _ => Registration::Created { user_id },
                });
                if registration.is_some() {
                    break;
                }
            }
            transaction.commit().await?;
            Ok::<_, tokio_postgres::Error>(Some(registration))
        };
        let registered = match tokio::time::timeout(STATEMENT_TIMEOUT, registering).await {
            Ok(registered) => registered.map_err(unavailable)?,
            Err(late) => {
                // Its answer may still come; nobody else must wait behind it.
                drop(Object::take(client));
                return Err(unavailable(StoreError::Unreachable(Arc::new(late))));
            }
        };
        match registered {
            None => Ok(None),
            Some(Some(registration)) => Ok(Some(registration)),
            // Neither the email nor room for the row: the id is another email's.
            Some(None) => Err(SubjectsError::unavailable(format!("{candidate} is registered with another email"))),
        }
    }

    /// The wrapped key of the instance that registrations are measured by.
    ///
    /// # Errors
    /// `Unavailable`, also when the row is not there: the next start will tell.
    pub(super) async fn instance_key(&self) -> Result<Vec<u8>, SubjectsError> {
        let rows = self.query("SELECT wrapped FROM $S.instance_keys WHERE name = $1", &[&FACTS]).await?;
        rows.first()
            .map(|row| row.get(0))
            .ok_or_else(|| SubjectsError::unavailable("the keys of this instance are gone"))
    }

    /// Deletes these people; the schema deletes their credentials and sessions in the same transaction. Answers a transaction
    /// that is not older than the deletion, also when somebody deleted them before.
    pub(super) async fn delete(&self, user_ids: &[Uuid]) -> Result<Forgotten, SubjectsError> {
        self.moment("SELECT $S.forget($1)::text", &[&user_ids]).await
    }

    /// A transaction, by the text of its number.
    async fn moment(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Forgotten, SubjectsError> {
        let rows = self.query(sql, parameters).await?;
        rows[0].get::<_, &str>(0).parse().map(Forgotten).map_err(SubjectsError::unavailable)
    }
}

#[async_trait]
impl WrappedRows for Tables {
    async fn instance_keys(&self) -> Result<Vec<StoredKey>, SubjectsError> {
        let rows = self.query("SELECT name, key_id, wrapped FROM $S.instance_keys", &[]).await?;
        Ok(rows.iter().map(|row| StoredKey { name: row.get(0), key_id: row.get(1), wrapped: row.get(2) }).collect())
    }

    async fn wrapped_keys(&self, user_ids: Vec<Uuid>) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError> {
        let sql = "SELECT user_id, wrapped_key FROM $S.subjects WHERE user_id = ANY ($1)";
        Ok(self.query(sql, &[&user_ids]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn wrapped_page(&self, after: Option<Uuid>, rows_max: u32) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError> {
        let sql = "SELECT user_id, wrapped_key FROM $S.subjects WHERE $1::uuid IS NULL OR user_id > $1 \
                   ORDER BY user_id LIMIT $2";
        let rows = self.query(sql, &[&after, &i64::from(rows_max)]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn replace_instance_keys(&self, keys: Vec<Replacement<String>>) -> Result<(), SubjectsError> {
        let of: Vec<_> = keys.iter().map(|key| key.of.as_str()).collect();
        if of.is_empty() {
            return Ok(());
        }
        let (old, new) = wrapped_of(&keys);
        let sql = self.sql(
            "UPDATE $S.instance_keys AS kept SET wrapped = r.new \
             FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS r (of, old, new) \
             WHERE kept.name = r.of AND kept.wrapped = r.old",
        );
        let mut client = self.postgres.client().await.map_err(unavailable)?;
        let replacing = async {
            let transaction = client.transaction().await?;
            let lock = format!("SELECT pg_advisory_xact_lock({REGISTRATIONS_LOCK})");
            transaction.execute(&lock, &[&self.schema]).await?;
            transaction.execute(&sql, &[&of, &old, &new]).await?;
            transaction.commit().await
        };
        match tokio::time::timeout(STATEMENT_TIMEOUT, replacing).await {
            Ok(replaced) => replaced.map_err(unavailable),
            Err(late) => {
                drop(Object::take(client));
                Err(unavailable(StoreError::Unreachable(Arc::new(late))))
            }
        }
    }

    async fn replace_wrapped(&self, keys: Vec<Replacement<Uuid>>) -> Result<(), SubjectsError> {
        let of: Vec<_> = keys.iter().map(|key| key.of).collect();
        let (old, new) = wrapped_of(&keys);
        let sql = "UPDATE $S.subjects AS kept SET wrapped_key = r.new \
                   FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS r (of, old, new) \
                   WHERE kept.user_id = r.of AND kept.wrapped_key = r.old";
        self.execute(sql, &[&of, &old, &new]).await.map(drop)
    }

    async fn wrapped_keys_of_secrets(&self) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError> {
        Self::wrapped_keys_of_secrets(self).await
    }

    async fn replace_keys_of_secrets(&self, keys: Vec<Replacement<Uuid>>) -> Result<(), SubjectsError> {
        Self::replace_keys_of_secrets(self, &keys).await
    }

    async fn scrub_replaced(&self) -> Result<(), SubjectsError> {
        let replaced = self.moment("SELECT pg_current_xact_id()::text", &[]).await?;
        self.scrub(&["instance_keys", "subjects", "secrets"], replaced).await
    }
}

pub(super) fn wrapped_of<T>(keys: &[Replacement<T>]) -> (Vec<&[u8]>, Vec<&[u8]>) {
    keys.iter().map(|key| (key.old.as_slice(), key.new.as_slice())).unzip()
}
