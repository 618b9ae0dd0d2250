//! Seals and opens bytes. Knows nothing of who owns a key or where it is kept.
//!
//! A sealed value is `format | suite | key id | nonce | ciphertext | tag`. Its header, the scope (for an event, its
//! stream) and the caller's associated data are authenticated with it, so a value opens only where it was put.
use std::{ops::Range, str::FromStr, sync::OnceLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use chacha20::{R20, hchacha};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::random;

/// Bytes of every key: both suites take 256 bits.
pub const KEY_BYTES: usize = 32;
/// Bytes of an HMAC-SHA256.
pub const MAC_BYTES: usize = 32;
/// The layout described above. Another layout gets another number, so old values stay readable.
const FORMAT: u8 = 1;
/// Format and suite, one byte each, then the key id.
const KEY_ID_AT: usize = 2;
const NONCE_AT: usize = KEY_ID_AT + 16;
/// Both suites authenticate with 128 bits.
const TAG_BYTES: usize = 16;
/// XChaCha20's nonce: long enough to draw at random for every value under one key, without counting.
const LONG_NONCE_BYTES: usize = 24;
/// HChaCha20 takes this much of the long nonce; the rest is the inner cipher's.
const HCHACHA_NONCE_BYTES: usize = 16;
/// Says what a key derived for a scope is for, so that the same data key may serve other derivations.
const DERIVATION_LABEL: &[u8] = b"marvin aes256gcm scope v1:";

/// How a value is sealed. The number stands in every header and is permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Suite {
    /// The default: nonces long enough that one key seals any number of values.
    #[default]
    XChaCha20Poly1305 = 1,
    /// Faster where the processor helps; its 96-bit nonces are safe because every scope has a derived key.
    Aes256Gcm = 2,
}

impl Suite {
    fn nonce_bytes(self) -> usize {
        match self {
            Self::XChaCha20Poly1305 => LONG_NONCE_BYTES,
            Self::Aes256Gcm => NONCE_LEN,
        }
    }

    fn header_bytes(self) -> usize {
        NONCE_AT + self.nonce_bytes()
    }
}

/// The setting names no suite that Marvin has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown cipher {0:?}: use xchacha20poly1305 or aes256gcm")]
pub struct UnknownSuiteName(String);

impl FromStr for Suite {
    type Err = UnknownSuiteName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "xchacha20poly1305" => Ok(Self::XChaCha20Poly1305),
            "aes256gcm" => Ok(Self::Aes256Gcm),
            other => Err(UnknownSuiteName(other.to_owned())),
        }
    }
}

/// A key and the id by which sealed values name it. Wiped from memory when dropped, never printed.
pub struct DataKey {
    pub id: Uuid,
    key: Zeroizing<[u8; KEY_BYTES]>,
    /// The same key made ready for HMAC, which takes as long as computing one. It wipes itself, too.
    mac_key: OnceLock<hmac::Key>,
}

impl DataKey {
    /// Draws a new random key.
    pub fn generate(id: Uuid) -> Self {
        Self::from_bytes(id, random::secret())
    }

    /// Takes up a key that was kept, after unwrapping it.
    pub fn from_bytes(id: Uuid, key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { id, key, mac_key: OnceLock::new() }
    }

    /// HMAC-SHA256 under this key. The label says what for: equal data under two labels gives unrelated results.
    pub fn mac(&self, label: &str, data: &[u8]) -> [u8; MAC_BYTES] {
        self.mac_over(label, &[data])
    }

    /// As [`mac`](Self::mac), of the parts one behind the other: where one ends is for the caller to say in them.
    pub fn mac_over(&self, label: &str, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let length = (label.len() as u64).to_be_bytes();
        self.mac_of([&length, label.as_bytes()].into_iter().chain(parts.iter().copied()))
    }

    fn mac_of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; MAC_BYTES] {
        let key = self.mac_key.get_or_init(|| hmac::Key::new(hmac::HMAC_SHA256, self.key.as_slice()));
        let mut context = hmac::Context::with_key(key);
        for part in parts {
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
    }

    /// The key itself, for wrapping it and nothing else.
    pub(crate) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a value could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than any sealed value: it was cut, or never sealed.
    #[error("the sealed value is cut short")]
    Truncated,
    /// A newer Marvin wrote it, or it is no sealed value.
    #[error("unknown sealing format {0}")]
    UnknownFormat(u8),
    /// A newer Marvin wrote it.
    #[error("unknown cipher suite {0}")]
    UnknownSuite(u8),
    /// Fetch the key that the header names.
    #[error("sealed under key {named}, opened with key {given}")]
    WrongKey { named: Uuid, given: Uuid },
    /// A byte was changed, or the value stands in another place than the one it was sealed for.
    #[error("the sealed value was altered or does not belong here")]
    Altered,
}

/// Seals `clear` for one `scope` (its stream or table) and place (`aad`). Sealing twice gives two different values.
pub fn seal(suite: Suite, key: &DataKey, scope: &[u8], aad: &[u8], clear: &[u8]) -> Vec<u8> {
    seal_at(suite, key, scope, [aad, &[]], clear)
}

/// As [`seal`], for a place in two pieces that need not be joined first.
pub(super) fn seal_at(suite: Suite, key: &DataKey, scope: &[u8], place: [&[u8]; 2], clear: &[u8]) -> Vec<u8> {
    let header_bytes = suite.header_bytes();
    let mut out = Vec::with_capacity(header_bytes + clear.len() + TAG_BYTES);
    out.extend_from_slice(&[FORMAT, suite as u8]);
    out.extend_from_slice(key.id.as_bytes());
    match suite {
        Suite::XChaCha20Poly1305 => out.extend_from_slice(&random::nonce::<LONG_NONCE_BYTES>()),
        Suite::Aes256Gcm => out.extend_from_slice(&random::nonce::<NONCE_LEN>()),
    }
    let associated = Associated::new(&out, scope, place);
    let (cipher, nonce) = cipher(suite, key, scope, &out[NONCE_AT..]);
    out.extend_from_slice(clear);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(associated.bytes()), &mut out[header_bytes..])
        .expect("a value in memory is shorter than the cipher's limit of 64 GiB");
    out.extend_from_slice(tag.as_ref());
    out
}

/// Opens what [`seal`] made under the same key, scope and associated data.
pub fn open(key: &DataKey, scope: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    open_at(key, scope, [aad, &[]], sealed)
}

/// As [`open`], for what [`seal_at`] made.
pub(super) fn open_at(key: &DataKey, scope: &[u8], place: [&[u8]; 2], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut value = sealed.to_vec();
    let clear = open_in_place(key, scope, place, &mut value)?;
    value.truncate(clear.end);
    value.drain(..clear.start);
    Ok(value)
}

/// As [`open_at`], writing what is clear over what was sealed; answers where in it that is. After an error the value is spoilt.
pub(super) fn open_in_place(
    key: &DataKey,
    scope: &[u8],
    place: [&[u8]; 2],
    sealed: &mut [u8],
) -> Result<Range<usize>, OpenError> {
    let (suite, named) = parse(sealed)?;
    if named != key.id {
        return Err(OpenError::WrongKey { named, given: key.id });
    }
    let (header, body) = sealed.split_at_mut(suite.header_bytes());
    let (cipher, nonce) = cipher(suite, key, scope, &header[NONCE_AT..]);
    let associated = Associated::new(header, scope, place);
    let clear = cipher.open_in_place(nonce, Aad::from(associated.bytes()), body).map_err(|_| OpenError::Altered)?;
    Ok(header.len()..header.len() + clear.len())
}

/// Seals `clear` as `nonce | ciphertext | tag` of XChaCha20-Poly1305, which any library opens under the same key and associated data.
pub fn seal_plain(key: &[u8; KEY_BYTES], aad: &[u8], clear: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(LONG_NONCE_BYTES + clear.len() + TAG_BYTES);
    out.extend_from_slice(&random::nonce::<LONG_NONCE_BYTES>());
    let (cipher, nonce) = xchacha(key, &out);
    out.extend_from_slice(clear);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[LONG_NONCE_BYTES..])
        .expect("a value in memory is shorter than the cipher's limit of 64 GiB");
    out.extend_from_slice(tag.as_ref());
    out
}

/// Opens what [`seal_plain`] made under the same key and associated data.
///
/// # Errors
/// `Truncated` or `Altered`.
pub fn open_plain(key: &[u8; KEY_BYTES], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    if sealed.len() < LONG_NONCE_BYTES + TAG_BYTES {
        return Err(OpenError::Truncated);
    }
    let (nonce, body) = sealed.split_at(LONG_NONCE_BYTES);
    let (cipher, nonce) = xchacha(key, nonce);
    let mut body = body.to_vec();
    let clear = cipher.open_in_place(nonce, Aad::from(aad), &mut body).map_err(|_| OpenError::Altered)?.len();
    body.truncate(clear);
    Ok(body)
}

/// The id of the key that `sealed` was sealed under, read without opening it (and so not yet authenticated).
pub fn key_id(sealed: &[u8]) -> Result<Uuid, OpenError> {
    parse(sealed).map(|(_, id)| id)
}

/// Reads the header; what it returns is safe to slice `sealed` by.
fn parse(sealed: &[u8]) -> Result<(Suite, Uuid), OpenError> {
    let &[format, suite, ..] = sealed else { return Err(OpenError::Truncated) };
    if format != FORMAT {
        return Err(OpenError::UnknownFormat(format));
    }
    let suite = match suite {
        1 => Suite::XChaCha20Poly1305,
        2 => Suite::Aes256Gcm,
        other => return Err(OpenError::UnknownSuite(other)),
    };
    if sealed.len() < suite.header_bytes() + TAG_BYTES {
        return Err(OpenError::Truncated);
    }
    let id = Uuid::from_slice(&sealed[KEY_ID_AT..NONCE_AT]).map_err(|_| OpenError::Truncated)?;
    Ok((suite, id))
}

/// Bytes of associated data that need no allocation: those of every event and document.
const ASSOCIATED_INLINE_BYTES: usize = 256;

/// What is authenticated beside the value: its header, scope and place.
#[expect(
    clippy::large_enum_variant,
    reason = "it stands on the stack for one call; a box would be the allocation it saves"
)]
enum Associated {
    Inline([u8; ASSOCIATED_INLINE_BYTES], usize),
    Long(Vec<u8>),
}

impl Associated {
    /// The scope's length goes before it, so that no two pairs of scope and associated data give the same bytes.
    fn new(header: &[u8], scope: &[u8], place: [&[u8]; 2]) -> Self {
        let parts = [header, &(scope.len() as u64).to_be_bytes(), scope, place[0], place[1]];
        let length = parts.iter().map(|part| part.len()).sum();
        if length > ASSOCIATED_INLINE_BYTES {
            return Self::Long(parts.concat());
        }
        let mut inline = [0; ASSOCIATED_INLINE_BYTES];
        let mut rest = &mut inline[..];
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        Self::Inline(inline, length)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(bytes, length) => &bytes[..*length],
            Self::Long(bytes) => bytes,
        }
    }
}

fn cipher(suite: Suite, key: &DataKey, scope: &[u8], nonce: &[u8]) -> (LessSafeKey, Nonce) {
    match suite {
        Suite::XChaCha20Poly1305 => xchacha(key.expose(), nonce),
        Suite::Aes256Gcm => aes_of_scope(key, scope, nonce),
    }
}

/// XChaCha20-Poly1305 is ChaCha20-Poly1305 under a subkey that HChaCha20 makes of the key and the nonce's first part
/// (draft-irtf-cfrg-xchacha-03, section 2.3). Composed this way it opens several times faster than a portable cipher.
fn xchacha(key: &[u8; KEY_BYTES], nonce: &[u8]) -> (LessSafeKey, Nonce) {
    let (head, tail) = nonce.split_at(HCHACHA_NONCE_BYTES);
    let head: [u8; HCHACHA_NONCE_BYTES] = head.try_into().expect("split at this length");
    let mut subkey: [u8; KEY_BYTES] = hchacha::<R20>(key.into(), &head.into()).into();
    let cipher = UnboundKey::new(&CHACHA20_POLY1305, &subkey).expect("a ChaCha20 key has 32 bytes");
    subkey.zeroize();
    let mut inner = [0; NONCE_LEN];
    inner[NONCE_LEN - tail.len()..].copy_from_slice(tail);
    (LessSafeKey::new(cipher), Nonce::assume_unique_for_key(inner))
}

/// A random 96-bit nonce may serve about 2^32 values under one key (NIST SP 800-38D, section 8.3); a key for each scope
/// keeps every stream far below that. The data key is uniformly random, so HKDF's extract step is not needed, and one
/// block of its expansion is an HMAC of the label, the scope and the block's number (RFC 5869, sections 2.3 and 3.3).
fn aes_of_scope(key: &DataKey, scope: &[u8], nonce: &[u8]) -> (LessSafeKey, Nonce) {
    let derived = Zeroizing::new(key.mac_of([DERIVATION_LABEL, scope, &[1]]));
    let cipher = UnboundKey::new(&AES_256_GCM, derived.as_slice()).expect("an AES-256 key has 32 bytes");
    (LessSafeKey::new(cipher), Nonce::try_assume_unique_for_key(nonce).expect("the header holds 12 bytes of nonce"))
}

#[cfg(test)]
#[path = "cipher_tests.rs"]
mod tests;
