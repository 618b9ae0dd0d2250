//! The subjects store in a schema of its own in PostgreSQL, for any number of nodes.
mod rows;
mod scrub;
mod secrets;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio_postgres::Row;
use uuid::Uuid;

use super::keyring::{Keyring, WrappedRows};
use super::{
    Checkpoint, Credential, Forgotten, HASH_BYTES, KeptSecret, NewSecret, Place, Registration, SessionRow,
    SubjectStore, SubjectsError, rewrap,
};
use crate::postgres::{Parameter, Postgres, subjects_schema};
use crate::security::cipher::{DataKey, MAC_BYTES};
use crate::security::keyfile::KeyWrap;
use crate::store::StoreError;

const SESSION_COLUMNS: &str = "id, user_id, token_hash, created_at, expires_at";

#[derive(Debug)]
pub struct PostgresSubjects {
    tables: Tables,
    keyring: Keyring,
}

/// The store's tables. Connections look into the log's schema first, so statements name the schema, as `$S`.
#[derive(Debug)]
struct Tables {
    postgres: Postgres,
    schema: String,
}

impl Tables {
    fn sql(&self, sql: &str) -> String {
        sql.replace("$S", &format!("\"{}\"", self.schema))
    }

    async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, SubjectsError> {
        self.postgres.query(&self.sql(sql), parameters).await.map_err(SubjectsError::unavailable)
    }

    async fn execute(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, SubjectsError> {
        self.postgres.execute(&self.sql(sql), parameters).await.map_err(SubjectsError::unavailable)
    }
}

impl PostgresSubjects {
    /// Whether the store holds keys already, so that the key file that wraps them must be somewhere.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn holds_keys(postgres: &Postgres) -> Result<bool, SubjectsError> {
        let tables = Tables { postgres: postgres.clone(), schema: subjects_schema(postgres.instance()) };
        Ok(!tables.instance_keys().await?.is_empty())
    }

    /// Opens the store and unwraps the keys of the instance. Keys are drawn only for a store without people, and only when it
    /// `may_begin`; nodes that start together come to the same ones.
    ///
    /// # Errors
    /// `WrongKey`, `Damaged` and `Unavailable`; nothing was changed then.
    pub async fn open(postgres: Postgres, wrap: Arc<dyn KeyWrap>, may_begin: bool) -> Result<Self, SubjectsError> {
        let schema = subjects_schema(postgres.instance());
        let place = Place(format!("the schema {schema}"));
        let tables = Tables { postgres, schema };
        let mut stored = tables.instance_keys().await?;
        if stored.is_empty() && may_begin {
            let (_, drawn) = Keyring::draw(place.clone(), wrap.clone()).await?;
            tables.keep_instance_keys(&drawn).await?;
            // Those of the node that was first, which need not be this one.
            stored = tables.instance_keys().await?;
        }
        if stored.is_empty() {
            return Err(SubjectsError::damaged(&place, "it has lost the keys of this instance"));
        }
        let keyring = Keyring::open(place, wrap, &stored).await?;
        Ok(Self { tables, keyring: keyring.shared_by_nodes() })
    }

    async fn session(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<SessionRow>, SubjectsError> {
        Ok(self.sessions(sql, parameters).await?.pop())
    }

    async fn sessions(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<SessionRow>, SubjectsError> {
        let rows = self.tables.query(&sql.replace("$COLUMNS", SESSION_COLUMNS), parameters).await?;
        Ok(rows.iter().map(session).collect())
    }
}

fn session(row: &Row) -> SessionRow {
    SessionRow {
        id: row.get(0),
        user_id: row.get(1),
        token_hash: row.get::<_, &[u8]>(2).try_into().expect("the table checks the length"),
        created_at_ms: row.get(3),
        expires_at_ms: row.get(4),
    }
}

/// A statement that attaches something to a person touches no row when they have none.
fn attached(rows: u64, user_id: Uuid) -> Result<(), SubjectsError> {
    if rows > 0 { Ok(()) } else { Err(SubjectsError::UnknownUser(user_id)) }
}

#[async_trait]
impl SubjectStore for PostgresSubjects {
    fn facts_key(&self) -> Arc<DataKey> {
        self.keyring.facts()
    }

    fn hmac(&self, label: &str, data: &[u8]) -> [u8; MAC_BYTES] {
        self.keyring.hmac(label, data)
    }

    async fn register(&self, candidate: Uuid, email: &str, now_ms: i64) -> Result<Registration, SubjectsError> {
        let email_hmac = self.keyring.email_hmac(email);
        let key = DataKey::generate(candidate);
        loop {
            // A key that an instance key is not wrapped under is thrown away when a rotation ends, whoever runs it.
            let like = self.tables.instance_key().await?;
            let wrapped = self.keyring.wrap_like(&like, &key).await?;
            if let Some(found) = self.tables.register(candidate, &email_hmac, &wrapped, now_ms, &like).await? {
                return Ok(found);
            }
        }
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<Uuid>, SubjectsError> {
        let email_hmac = self.keyring.email_hmac(email);
        let sql = "SELECT user_id FROM $S.subjects WHERE email_hmac = $1";
        let rows = self.tables.query(sql, &[&email_hmac.as_slice()]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn keys(&self, user_ids: &[Uuid]) -> Result<HashMap<Uuid, Arc<DataKey>>, SubjectsError> {
        self.keyring.keys(user_ids, &self.tables).await
    }

    async fn forget(&self, user_ids: &[Uuid]) -> Result<Forgotten, SubjectsError> {
        let deleted = self.tables.delete(user_ids).await;
        // Also after an error: the rows may be gone, and only the answer lost.
        user_ids.iter().for_each(|user_id| self.keyring.evict(user_id));
        deleted
    }

    async fn scrub(&self, forgotten: Forgotten) -> Result<(), SubjectsError> {
        self.tables.scrub(&["sessions", "credentials", "subjects"], forgotten).await
    }

    async fn put_credential(&self, credential: Credential) -> Result<(), SubjectsError> {
        // Locked as a foreign key would lock it: who is being erased gets nothing more.
        let sql = "INSERT INTO $S.credentials AS known (id, user_id, phc, created_at) \
                   SELECT $1, user_id, $3, $4 FROM $S.subjects WHERE user_id = $2 FOR KEY SHARE \
                   ON CONFLICT (id) DO UPDATE SET phc = excluded.phc WHERE known.user_id = excluded.user_id";
        let Credential { id, user_id, phc, created_at_ms } = credential;
        attached(self.tables.execute(sql, &[&id, &user_id, &phc, &created_at_ms]).await?, user_id)
    }

    async fn credential(&self, id: Uuid) -> Result<Option<Credential>, SubjectsError> {
        let sql = "SELECT user_id, phc, created_at FROM $S.credentials WHERE id = $1";
        let rows = self.tables.query(sql, &[&id]).await?;
        let read = |row: &Row| Credential { id, user_id: row.get(0), phc: row.get(1), created_at_ms: row.get(2) };
        Ok(rows.first().map(read))
    }

    async fn drop_other_credentials(&self, user_id: Uuid, kept: Uuid) -> Result<(), SubjectsError> {
        let sql = "DELETE FROM $S.credentials WHERE user_id = $1 AND id <> $2";
        self.tables.execute(sql, &[&user_id, &kept]).await.map(drop)
    }

    async fn create_session(&self, session: SessionRow) -> Result<(), SubjectsError> {
        let sql = "INSERT INTO $S.sessions (id, user_id, token_hash, created_at, expires_at) \
                   SELECT $1, user_id, $3, $4, $5 FROM $S.subjects WHERE user_id = $2 FOR KEY SHARE";
        let SessionRow { id, user_id, token_hash, created_at_ms, expires_at_ms } = session;
        let parameters: [Parameter<'_>; 5] = [&id, &user_id, &token_hash.as_slice(), &created_at_ms, &expires_at_ms];
        attached(self.tables.execute(sql, &parameters).await?, user_id)
    }

    async fn session_by_token(&self, token_hash: &[u8; HASH_BYTES]) -> Result<Option<SessionRow>, SubjectsError> {
        self.session("SELECT $COLUMNS FROM $S.sessions WHERE token_hash = $1", &[&token_hash.as_slice()]).await
    }

    async fn sessions_of(&self, user_id: Uuid) -> Result<Vec<SessionRow>, SubjectsError> {
        let sql = "SELECT $COLUMNS FROM $S.sessions WHERE user_id = $1 ORDER BY created_at DESC, id DESC";
        self.sessions(sql, &[&user_id]).await
    }

    async fn end_session(&self, user_id: Uuid, id: Uuid) -> Result<Option<SessionRow>, SubjectsError> {
        let sql = "DELETE FROM $S.sessions WHERE user_id = $1 AND id = $2 RETURNING $COLUMNS";
        self.session(sql, &[&user_id, &id]).await
    }

    async fn end_sessions_of(&self, user_id: Uuid) -> Result<Vec<SessionRow>, SubjectsError> {
        self.sessions("DELETE FROM $S.sessions WHERE user_id = $1 RETURNING $COLUMNS", &[&user_id]).await
    }

    async fn purge_sessions(&self, now_ms: i64) -> Result<u64, SubjectsError> {
        self.tables.execute("DELETE FROM $S.sessions WHERE expires_at <= $1", &[&now_ms]).await
    }

    async fn put_secret(&self, secret: NewSecret, names_max: u32) -> Result<bool, SubjectsError> {
        let key = DataKey::generate(secret.id);
        loop {
            // See `register`.
            let like = self.tables.instance_key().await?;
            let wrapped = self.keyring.wrap_secret_like(&like, &key).await?;
            let row = secret.sealed(&key, wrapped);
            if let Some(kept) = self.tables.put_secret(&row, names_max, &like).await? {
                return Ok(kept);
            }
        }
    }

    async fn secret(&self, id: Uuid) -> Result<Option<SecretString>, SubjectsError> {
        // A row that was read before a rotation ended reads right the next time: until then the keyring says `Unavailable`.
        match self.tables.get_secret(id).await? {
            Some(row) => row.open(self.keyring.place(), &self.keyring).await.map(Some),
            None => Ok(None),
        }
    }

    async fn secrets(&self) -> Result<Vec<KeptSecret>, SubjectsError> {
        self.tables.list_secrets().await
    }

    async fn delete_secrets(&self, name: &str, newest: Uuid) -> Result<(), SubjectsError> {
        self.tables.delete_secrets(name, newest).await
    }

    async fn await_rotation(&self) -> Result<(), SubjectsError> {
        self.keyring.reread(&self.tables.instance_keys().await?).await
    }

    async fn rewrap(&self) -> Result<u64, SubjectsError> {
        rewrap::all(&self.keyring, &self.tables).await
    }

    async fn checkpoint(&self, name: &str) -> Result<Option<Checkpoint>, SubjectsError> {
        let rows = self.tables.query("SELECT position, event_id FROM $S.checkpoints WHERE name = $1", &[&name]).await?;
        Ok(rows.first().map(|row| Checkpoint { position: row.get::<_, i64>(0).cast_unsigned(), event_id: row.get(1) }))
    }

    /// With several nodes the last writer wins. One that comes late may set it back: then some erasures are repeated.
    async fn put_checkpoint(&self, name: &str, checkpoint: Checkpoint) -> Result<(), SubjectsError> {
        let sql = "INSERT INTO $S.checkpoints (name, position, event_id) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET position = excluded.position, event_id = excluded.event_id";
        let Checkpoint { position, event_id } = checkpoint;
        self.tables.execute(sql, &[&name, &position.cast_signed(), &event_id]).await.map(drop)
    }

    async fn close(&self) -> Result<(), SubjectsError> {
        Ok(())
    }
}

fn unavailable(error: impl Into<StoreError>) -> SubjectsError {
    SubjectsError::unavailable(error.into())
}
