//! What a receiver shows to answer a call: which task and step it is for, and that we said so.
//!
//! It follows from the two, so the next attempt, and another node, know it again; nothing of it is stored.
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::security::{cipher::MAC_BYTES, subjects::SubjectStore};

const LABEL: &str = "webhook callback";
const PLACE_BYTES: usize = 16 + 4;

/// The call that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub task: Uuid,
    /// The step that records that the call was taken on.
    pub call: u32,
}

impl Place {
    fn bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..16].copy_from_slice(self.task.as_bytes());
        bytes[16..].copy_from_slice(&self.call.to_be_bytes());
        bytes
    }

    /// Task, step, and an HMAC of both under the instance's own key, in the base64 of URLs.
    pub fn token(self, subjects: &dyn SubjectStore) -> String {
        let place = self.bytes();
        URL_SAFE_NO_PAD.encode([place.as_slice(), &subjects.hmac(LABEL, &place)].concat())
    }

    /// Reads a token; none unless we made it. Compares in constant time.
    pub fn of(token: &str, subjects: &dyn SubjectStore) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (place, mac) = bytes.split_at_checked(PLACE_BYTES)?;
        let expected = subjects.hmac(LABEL, place);
        if mac.len() != MAC_BYTES || verify_slices_are_equal(mac, &expected).is_err() {
            return None;
        }
        let (task, call) = place.split_at(16);
        let task = Uuid::from_slice(task).ok()?;
        Some(Self { task, call: u32::from_be_bytes(call.try_into().ok()?) })
    }
}
