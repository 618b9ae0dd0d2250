//! The subjects store in one SQLite file, for a process that has its data directory to itself.
mod open;
#[cfg(test)]
mod rotation_tests;
mod rows;
mod secrets;
mod statements;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode};
use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::keyring::{Keyring, StoredKey};
use super::{
    Checkpoint, Credential, Forgotten, HASH_BYTES, KeptSecret, NewSecret, Place, Registration, SessionRow,
    SubjectStore, SubjectsError, rewrap,
};
use crate::security::cipher::{DataKey, MAC_BYTES};
use crate::security::keyfile::KeyWrap;
use crate::sqlite::{backup::Snapshot, gather};
use crate::store::StoreError;

pub use open::holds_data;

/// How long an erasure's rewriting waits for readers of the file, such as a backup. Whoever comes next, perhaps to forget somebody
/// else, waits behind it, and it is tried again.
const SCRUB_BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// One connection, one statement at a time: sign-ins are slowed by password hashing long before they are by this.
#[derive(Debug)]
pub struct SqliteSubjects {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    keyring: Arc<Keyring>,
}

/// A file that is whole and fits its key. Nothing has been written to it.
pub struct Inspected {
    path: PathBuf,
    connection: Connection,
    keyring: Keyring,
    new_keys: Vec<StoredKey>,
}

impl Inspected {
    /// Brings the schema up to date and keeps newly drawn keys: the first write.
    ///
    /// # Errors
    /// `Damaged` when it holds people but no keys, `Unavailable` when it cannot be written.
    pub async fn prepare(self) -> Result<SqliteSubjects, SubjectsError> {
        let Self { path, mut connection, keyring, new_keys } = self;
        let connection = blocking({
            let place = Place::from(&*path);
            move || open::prepare(&place, &mut connection, &new_keys).map(|()| connection)
        })
        .await?;
        Ok(SqliteSubjects { path, connection: Arc::new(Mutex::new(connection)), keyring: Arc::new(keyring) })
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
        let place = Place::from(path);
        let path = path.to_owned();
        let (connection, stored) = blocking({
            let path = path.clone();
            move || open::inspect(&path)
        })
        .await?;
        let (keyring, new_keys) = match stored.as_slice() {
            [] if may_begin => Keyring::draw(place.clone(), wrap).await?,
            [] => return Err(SubjectsError::damaged(&place, "it has lost the keys of this instance")),
            stored => (Keyring::open(place.clone(), wrap, stored).await?, Vec::new()),
        };
        Ok(Inspected { path, connection, keyring, new_keys })
    }

    /// Waits its turn before it takes a thread, so that a slow disk holds up one thread and not the whole pool. Once
    /// begun, the work is finished even if whoever asked has gone.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SubjectsError> {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        let path = self.path.clone();
        blocking(move || work(&mut connection).map_err(|error| failure(&Place::from(&*path), error))).await
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

    async fn open_secret(&self, id: Uuid) -> Result<Option<SecretString>, SubjectsError> {
        match self.run(move |connection| secrets::get(connection, id)).await? {
            Some(row) => row.open(self.keyring.place(), &self.keyring).await.map(Some),
            None => Ok(None),
        }
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
}

#[async_trait]
impl SubjectStore for SqliteSubjects {
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
            let (wrapped, keyring) = (self.keyring.wrap(&key).await?, Arc::clone(&self.keyring));
            let registration = self.run(move |connection| {
                // A rotation began since. It looks for keys to rewrap on this connection, so none comes in behind it.
                if !keyring.is_current(&wrapped) {
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
        let email_hmac = self.keyring.email_hmac(email);
        self.run(move |connection| statements::user_by_email(connection, &email_hmac)).await
    }

    async fn keys(&self, user_ids: &[Uuid]) -> Result<HashMap<Uuid, Arc<DataKey>>, SubjectsError> {
        self.keyring.keys(user_ids, self).await
    }

    async fn forget(&self, user_ids: &[Uuid]) -> Result<Forgotten, SubjectsError> {
        let (keyring, user_ids) = (Arc::clone(&self.keyring), user_ids.to_vec());
        let deleted = self.run(move |connection| {
            let deleted = statements::delete_subjects(connection, &user_ids);
            // Also after an error, which may come from a commit that was done.
            user_ids.iter().for_each(|user_id| keyring.evict(user_id));
            deleted
        });
        // One connection, so whoever scrubs comes after all that was forgotten: there are no moments to tell apart.
        deleted.await.map(|()| Forgotten(0))
    }

    async fn scrub(&self, _: Forgotten) -> Result<(), SubjectsError> {
        let scrubbed = self.run(|connection| {
            connection.busy_timeout(SCRUB_BUSY_TIMEOUT)?;
            let scrubbed = statements::scrub(connection);
            connection.busy_timeout(open::BUSY_TIMEOUT)?;
            scrubbed
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

    async fn put_secret(&self, secret: NewSecret, names_max: u32) -> Result<bool, SubjectsError> {
        let key = DataKey::generate(secret.id);
        loop {
            let (wrapped, keyring) = (self.keyring.wrap_secret(&key).await?, Arc::clone(&self.keyring));
            let row = secret.sealed(&key, wrapped);
            let kept = self.run(move |connection| {
                // See `register`.
                if !keyring.is_current(&row.wrapped) {
                    return Ok(None);
                }
                secrets::put(connection, &row, names_max).map(Some)
            });
            if let Some(kept) = kept.await? {
                return Ok(kept);
            }
        }
    }

    async fn secret(&self, id: Uuid) -> Result<Option<SecretString>, SubjectsError> {
        match self.open_secret(id).await {
            // A rotation may have ended between the reading of the row and its unwrapping: it reads right now.
            Err(SubjectsError::WrongKey(_)) => self.open_secret(id).await,
            opened => opened,
        }
    }

    async fn secrets(&self) -> Result<Vec<KeptSecret>, SubjectsError> {
        self.run(|connection| secrets::list(connection)).await
    }

    async fn delete_secrets(&self, name: &str, newest: Uuid) -> Result<(), SubjectsError> {
        let name = name.to_owned();
        self.run(move |connection| secrets::delete(connection, &name, newest)).await
    }

    async fn rewrap(&self) -> Result<u64, SubjectsError> {
        rewrap::all(&self.keyring, self).await
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SubjectsError> + Send + 'static,
) -> Result<T, SubjectsError> {
    spawn_blocking(work).await.map_err(SubjectsError::unavailable)?
}

/// Tells what a repetition can mend from what only a backup can.
fn failure(place: &Place, error: rusqlite::Error) -> SubjectsError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => SubjectsError::damaged(place, error.to_string()),
        _ => SubjectsError::unavailable(error),
    }
}

fn is_foreign_key(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}
