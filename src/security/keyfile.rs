//! The key-encryption key that wraps every other key, and its rotation. A new one is drawn, never derived.
//!
//! Its file holds one line, `marvin-key-v1 <base64>`. While a rotation runs it holds several: the first is the key that
//! wraps from now on, the others only open what was wrapped before. So whenever the process is killed, the file opens
//! every wrapped key there is.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use tracing::{info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::cipher::{self, DataKey, KEY_BYTES, OpenError, Suite};

mod file;

/// Sets wrapped keys apart from everything else that could be sealed under this key.
const SCOPE: &[u8] = b"marvin wrapped key";
/// How long a key file that lacked a key is not looked at again: a person copies it, so a second is soon enough.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The current key, then those that only open.
type Ring = Vec<Arc<DataKey>>;

/// Wraps keys under a key-encryption key that is kept elsewhere. A `context` says which key it is; a wrapped key
/// unwraps only under the context it was wrapped for, so rows cannot be swapped.
#[async_trait]
pub trait KeyWrap: Send + Sync + std::fmt::Debug {
    /// # Errors
    /// `Unavailable` when the service that holds the key cannot be reached.
    async fn wrap_key(&self, context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError>;

    /// As [`wrap_key`](Self::wrap_key), under the key-encryption key that `like` is wrapped under, current or not.
    ///
    /// # Errors
    /// `WrongKey` when that one is not at hand, `Altered` when `like` is no wrapped key.
    async fn wrap_like(&self, like: &[u8], context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError>;

    /// # Errors
    /// `WrongKey` when it was wrapped under another key-encryption key, `Altered` when a byte or the context differs.
    async fn unwrap_key(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, WrapError>;

    /// Whether a key that is wrapped now would be wrapped under the same key-encryption key as `wrapped` is.
    fn is_current(&self, wrapped: &[u8]) -> bool;

    /// Whether what `wrapped` is wrapped under is at hand; when it is not, looks once more where it is kept, since another
    /// node may have rotated it. After it looked in vain it does not for a second.
    async fn look_for(&self, wrapped: &[u8]) -> bool;

    /// The same, and looks in any case: what is no longer kept there is let go, if what `wrapped` needs is there.
    async fn reread_for(&self, wrapped: &[u8]) -> bool;
}

/// Why a key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// Bring the key-encryption key that this data was made with.
    #[error("wrapped under another key-encryption key")]
    WrongKey,
    /// The wrapped key was changed, cut, or moved to another row.
    #[error("the wrapped key was altered or does not belong here")]
    Altered,
    /// Try again later.
    #[error("the key-encryption key is not reachable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the key file cannot be used. What stands on disk still opens everything.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("the data directory holds data but {} is missing: put the key file back; nothing was changed", .0.display())]
    Missing(PathBuf),
    #[error("{} can be read by others (mode {mode:03o}): run chmod 600 on it and make sure nobody copied it", .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is not a Marvin key file ({reason}): put the right file back; nothing was changed", .path.display())]
    Malformed { path: PathBuf, reason: &'static str },
    #[error("{} no longer holds the key in use: put that key file back; nothing was changed", .0.display())]
    Replaced(PathBuf),
    #[error("cannot read or write {}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The key-encryption key from a key file, or the keys, while it is rotated.
#[derive(Debug)]
pub struct MasterKey {
    path: PathBuf,
    ring: RwLock<Arc<Ring>>,
    /// Held by whoever rewrites the file. The new key of the rotation that was begun here.
    rewriting: Mutex<Option<Uuid>>,
    /// Held by whoever looks into the file for a key; when that was last in vain.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl MasterKey {
    /// Reads the key file, or makes one when there is none and `store_is_empty`. An existing file is never written to.
    ///
    /// Repeating is safe: the second call reads what the first one made.
    ///
    /// # Errors
    /// Every variant of [`KeyFileError`] but `Replaced`; each message says what to do.
    pub fn load_or_create(path: &Path, store_is_empty: bool) -> Result<Self, KeyFileError> {
        let ring = match file::read(path) {
            Err(KeyFileError::Missing(_)) if store_is_empty => file::create(path)?,
            read => read?,
        };
        Ok(Self {
            path: path.to_owned(),
            ring: RwLock::new(Arc::new(ring)),
            rewriting: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        })
    }

    /// Where the key is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Draws a new key, keeps it as the file's first line, and wraps under it from now on; the old one still opens. When a
    /// rotation was begun before and never ended, its key is used and none is drawn. Blocks on the disk.
    ///
    /// # Errors
    /// Every variant of [`KeyFileError`]; keys are wrapped as before then. May be repeated.
    pub fn begin_rotation(&self) -> Result<(), KeyFileError> {
        let mut begun = self.rewriting.lock().unwrap_or_else(PoisonError::into_inner);
        // Nodes may have the file in common: two that drew keys at once would each throw the other's away.
        let _alone = file::lock(&self.path)?;
        let known = self.ring();
        let mut ring = file::read(&self.path)?;
        // What was wrapped in this process must open at the next start: never write a file that lacks its key.
        if !ring.iter().any(|key| key.id == known[0].id) {
            return Err(KeyFileError::Replaced(self.path.clone()));
        }
        for key in known.iter() {
            if ring.iter().all(|standing| standing.id != key.id) {
                ring.push(key.clone());
            }
        }
        if ring.len() == 1 {
            ring.insert(0, file::draw());
        }
        file::replace(&self.path, &ring)?;
        *begun = Some(ring[0].id);
        self.use_ring(ring);
        Ok(())
    }

    /// Lets the old key go. Call it only when nothing is left that is wrapped under it. Blocks on the disk.
    ///
    /// It does so only for the rotation that was begun here last: another node may have begun the next one in the same file.
    ///
    /// # Errors
    /// Every variant of [`KeyFileError`]; the old key still opens then, and this may be repeated.
    pub fn end_rotation(&self) -> Result<(), KeyFileError> {
        let begun = self.rewriting.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = file::lock(&self.path)?;
        let current = self.ring()[0].clone();
        if begun.is_some_and(|begun| begun != current.id) || file::read(&self.path)?[0].id != current.id {
            return Err(KeyFileError::Replaced(self.path.clone()));
        }
        let ring = vec![current];
        file::replace(&self.path, &ring)?;
        self.use_ring(ring);
        Ok(())
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn use_ring(&self, ring: Ring) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    fn at_hand(&self, id: Uuid) -> bool {
        self.ring().iter().any(|key| key.id == id)
    }

    /// Uses what the file holds, if that is the key that is `wanted` among others; answers whether it is at hand then.
    async fn take_up(&self, wanted: Uuid) -> bool {
        let (known, path) = (self.ring(), self.path.clone());
        let read = match spawn_blocking(move || file::read(&path)).await {
            Ok(read) => read,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        };
        match read {
            Ok(ring) if ring.iter().any(|key| key.id == wanted) => {
                let mut used = self.ring.write().unwrap_or_else(PoisonError::into_inner);
                // What a rotation in this process put there since is newer than what was read.
                if Arc::ptr_eq(&used, &known) {
                    *used = Arc::new(ring);
                    info!(path = %self.path.display(), "the key file was read again");
                }
            }
            Ok(_) => warn!(
                path = %self.path.display(),
                "keys are wrapped under another key than this node's key file holds: copy the file of the node that rotated it"
            ),
            Err(error) => warn!(error = &error as &dyn std::error::Error, "the key file cannot be read again"),
        }
        self.at_hand(wanted)
    }

    fn wrap_under(key: &DataKey, context: &[u8], clear: &[u8; KEY_BYTES]) -> Vec<u8> {
        cipher::seal(Suite::XChaCha20Poly1305, key, SCOPE, context, clear)
    }
}

#[async_trait]
impl KeyWrap for MasterKey {
    async fn wrap_key(&self, context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError> {
        Ok(Self::wrap_under(&self.ring()[0], context, key))
    }

    async fn wrap_like(&self, like: &[u8], context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, WrapError> {
        let named = cipher::key_id(like).map_err(|_| WrapError::Altered)?;
        let ring = self.ring();
        let under = ring.iter().find(|key| key.id == named).ok_or(WrapError::WrongKey)?;
        Ok(Self::wrap_under(under, context, key))
    }

    async fn unwrap_key(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, WrapError> {
        let named = cipher::key_id(wrapped).map_err(|_| WrapError::Altered)?;
        let ring = self.ring();
        let key = ring.iter().find(|key| key.id == named).ok_or(WrapError::WrongKey)?;
        let clear = Zeroizing::new(cipher::open(key, SCOPE, context, wrapped).map_err(|error| match error {
            OpenError::WrongKey { .. } => WrapError::WrongKey,
            _ => WrapError::Altered,
        })?);
        let key = clear.as_slice().try_into().map_err(|_| WrapError::Altered)?;
        Ok(Zeroizing::new(key))
    }

    fn is_current(&self, wrapped: &[u8]) -> bool {
        cipher::key_id(wrapped).is_ok_and(|named| named == self.ring()[0].id)
    }

    async fn look_for(&self, wrapped: &[u8]) -> bool {
        let Ok(wanted) = cipher::key_id(wrapped) else { return false };
        // Whoever wants a key while somebody looks waits, and finds what they found.
        let mut looked = self.looked.lock().await;
        if self.at_hand(wanted) {
            return true;
        }
        if looked.is_some_and(|at| at.elapsed() < LOOK_INTERVAL) {
            return false;
        }
        let found = self.take_up(wanted).await;
        *looked = (!found).then(Instant::now);
        found
    }

    async fn reread_for(&self, wrapped: &[u8]) -> bool {
        match cipher::key_id(wrapped) {
            Ok(wanted) => self.take_up(wanted).await,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
