//! Values of named secrets as they are kept: each sealed under a key of its own, bound to its id and name.
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::keyring::{Keyring, Replacement};
use super::{Place, SubjectsError};
use crate::security::cipher::{self, DataKey, Suite};

/// Sets values apart from everything else that is sealed.
const SCOPE: &[u8] = b"marvin secret";

/// A value that is to be kept. Shows nothing of it.
#[derive(Debug)]
pub struct NewSecret {
    /// Under which the log brings it into force.
    pub id: Uuid,
    pub name: String,
    pub value: SecretString,
    pub kept_at_ms: i64,
}

/// A value that is kept, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSecret {
    pub id: Uuid,
    pub name: String,
    pub kept_at_ms: i64,
}

/// A row of `secrets`.
pub(super) struct SealedSecret {
    pub id: Uuid,
    pub name: String,
    pub wrapped: Vec<u8>,
    pub sealed: Vec<u8>,
    pub kept_at_ms: i64,
}

impl NewSecret {
    /// The row of this value, whose key is wrapped by `wrap`.
    pub(super) fn sealed(&self, key: &DataKey, wrapped: Vec<u8>) -> SealedSecret {
        let place = [self.name.as_bytes(), b"" as &[u8]];
        let value = self.value.expose_secret().as_bytes();
        let sealed = cipher::seal_at(Suite::XChaCha20Poly1305, key, SCOPE, place, value);
        SealedSecret { id: self.id, name: self.name.clone(), wrapped, sealed, kept_at_ms: self.kept_at_ms }
    }
}

impl SealedSecret {
    /// # Errors
    /// `WrongKey`, `Damaged`, and `Unavailable` while the key-encryption key cannot be had.
    pub async fn open(&self, place: &Place, keyring: &Keyring) -> Result<SecretString, SubjectsError> {
        let damaged = || SubjectsError::damaged(place, format!("the secret {} was altered", self.id));
        let key = keyring.secret_key(self.id, &self.wrapped).await?;
        let at = [self.name.as_bytes(), b"" as &[u8]];
        let value = cipher::open_at(&key, SCOPE, at, &self.sealed).map_err(|_| damaged())?;
        let value = String::from_utf8(value).map_err(|error| {
            error.into_bytes().zeroize();
            damaged()
        })?;
        Ok(SecretString::from(value))
    }
}

/// Binds a wrapped key to its row: copied to another one, it does not unwrap.
fn context(id: Uuid) -> Vec<u8> {
    [b"secret key ", id.as_bytes().as_slice()].concat()
}

impl Keyring {
    /// Wraps a secret's key, for its row.
    pub(super) async fn wrap_secret(&self, key: &DataKey) -> Result<Vec<u8>, SubjectsError> {
        self.wrap_for(&context(key.id), key).await
    }

    /// As [`wrap_like`](Self::wrap_like), a secret's key.
    pub(super) async fn wrap_secret_like(&self, like: &[u8], key: &DataKey) -> Result<Vec<u8>, SubjectsError> {
        self.wrap_like_for(&context(key.id), like, key).await
    }

    async fn secret_key(&self, id: Uuid, wrapped: &[u8]) -> Result<DataKey, SubjectsError> {
        let key: Zeroizing<_> = self.unwrap_for(&context(id), &format!("the key of secret {id}"), wrapped).await?;
        Ok(DataKey::from_bytes(id, key))
    }

    /// A secret's key under the current key-encryption key; none when it is that already.
    pub(super) async fn secret_key_anew(
        &self,
        id: Uuid,
        old: Vec<u8>,
    ) -> Result<Option<Replacement<Uuid>>, SubjectsError> {
        let new = self.anew(&context(id), &format!("the key of secret {id}"), &old).await?;
        Ok(new.map(|new| Replacement { of: id, old, new }))
    }
}
