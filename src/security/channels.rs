//! The keys of channels: what the broker carries is sealed under them, one for each channel and hour.
//!
//! They follow from the instance's own key, so every node has the same ones and none is stored. Whoever was told one can open what
//! was sealed in that hour and nothing else: who may no longer have keys is shut out from the next hour on.
use base64::{Engine, engine::general_purpose::STANDARD};
use std::sync::Arc;
use zeroize::Zeroizing;

use super::{
    cipher::{KEY_BYTES, OpenError, open_plain, seal_plain},
    subjects::SubjectStore,
};

/// How long a key seals. Consumers ask for the next one as often; shorter would make them ask more for little.
pub const EPOCH_S: i64 = 60 * 60;
/// Epochs whose keys are told, beside the current one: a consumer may be away for a week, and then reads the log.
pub const EPOCHS_KEPT: u64 = 7 * 24;
const LABEL: &str = "broker channel key v1";

/// Which of a channel's keys: `events/497222`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    pub channel: String,
    pub epoch: u64,
}

impl KeyName {
    /// Reads what [`Display`](std::fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (channel, epoch) = text.rsplit_once('/')?;
        let name = Self { channel: channel.to_owned(), epoch: epoch.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.channel, self.epoch)
    }
}

/// A key of a channel. Wiped from memory when dropped, never printed.
pub struct ChannelKey(Zeroizing<[u8; KEY_BYTES]>);

impl ChannelKey {
    /// `nonce | ciphertext | tag` of XChaCha20-Poly1305.
    pub fn seal(&self, aad: &[u8], clear: &[u8]) -> Vec<u8> {
        seal_plain(&self.0, aad, clear)
    }

    /// # Errors
    /// `Truncated` or `Altered`.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        open_plain(&self.0, aad, sealed)
    }

    /// In base64, for who may have it.
    pub fn told(&self) -> String {
        STANDARD.encode(self.0.as_slice())
    }
}

/// The keys of all channels. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChannelKeys(Arc<dyn SubjectStore>);

impl ChannelKeys {
    pub fn new(subjects: Arc<dyn SubjectStore>) -> Self {
        Self(subjects)
    }

    /// The epoch of a moment, in seconds since 1970.
    pub fn epoch_at(now_s: i64) -> u64 {
        u64::try_from(now_s / EPOCH_S).unwrap_or(0)
    }

    pub fn key(&self, name: &KeyName) -> ChannelKey {
        ChannelKey(Zeroizing::new(self.0.hmac(LABEL, name.to_string().as_bytes())))
    }
}
