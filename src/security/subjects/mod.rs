//! What must be forgettable: people's data keys, credentials and sessions, kept outside the event log and its backups.
//!
//! Owns the keys of the instance and of each person (wrapped by a key-encryption key that is kept elsewhere), the index that makes
//! emails unique, and the values of named secrets. It refuses to keep anything of a person in clear: an email is here only as an HMAC,
//! a password only as a hash, a session only as the hash of its token. It holds no rules: who may sign in or be
//! registered is decided by those who call it. Times come with the call, in milliseconds since 1970.
mod keyring;
pub mod postgres;
mod rewrap;
#[cfg(test)]
mod samples;
mod secrets;
pub mod sqlite;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use uuid::Uuid;

use super::cipher::{DataKey, MAC_BYTES};

pub use marvin_domain::Checkpoint;
pub use postgres::PostgresSubjects;
pub use secrets::{KeptSecret, NewSecret};
pub use sqlite::SqliteSubjects;

/// Bytes of the SHA-256 hashes that stand for tokens.
pub const HASH_BYTES: usize = 32;

/// How a registration found the email.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// The row and its data key were made for the candidate.
    Created { user_id: Uuid },
    /// The email has this row. When the user's stream is still empty, an earlier registration did not get further:
    /// adopt its id and key. Otherwise the email is taken.
    Existing { user_id: Uuid },
}

/// A password hash in PHC string format. Not printable.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub id: Uuid,
    pub user_id: Uuid,
    pub phc: String,
    pub created_at_ms: i64,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("id", &self.id).field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// A session as it is kept: the hash of its token, so that reading the store lets nobody sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub id: Uuid,
    pub user_id: Uuid,
    pub token_hash: [u8; HASH_BYTES],
    pub created_at_ms: i64,
    pub expires_at_ms: i64,
}

/// Where a store is, in words for whoever runs it: the path of a file, or a schema of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self(path.display().to_string())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the store did not do what was asked. When it would not open, nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum SubjectsError {
    #[error("{0} was made with another key: put the right key file back; nothing was changed")]
    WrongKey(Place),
    /// Restore it from a backup; repeating does not help.
    #[error("{place} is damaged ({detail}): restore it from a backup; nothing was changed")]
    Damaged { place: Place, detail: String },
    #[error(
        "{place} was last used by another version of Marvin (its schema {found} is unknown to this one): start that version; nothing was changed"
    )]
    OtherVersion { place: Place, found: i64 },
    /// The person has no row, or no longer: nothing can be attached to them.
    #[error("no subject {0}")]
    UnknownUser(Uuid),
    /// Try again; whatever was asked is not done or may be repeated.
    #[error("the subjects store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SubjectsError {
    fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(source.into())
    }

    fn damaged(place: &Place, detail: impl Into<String>) -> Self {
        Self::Damaged { place: place.clone(), detail: detail.into() }
    }
}

/// A moment in the life of a store, not before some people were forgotten. It means nothing to another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten(u64);

/// The port that a database adapter fills. A call that fails changed nothing, except `forget`; each may be repeated.
#[async_trait]
pub trait SubjectStore: Send + Sync + std::fmt::Debug {
    /// The key that facts are sealed under. It never changes for the life of the instance.
    fn facts_key(&self) -> Arc<DataKey>;

    /// HMAC-SHA256 under the instance's own HMAC key, which never changes either; `label` says what for.
    fn hmac(&self, label: &str, data: &[u8]) -> [u8; MAC_BYTES];

    /// Reserves `email` for `candidate` and draws its data key. Call it before the event that registers the user.
    async fn register(&self, candidate: Uuid, email: &str, now_ms: i64) -> Result<Registration, SubjectsError>;

    /// Finds who registered this email, in whatever letter case.
    async fn user_by_email(&self, email: &str) -> Result<Option<Uuid>, SubjectsError>;

    /// The data keys of these people, from a bounded cache where it can. Who has no row is absent from the answer.
    async fn keys(&self, user_ids: &[Uuid]) -> Result<HashMap<Uuid, Arc<DataKey>>, SubjectsError>;

    /// Deletes these people's rows with keys, credentials and sessions, in one transaction. Here their keys are out of use at
    /// once, on other nodes within a second; their bytes may stand in the files until [`scrub`](Self::scrub).
    ///
    /// Safe to repeat, and to be repeated until it answers `Ok`. Who has no row is skipped.
    async fn forget(&self, user_ids: &[Uuid]) -> Result<Forgotten, SubjectsError>;

    /// Rewrites the files without the bytes of everyone who was forgotten up to that moment. It may take long: the store serves
    /// nobody while a file is rewritten. Safe to repeat; it costs little where another node has done it.
    ///
    /// # Errors
    /// `Unavailable`, also while somebody else's transaction holds on to the bytes. Repeat it for the *same* moment: a later one
    /// would wait for transactions that began since, and so perhaps for ever.
    async fn scrub(&self, forgotten: Forgotten) -> Result<(), SubjectsError>;

    /// Keeps a credential under the id that an event names; the same id again replaces the hash.
    ///
    /// # Errors
    /// `UnknownUser` when the person has no row.
    async fn put_credential(&self, credential: Credential) -> Result<(), SubjectsError>;

    async fn credential(&self, id: Uuid) -> Result<Option<Credential>, SubjectsError>;

    /// Removes all of the person's credentials but `kept`: the end of a password change.
    async fn drop_other_credentials(&self, user_id: Uuid, kept: Uuid) -> Result<(), SubjectsError>;

    /// # Errors
    /// `UnknownUser` when the person has no row.
    async fn create_session(&self, session: SessionRow) -> Result<(), SubjectsError>;

    /// Finds a session, expired or not: whoever asks compares the time.
    async fn session_by_token(&self, token_hash: &[u8; HASH_BYTES]) -> Result<Option<SessionRow>, SubjectsError>;

    /// The person's sessions, newest first, expired ones included.
    async fn sessions_of(&self, user_id: Uuid) -> Result<Vec<SessionRow>, SubjectsError>;

    /// Ends one session of this person and returns it; nothing when they have no such session.
    async fn end_session(&self, user_id: Uuid, id: Uuid) -> Result<Option<SessionRow>, SubjectsError>;

    /// Ends all sessions of this person and returns them.
    async fn end_sessions_of(&self, user_id: Uuid) -> Result<Vec<SessionRow>, SubjectsError>;

    /// Removes sessions that expired at or before `now_ms`; returns how many.
    async fn purge_sessions(&self, now_ms: i64) -> Result<u64, SubjectsError>;

    /// Keeps a value for a named secret, sealed under a key of its own, unless that makes more than `names_max` names; answers
    /// whether it did. It is in force once the log says so.
    async fn put_secret(&self, secret: NewSecret, names_max: u32) -> Result<bool, SubjectsError>;

    /// The value that is kept under this id.
    async fn secret(&self, id: Uuid) -> Result<Option<SecretString>, SubjectsError>;

    /// Every value that is kept, in force or not, without the values; by name, then oldest first.
    async fn secrets(&self) -> Result<Vec<KeptSecret>, SubjectsError>;

    /// Deletes the values of this name up to `newest`, in the order of ids. Safe to repeat.
    async fn delete_secrets(&self, name: &str, newest: Uuid) -> Result<(), SubjectsError>;

    /// Call it before a key-encryption key is drawn: takes up the one that another node rotated to.
    ///
    /// # Errors
    /// `Unavailable` when the one that the store is wrapped under is not kept here: bring it first.
    async fn await_rotation(&self) -> Result<(), SubjectsError> {
        Ok(())
    }

    /// Wraps every key, of the instance and of people, under the key-encryption key that is current, in small batches
    /// between which the store serves; answers how many stood under another.
    ///
    /// Once it answers `Ok`, nothing in the store needs another key-encryption key, its files hold no key that was wrapped
    /// under one, and a registration that was under way meanwhile wraps under the current one too. Keys themselves do not
    /// change. Cut short anywhere, every key stands under one or the other; repeating it finishes.
    ///
    /// # Errors
    /// `WrongKey` or `Damaged` at the first key that does not unwrap: the key-encryption keys in use must all be kept then.
    async fn rewrap(&self) -> Result<u64, SubjectsError>;

    async fn checkpoint(&self, name: &str) -> Result<Option<Checkpoint>, SubjectsError>;

    async fn put_checkpoint(&self, name: &str, checkpoint: Checkpoint) -> Result<(), SubjectsError>;

    /// Leaves the store as a stopped process should: call it last. Safe to repeat.
    async fn close(&self) -> Result<(), SubjectsError>;
}
