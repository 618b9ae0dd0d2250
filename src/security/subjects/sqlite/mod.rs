//! The subjects store in one SQLite file, for a process that has its data directory to itself.
mod open;
mod rewrap;
#[cfg(test)]
mod rotation_tests;
mod statements;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{Checkpoint, Credential, HASH_BYTES, Registration, SessionRow, SubjectStore, SubjectsError, normalised};
use crate::security::cipher::{DataKey, MAC_BYTES};
use crate::security::fresh_cache::FreshCache;
use crate::security::keyfile::{KeyWrap, WrapError};
use crate::sqlite::{backup::Snapshot, gather};
use crate::store::StoreError;

pub use open::holds_data;

/// Data keys held unwrapped: more people than are active at once, in a few megabytes.
const KEYS_CACHED_MAX: u64 = 20_000;
/// How long an unwrapped key may be used without looking at its row again.
const KEY_AGE_MAX: Duration = Duration::from_secs(1);
/// What emails are hashed for.
const EMAIL_LABEL: &str = "email";

/// One connection, one statement at a time: sign-ins are slowed by password hashing long before they are by this.
#[derive(Debug)]
pub struct SqliteSubjects {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    wrap: Arc<dyn KeyWrap>,
    facts: Arc<DataKey>,
    hmac: DataKey,
    keys: Arc<FreshCache<Uuid, Arc<DataKey>>>,
}

/// A file that is whole and fits its key. Nothing has been written to it.
pub struct Inspected {
    path: PathBuf,
    connection: Connection,
    wrap: Arc<dyn KeyWrap>,
    keys: open::InstanceKeys,
    new_keys: Vec<open::StoredKey>,
}

impl Inspected {
    /// Brings the schema up to date and keeps newly drawn keys: the first write.
    ///
    /// # Errors
    /// `Damaged` when it holds people but no keys, `Unavailable` when it cannot be written.
    pub async fn prepare(self) -> Result<SqliteSubjects, SubjectsError> {
        let Self { path, mut connection, wrap, keys, new_keys } = self;
        let connection = blocking({
            let path = path.clone();
            move || open::prepare(&path, &mut connection, &new_keys).map(|()| connection)
        })
        .await?;
        Ok(SqliteSubjects {
            path,
            connection: Arc::new(Mutex::new(connection)),
            wrap,
            facts: Arc::new(keys.facts),
            hmac: keys.hmac,
            keys: Arc::new(FreshCache::new(KEYS_CACHED_MAX, KEY_AGE_MAX)),
        })
    }
}

impl SqliteSubjects {
    /// Opens the store, making it with new random instance keys when there is none.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect) and [`Inspected::prepare`].
    pub async fn open(path: &Path, wrap: Arc<dyn KeyWrap>) -> Result<Self, SubjectsError> {
        Self::inspect(path, wrap, true).await?.prepare().await
    }

    /// Opens the file and unwraps the instance keys, without writing to it. New ones are drawn only when it `may_begin`.
    ///
    /// # Errors
    /// `WrongKey`, `Damaged` and `OtherVersion` leave the file as it was; `Unavailable` when it cannot be reached.
    pub async fn inspect(path: &Path, wrap: Arc<dyn KeyWrap>, may_begin: bool) -> Result<Inspected, SubjectsError> {
        let path = path.to_owned();
        let (connection, stored) = blocking({
            let path = path.clone();
            move || open::inspect(&path)
        })
        .await?;
        if stored.is_empty() && !may_begin {
            return Err(SubjectsError::Damaged { path, detail: "it has lost the keys of this instance".into() });
        }
        let (keys, new_keys) = open::instance_keys(&path, &stored, &*wrap).await?;
        Ok(Inspected { path, connection, wrap, keys, new_keys })
    }

    /// Waits its turn before it takes a thread, so that a slow disk holds up one thread and not the whole pool. Once
    /// begun, the work is finished even if whoever asked has gone.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SubjectsError> {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        let path = self.path.clone();
        blocking(move || work(&mut connection).map_err(|error| failure(&path, error))).await
    }

    /// The file as it stands now, and what `others` gives at that moment: nothing here changes between the two.
    ///
    /// # Errors
    /// `Unavailable` when this file cannot be read, or `others` fails.
    pub async fn snapshot_with<T: Send + 'static>(
        &self,
        others: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(Snapshot, T), SubjectsError> {
        let path = self.path.clone();
        let both = self.run(move |_| Ok(Snapshot::take(&path).and_then(|snapshot| Ok((snapshot, others()?)))));
        both.await?.map_err(SubjectsError::unavailable)
    }

    /// The same for a statement that attaches something to a person, who must have a row.
    async fn attach(
        &self,
        user_id: Uuid,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<bool> + Send + 'static,
    ) -> Result<(), SubjectsError> {
        let attached = self.run(|connection| match work(connection) {
            Err(error) if is_foreign_key(&error) => Ok(false),
            other => other,
        });
        attached.await?.then_some(()).ok_or(SubjectsError::UnknownUser(user_id))
    }

    async fn read_keys(&self, user_ids: &[Uuid]) -> Result<Vec<(Uuid, Arc<DataKey>)>, SubjectsError> {
        let reading = self.keys.reading();
        let user_ids = user_ids.to_vec();
        let found = self.run(move |connection| statements::wrapped_keys(connection, &user_ids)).await?;
        let mut keys = Vec::with_capacity(found.len());
        for (id, wrapped) in found {
            let key = Arc::new(self.unwrap_of(id, &wrapped).await?);
            self.keys.fill(reading, id, Arc::clone(&key));
            keys.push((id, key));
        }
        Ok(keys)
    }

    fn email_hmac(&self, email: &str) -> [u8; MAC_BYTES] {
        self.hmac(EMAIL_LABEL, normalised(email).as_bytes())
    }

    async fn unwrap_of(&self, user_id: Uuid, wrapped: &[u8]) -> Result<DataKey, SubjectsError> {
        let unwrapped = self.wrap.unwrap_key(&context(user_id), wrapped).await;
        let key = unwrapped.map_err(|error| not_unwrapped(&self.path, &format!("the key of {user_id}"), error))?;
        Ok(DataKey::from_bytes(user_id, key))
    }
}

#[async_trait]
impl SubjectStore for SqliteSubjects {
    fn facts_key(&self) -> Arc<DataKey> {
        Arc::clone(&self.facts)
    }

    fn hmac(&self, label: &str, data: &[u8]) -> [u8; MAC_BYTES] {
        self.hmac.mac(label, data)
    }

    async fn register(&self, candidate: Uuid, email: &str, now_ms: i64) -> Result<Registration, SubjectsError> {
        let email_hmac = self.email_hmac(email);
        let key = DataKey::generate(candidate);
        loop {
            let wrapped = self.wrap.wrap_key(&context(candidate), key.expose()).await;
            let wrapped = wrapped.map_err(SubjectsError::unavailable)?;
            let wrap = Arc::clone(&self.wrap);
            let registration = self.run(move |connection| {
                // A rotation began since. It looks for keys to rewrap on this connection, so none comes in behind it.
                if !wrap.is_current(&wrapped) {
                    return Ok(None);
                }
                statements::register(connection, candidate, &email_hmac, &wrapped, now_ms).map(Some)
            });
            if let Some(registration) = registration.await? {
                return Ok(registration);
            }
        }
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<Uuid>, SubjectsError> {
        let email_hmac = self.email_hmac(email);
        self.run(move |connection| statements::user_by_email(connection, &email_hmac)).await
    }

    async fn keys(&self, user_ids: &[Uuid]) -> Result<HashMap<Uuid, Arc<DataKey>>, SubjectsError> {
        let mut keys = HashMap::with_capacity(user_ids.len());
        let mut missing = Vec::new();
        for id in user_ids {
            match self.keys.get(id) {
                Some(key) => drop(keys.insert(*id, key)),
                None => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return Ok(keys);
        }
        let mut read = self.read_keys(&missing).await;
        if matches!(read, Err(SubjectsError::WrongKey(_))) {
            // A rotation may have ended between the reading of a row and its unwrapping: it reads right now.
            read = self.read_keys(&missing).await;
        }
        keys.extend(read?);
        Ok(keys)
    }

    async fn forget(&self, user_id: Uuid) -> Result<(), SubjectsError> {
        let keys = Arc::clone(&self.keys);
        let scrubbed = self.run(move |connection| {
            let deleted = statements::delete_subject(connection, user_id);
            // Also after an error, which may come from a commit that was done.
            keys.evict(&user_id);
            deleted.and_then(|()| statements::scrub(connection))
        });
        all_scrubbed(scrubbed.await?)
    }

    async fn put_credential(&self, credential: Credential) -> Result<(), SubjectsError> {
        self.attach(credential.user_id, move |connection| statements::put_credential(connection, &credential)).await
    }

    async fn credential(&self, id: Uuid) -> Result<Option<Credential>, SubjectsError> {
        self.run(move |connection| statements::credential(connection, id)).await
    }

    async fn drop_other_credentials(&self, user_id: Uuid, kept: Uuid) -> Result<(), SubjectsError> {
        self.run(move |connection| statements::drop_other_credentials(connection, user_id, kept)).await
    }

    async fn create_session(&self, session: SessionRow) -> Result<(), SubjectsError> {
        self.attach(session.user_id, move |connection| statements::create_session(connection, &session).map(|()| true))
            .await
    }

    async fn session_by_token(&self, token_hash: &[u8; HASH_BYTES]) -> Result<Option<SessionRow>, SubjectsError> {
        let token_hash = *token_hash;
        self.run(move |connection| statements::session_by_token(connection, &token_hash)).await
    }

    async fn sessions_of(&self, user_id: Uuid) -> Result<Vec<SessionRow>, SubjectsError> {
        self.run(move |connection| statements::sessions_of(connection, user_id)).await
    }

    async fn end_session(&self, user_id: Uuid, id: Uuid) -> Result<Option<SessionRow>, SubjectsError> {
        self.run(move |connection| statements::end_session(connection, user_id, id)).await
    }

    async fn end_sessions_of(&self, user_id: Uuid) -> Result<Vec<SessionRow>, SubjectsError> {
        self.run(move |connection| statements::end_sessions_of(connection, user_id)).await
    }

    async fn purge_sessions(&self, now_ms: i64) -> Result<u64, SubjectsError> {
        self.run(move |connection| statements::purge_sessions(connection, now_ms)).await
    }

    async fn rewrap(&self) -> Result<u64, SubjectsError> {
        self.rewrap_all().await
    }

    async fn checkpoint(&self, name: &str) -> Result<Option<Checkpoint>, SubjectsError> {
        let name = name.to_owned();
        self.run(move |connection| statements::checkpoint(connection, &name)).await
    }

    async fn put_checkpoint(&self, name: &str, checkpoint: Checkpoint) -> Result<(), SubjectsError> {
        let name = name.to_owned();
        self.run(move |connection| statements::put_checkpoint(connection, &name, checkpoint)).await
    }

    async fn close(&self) -> Result<(), SubjectsError> {
        let gathered = self.run(|connection| Ok(gather(connection))).await?;
        gathered.map_err(SubjectsError::unavailable)
    }
}

fn all_scrubbed(scrubbed: bool) -> Result<(), SubjectsError> {
    if scrubbed { Ok(()) } else { Err(SubjectsError::unavailable("another reader holds on to what was deleted")) }
}

/// What is wrong with the file at `path` when one of its keys, `which`, does not unwrap.
fn not_unwrapped(path: &Path, which: &str, error: WrapError) -> SubjectsError {
    match error {
        WrapError::WrongKey => SubjectsError::WrongKey(path.to_owned()),
        WrapError::Altered => SubjectsError::Damaged { path: path.to_owned(), detail: format!("{which} was altered") },
        WrapError::Unavailable(source) => SubjectsError::Unavailable(source),
    }
}

/// Binds a wrapped key to its row: copied to another person's row, it does not unwrap.
fn context(user_id: Uuid) -> Vec<u8> {
    [b"subject key ", user_id.as_bytes().as_slice()].concat()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SubjectsError> + Send + 'static,
) -> Result<T, SubjectsError> {
    spawn_blocking(work).await.map_err(SubjectsError::unavailable)?
}

/// Tells what a repetition can mend from what only a backup can.
fn failure(path: &Path, error: rusqlite::Error) -> SubjectsError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            SubjectsError::Damaged { path: path.to_owned(), detail: error.to_string() }
        }
        _ => SubjectsError::unavailable(error),
    }
}

fn is_foreign_key(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}
