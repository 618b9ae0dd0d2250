//! The keys of one store, unwrapped, and how they are wrapped. Knows no database: an adapter brings the rows.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Place, SubjectsError};
use crate::security::cipher::{DataKey, KEY_BYTES, MAC_BYTES};
use crate::security::fresh_cache::FreshCache;
use crate::security::keyfile::{KeyWrap, WrapError};
use crate::security::random;

/// Data keys held unwrapped: more people than are active at once, in a few megabytes.
const KEYS_CACHED_MAX: u64 = 20_000;
/// How long an unwrapped key may be used without looking at its row again.
const KEY_AGE_MAX: Duration = Duration::from_secs(1);
/// What emails are hashed for.
const EMAIL_LABEL: &str = "email";
/// The key that facts are sealed under.
pub const FACTS: &str = "facts";
/// What a node says that another has rotated away from.
const OUT_OF_DATE: &str =
    "this node's key file has not been brought up to date after a rotation: copy it from the node that rotated";
/// The key of the email index and of other HMACs.
const HMAC: &str = "hmac";

/// A row of `instance_keys`.
pub struct StoredKey {
    pub name: String,
    pub key_id: Uuid,
    pub wrapped: Vec<u8>,
}

/// A key that was wrapped anew, and what it stands in place of.
pub struct Replacement<T> {
    pub of: T,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
}

/// The rows that hold wrapped keys.
#[async_trait]
pub trait WrappedRows: Send + Sync {
    async fn instance_keys(&self) -> Result<Vec<StoredKey>, SubjectsError>;

    /// The wrapped keys of those that have a row.
    async fn wrapped_keys(&self, user_ids: Vec<Uuid>) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError>;

    /// The next rows of people behind `after`, in the order of ids.
    async fn wrapped_page(&self, after: Option<Uuid>, rows_max: u32) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError>;

    /// Puts wrapped keys in place of the wrapped keys they were made from; those that are gone or changed stay so.
    async fn replace_instance_keys(&self, keys: Vec<Replacement<String>>) -> Result<(), SubjectsError>;

    /// As [`replace_instance_keys`](Self::replace_instance_keys), for people.
    async fn replace_wrapped(&self, keys: Vec<Replacement<Uuid>>) -> Result<(), SubjectsError>;

    /// The wrapped keys of secrets, of which there are few.
    async fn wrapped_keys_of_secrets(&self) -> Result<Vec<(Uuid, Vec<u8>)>, SubjectsError>;

    /// As [`replace_instance_keys`](Self::replace_instance_keys), for secrets.
    async fn replace_keys_of_secrets(&self, keys: Vec<Replacement<Uuid>>) -> Result<(), SubjectsError>;

    /// Rewrites the files without the wrapped keys that were replaced.
    async fn scrub_replaced(&self) -> Result<(), SubjectsError>;
}

#[derive(Debug)]
pub struct Keyring {
    place: Place,
    wrap: Arc<dyn KeyWrap>,
    facts: Arc<DataKey>,
    hmac: DataKey,
    people: FreshCache<Uuid, Arc<DataKey>>,
    /// Whether other nodes wrap in the same store, so that a key-encryption key may be rotated elsewhere.
    is_shared: bool,
}

impl Keyring {
    /// Draws the keys of a new instance; the rows that come with them are still to be kept.
    pub async fn draw(place: Place, wrap: Arc<dyn KeyWrap>) -> Result<(Self, Vec<StoredKey>), SubjectsError> {
        let (facts, kept_facts) = draw(FACTS, &*wrap).await?;
        let (hmac, kept_hmac) = draw(HMAC, &*wrap).await?;
        Ok((Self::of(place, wrap, facts, hmac), vec![kept_facts, kept_hmac]))
    }

    /// Unwraps the keys of the instance.
    ///
    /// # Errors
    /// `WrongKey` or `Damaged` when one is missing or does not unwrap.
    pub async fn open(place: Place, wrap: Arc<dyn KeyWrap>, stored: &[StoredKey]) -> Result<Self, SubjectsError> {
        let facts = unwrap_named(&place, stored, FACTS, &*wrap).await?;
        let hmac = unwrap_named(&place, stored, HMAC, &*wrap).await?;
        Ok(Self::of(place, wrap, facts, hmac))
    }

    fn of(place: Place, wrap: Arc<dyn KeyWrap>, facts: DataKey, hmac: DataKey) -> Self {
        let people = FreshCache::new(KEYS_CACHED_MAX, KEY_AGE_MAX);
        Self { place, wrap, facts: Arc::new(facts), hmac, people, is_shared: false }
    }

    /// From now on a key that does not unwrap may be one that another node has rotated: it is looked for where the
    /// key-encryption key is kept, and until it is there the answer is `Unavailable` instead of `WrongKey`.
    pub fn shared_by_nodes(self) -> Self {
        Self { is_shared: true, ..self }
    }

    /// Where the store is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn facts(&self) -> Arc<DataKey> {
        Arc::clone(&self.facts)
    }

    pub fn hmac(&self, label: &str, data: &[u8]) -> [u8; MAC_BYTES] {
        self.hmac.mac(label, data)
    }

    /// What stands for an email in the index. People type the same address with blanks and in any letter case.
    pub fn email_hmac(&self, email: &str) -> [u8; MAC_BYTES] {
        self.hmac(EMAIL_LABEL, email.trim().to_lowercase().as_bytes())
    }

    /// Wraps a person's key, for its row.
    pub async fn wrap(&self, key: &DataKey) -> Result<Vec<u8>, SubjectsError> {
        self.wrap_for(&context(key.id), key).await
    }

    pub(super) async fn wrap_for(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, SubjectsError> {
        self.wrap.wrap_key(context, key.expose()).await.map_err(SubjectsError::unavailable)
    }

    /// Wraps a person's key under what `like` is wrapped under: a key of the instance as its row has it now.
    ///
    /// # Errors
    /// `Unavailable`, on a store that nodes share also while the key-encryption key is not at hand here; `WrongKey`, `Damaged`.
    pub async fn wrap_like(&self, like: &[u8], key: &DataKey) -> Result<Vec<u8>, SubjectsError> {
        self.wrap_like_for(&context(key.id), like, key).await
    }

    pub(super) async fn wrap_like_for(
        &self,
        context: &[u8],
        like: &[u8],
        key: &DataKey,
    ) -> Result<Vec<u8>, SubjectsError> {
        let mut wrapped = self.wrap.wrap_like(like, context, key.expose()).await;
        if matches!(wrapped, Err(WrapError::WrongKey)) && self.is_shared && self.wrap.look_for(like).await {
            wrapped = self.wrap.wrap_like(like, context, key.expose()).await;
        }
        wrapped.map_err(|error| self.not_unwrapped("a key of the instance", error))
    }

    /// Whether a rotation has not begun since this was wrapped.
    pub fn is_current(&self, wrapped: &[u8]) -> bool {
        self.wrap.is_current(wrapped)
    }

    /// Reads again which key-encryption keys there are, before another is drawn.
    ///
    /// # Errors
    /// `Unavailable` when what these keys of the instance are wrapped under is not among them; `Damaged`.
    pub async fn reread(&self, stored: &[StoredKey]) -> Result<(), SubjectsError> {
        let row = stored.iter().find(|row| row.name == FACTS);
        let row = row.ok_or_else(|| SubjectsError::damaged(&self.place, format!("its {FACTS} key is missing")))?;
        if self.wrap.reread_for(&row.wrapped).await { Ok(()) } else { Err(SubjectsError::unavailable(OUT_OF_DATE)) }
    }

    /// Checks that all keys of the instance are wrapped under what is current here.
    ///
    /// # Errors
    /// `Unavailable` when they are not: another node rotates too, with a key of its own.
    pub fn require_current(&self, stored: &[StoredKey]) -> Result<(), SubjectsError> {
        if stored.iter().all(|key| self.is_current(&key.wrapped)) {
            return Ok(());
        }
        Err(SubjectsError::unavailable(OUT_OF_DATE))
    }

    /// The keys of these people, held ones first. Who has no row is absent from the answer.
    pub async fn keys(
        &self,
        user_ids: &[Uuid],
        rows: &dyn WrappedRows,
    ) -> Result<HashMap<Uuid, Arc<DataKey>>, SubjectsError> {
        let mut keys = HashMap::with_capacity(user_ids.len());
        let mut missing = Vec::new();
        for id in user_ids {
            match self.people.get(id) {
                Some(key) => drop(keys.insert(*id, key)),
                None => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return Ok(keys);
        }
        let mut read = self.read(&missing, rows).await;
        if matches!(read, Err(SubjectsError::WrongKey(_))) {
            // A rotation may have ended between the reading of a row and its unwrapping: it reads right now.
            read = self.read(&missing, rows).await;
        }
        keys.extend(read.map_err(|error| self.or_out_of_date(error))?);
        Ok(keys)
    }

    async fn read(&self, ids: &[Uuid], rows: &dyn WrappedRows) -> Result<Vec<(Uuid, Arc<DataKey>)>, SubjectsError> {
        let reading = self.people.reading();
        let found = rows.wrapped_keys(ids.to_vec()).await?;
        let mut keys = Vec::with_capacity(found.len());
        for (id, wrapped) in found {
            let unwrapped = self.unwrap(&context(id), &wrapped).await;
            let key = unwrapped.map_err(|error| not_unwrapped(&self.place, &format!("the key of {id}"), error))?;
            let key = Arc::new(DataKey::from_bytes(id, key));
            self.people.fill(reading, id, Arc::clone(&key));
            keys.push((id, key));
        }
        Ok(keys)
    }

    /// Must be called after the person's row was deleted, also when it is not known whether it was.
    pub fn evict(&self, user_id: &Uuid) {
        self.people.evict(user_id);
    }

    /// A key of the instance under the current key-encryption key; none when it is that already.
    pub async fn instance_key_anew(&self, key: StoredKey) -> Result<Option<Replacement<String>>, SubjectsError> {
        let new = self.anew(&instance_context(&key.name), &format!("its {} key", key.name), &key.wrapped).await?;
        Ok(new.map(|new| Replacement { of: key.name, old: key.wrapped, new }))
    }

    /// The same for a person's key.
    pub async fn key_anew(&self, id: Uuid, old: Vec<u8>) -> Result<Option<Replacement<Uuid>>, SubjectsError> {
        let new = self.anew(&context(id), &format!("the key of {id}"), &old).await?;
        Ok(new.map(|new| Replacement { of: id, old, new }))
    }

    pub(super) async fn anew(
        &self,
        context: &[u8],
        which: &str,
        wrapped: &[u8],
    ) -> Result<Option<Vec<u8>>, SubjectsError> {
        if self.is_current(wrapped) {
            return Ok(None);
        }
        let failed = |error| self.not_unwrapped(which, error);
        let key = self.unwrap(context, wrapped).await.map_err(failed)?;
        self.wrap.wrap_key(context, &key).await.map(Some).map_err(failed)
    }

    /// Unwraps the key `which`.
    pub(super) async fn unwrap_for(
        &self,
        context: &[u8],
        which: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, SubjectsError> {
        self.unwrap(context, wrapped).await.map_err(|error| self.not_unwrapped(which, error))
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, WrapError> {
        let unwrapped = self.wrap.unwrap_key(context, wrapped).await;
        if matches!(unwrapped, Err(WrapError::WrongKey)) && self.is_shared && self.wrap.look_for(wrapped).await {
            return self.wrap.unwrap_key(context, wrapped).await;
        }
        unwrapped
    }

    fn not_unwrapped(&self, which: &str, error: WrapError) -> SubjectsError {
        self.or_out_of_date(not_unwrapped(&self.place, which, error))
    }

    /// While a store that nodes share is open, the wrong key is one that is yet to come.
    fn or_out_of_date(&self, error: SubjectsError) -> SubjectsError {
        match error {
            SubjectsError::WrongKey(_) if self.is_shared => SubjectsError::unavailable(OUT_OF_DATE),
            other => other,
        }
    }
}

async fn draw(name: &str, wrap: &dyn KeyWrap) -> Result<(DataKey, StoredKey), SubjectsError> {
    let key = DataKey::generate(uuid::Builder::from_random_bytes(random::bytes()).into_uuid());
    let wrapped = wrap.wrap_key(&instance_context(name), key.expose()).await.map_err(SubjectsError::unavailable)?;
    let stored = StoredKey { name: name.to_owned(), key_id: key.id, wrapped };
    Ok((key, stored))
}

async fn unwrap_named(
    place: &Place,
    stored: &[StoredKey],
    name: &str,
    wrap: &dyn KeyWrap,
) -> Result<DataKey, SubjectsError> {
    let row = stored.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| SubjectsError::damaged(place, format!("its {name} key is missing")))?;
    let unwrapped = wrap.unwrap_key(&instance_context(name), &row.wrapped).await;
    let key = unwrapped.map_err(|error| not_unwrapped(place, &format!("its {name} key"), error))?;
    Ok(DataKey::from_bytes(row.key_id, key))
}

/// What is wrong with a store when one of its keys, `which`, does not unwrap.
fn not_unwrapped(place: &Place, which: &str, error: WrapError) -> SubjectsError {
    match error {
        WrapError::WrongKey => SubjectsError::WrongKey(place.clone()),
        WrapError::Altered => SubjectsError::damaged(place, format!("{which} was altered")),
        WrapError::Unavailable(source) => SubjectsError::Unavailable(source),
    }
}

/// Binds a wrapped key to its row: copied to another person's row, it does not unwrap.
fn context(user_id: Uuid) -> Vec<u8> {
    [b"subject key ", user_id.as_bytes().as_slice()].concat()
}

/// The same for a key of the instance and its name.
fn instance_context(name: &str) -> Vec<u8> {
    [b"instance key ", name.as_bytes()].concat()
}
