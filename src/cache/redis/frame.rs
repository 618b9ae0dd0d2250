//! How heads, documents and marks stand in Redis, and whether what stands there is Marvin's own.
//!
//! Heads and documents carry a code under the instance's key over the key of Redis that they stand at and all that is in them. So
//! nothing that somebody altered, copied to another document, generation, table or instance, or gave another position is taken.
use bytes::Bytes;
use marvin_domain::Position;
use std::sync::Arc;
use uuid::{Uuid, fmt::Simple};

use crate::{
    cache::{BODY_BYTES_MAX, Entry, Head, TableKey},
    security::cipher::DataKey,
};

/// Raised when a layout changes: other versions of Marvin may share the instance.
const FORMAT: u8 = 1;
/// Of the 32 bytes of an HMAC-SHA256: as many as the ciphers authenticate with.
const CODE_BYTES: usize = 16;
/// Format, token, generation and position.
const HEAD_CLEAR_BYTES: usize = 1 + 8 + 16 + 8;
const HEAD_BYTES: usize = HEAD_CLEAR_BYTES + CODE_BYTES;
/// Format, position and code; the body follows.
const ENTRY_CLEAR_BYTES: usize = 1 + 8;
const ENTRY_HEAD_BYTES: usize = ENTRY_CLEAR_BYTES + CODE_BYTES;

/// What a mark that is a lease begins with; a position's begins with `v`.
const LEASE: char = 'l';

/// Names keys, and frames what stands at them.
pub(super) struct Frames {
    instance: String,
    key: Arc<DataKey>,
}

/// Where one document and its mark stand.
pub(super) struct Place {
    pub document: String,
    pub mark: String,
}

/// What the keys of a generation begin with.
pub(super) struct Places(String);

impl Places {
    pub fn of(&self, id: Uuid) -> Place {
        let document = [&*self.0, id.simple().encode_lower(&mut [0; Simple::LENGTH])].concat();
        Place { mark: [&*document, ":mark"].concat(), document }
    }
}

impl Frames {
    pub fn new(instance: &str, key: Arc<DataKey>) -> Self {
        Self { instance: instance.to_owned(), key }
    }

    /// Where a node shows itself that it may write.
    pub fn probe(&self) -> String {
        format!("{}:cache:probe", self.instance)
    }

    pub fn head_at(&self, table: &TableKey) -> String {
        let TableKey { name, version, build } = table;
        format!("{}:cache:{name}:{version}:{build}:head", self.instance)
    }

    pub fn place(&self, table: &TableKey, generation: Uuid, id: Uuid) -> Place {
        self.places(table, generation).of(id)
    }

    /// Where all of a generation's documents stand.
    pub fn places(&self, table: &TableKey, generation: Uuid) -> Places {
        let TableKey { name, version, build } = table;
        Places(format!("{}:cache:{name}:{version}:{build}:{}:", self.instance, generation.simple()))
    }

    pub fn head(&self, at: &str, token: u64, head: Head) -> Vec<u8> {
        let mut framed = Vec::with_capacity(HEAD_BYTES);
        framed.push(FORMAT);
        framed.extend(token.to_be_bytes());
        framed.extend(head.generation.as_bytes());
        framed.extend(head.position.to_be_bytes());
        let code = self.code(at, [&framed, &[]]);
        framed.extend(code);
        framed
    }

    /// The writer's token and the head; none for anything that is not a head of this place.
    pub fn open_head(&self, at: &str, framed: &[u8]) -> Option<(u64, Head)> {
        let (clear, code) = framed.split_at_checked(HEAD_CLEAR_BYTES)?;
        if code != self.code(at, [clear, &[]]) || clear[0] != FORMAT {
            return None;
        }
        let number = |from: usize| clear[from..from + 8].try_into().ok().map(u64::from_be_bytes);
        let generation = Uuid::from_slice(&clear[9..25]).ok()?;
        Some((number(1)?, Head { generation, position: number(25)? }))
    }

    /// Empty for a document that is too large to be kept.
    pub fn entry(&self, at: &str, entry: &Entry) -> Vec<u8> {
        if entry.body.len() > BODY_BYTES_MAX {
            return Vec::new();
        }
        let mut framed = Vec::with_capacity(ENTRY_HEAD_BYTES + entry.body.len());
        framed.push(FORMAT);
        framed.extend(entry.position.to_be_bytes());
        let code = self.code(at, [&framed, &entry.body]);
        framed.extend(code);
        framed.extend_from_slice(&entry.body);
        framed
    }

    /// None for anything that is not a document of this place.
    pub fn open_entry(&self, at: &str, id: Uuid, framed: &Bytes) -> Option<Entry> {
        if framed.len() > ENTRY_HEAD_BYTES + BODY_BYTES_MAX {
            return None;
        }
        let (head, body) = framed.split_at_checked(ENTRY_HEAD_BYTES)?;
        let (clear, code) = head.split_at(ENTRY_CLEAR_BYTES);
        if code != self.code(at, [clear, body]) || clear[0] != FORMAT {
            return None;
        }
        let position = Position::from_be_bytes(clear[1..].try_into().ok()?);
        Some(Entry { id, position, body: framed.slice(ENTRY_HEAD_BYTES..) })
    }

    fn code(&self, at: &str, parts: [&[u8]; 2]) -> [u8; CODE_BYTES] {
        let length = u64::try_from(at.len()).expect("a key of Redis is short");
        let [first, second] = parts;
        let mac = self.key.mac_over("cache v1", &[&length.to_be_bytes(), at.as_bytes(), first, second]);
        *mac.first_chunk().expect("a code is shorter than what it is cut from")
    }
}

/// The mark of a document at this position.
pub(super) fn mark_of(position: Position) -> String {
    format!("v{position}")
}

/// The mark of whoever fills the document.
pub(super) fn lease_of(token: Uuid) -> String {
    format!("{LEASE}{}", token.simple())
}

/// Whether somebody fills the document.
pub(super) fn is_lease(mark: &[u8]) -> bool {
    let token = mark.strip_prefix(&[LEASE as u8]);
    token.is_some_and(|token| token.len() == 32 && token.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);
    const HEAD: Head = Head { generation: Uuid::from_u128(3), position: 41 };

    fn frames(key: u8, instance: &str) -> Frames {
        Frames::new(instance, Arc::new(DataKey::from_bytes(ID, zeroize::Zeroizing::new([key; 32]))))
    }

    fn entry() -> Entry {
        Entry { id: ID, position: 41, body: Bytes::from_static(b"sealed") }
    }

    #[test]
    fn what_was_framed_opens_in_its_place_only() {
        let frames = frames(1, "marvin");
        let (head, entry) = (frames.head("here", 5, HEAD), entry());
        assert_eq!(frames.open_head("here", &head), Some((5, HEAD)));
        assert_eq!(frames.open_head("there", &head), None);
        let framed = Bytes::from(frames.entry("here", &entry));
        assert_eq!(frames.open_entry("here", ID, &framed), Some(entry));
        assert_eq!(frames.open_entry("there", ID, &framed), None);
        let stranger = self::frames(2, "marvin");
        assert_eq!((stranger.open_head("here", &head), stranger.open_entry("here", ID, &framed)), (None, None));
    }

    #[test]
    fn no_byte_can_be_changed_cut_or_added() {
        let frames = frames(1, "marvin");
        let (head, framed) = (frames.head("here", 5, HEAD), frames.entry("here", &entry()));
        for length in 0..head.len() {
            assert_eq!(frames.open_head("here", &head[..length]), None);
        }
        for length in 0..framed.len() {
            assert_eq!(frames.open_entry("here", ID, &Bytes::copy_from_slice(&framed[..length])), None);
        }
        assert_eq!(frames.open_head("here", &[head.as_slice(), b"x"].concat()), None);
        assert_eq!(frames.open_entry("here", ID, &[framed.as_slice(), b"x"].concat().into()), None);
        for at in 0..head.len() {
            let mut altered = head.clone();
            altered[at] ^= 1;
            assert_eq!(frames.open_head("here", &altered), None, "byte {at}");
        }
        for at in 0..framed.len() {
            let mut altered = framed.clone();
            altered[at] ^= 1;
            assert_eq!(frames.open_entry("here", ID, &altered.into()), None, "byte {at}");
        }
    }

    #[test]
    fn keys_tell_instances_tables_generations_and_ids_apart() {
        let table = |version, build| TableKey { name: "tasks".into(), version, build };
        let place = |frames: &Frames, table, generation| frames.place(&table, Uuid::from_u128(generation), ID).document;
        let (one, other) = (frames(1, "marvin"), frames(1, "other"));
        let places = [
            place(&one, table(1, 1), 1),
            place(&one, table(1, 1), 2),
            place(&one, table(1, 2), 1),
            place(&one, table(2, 1), 1),
            place(&other, table(1, 1), 1),
        ];
        let different: std::collections::HashSet<_> = places.iter().collect();
        assert_eq!(different.len(), places.len());
        assert!(places[0].starts_with("marvin:") && one.head_at(&table(1, 1)).starts_with("marvin:"));
    }

    #[test]
    fn only_a_lease_reads_as_one() {
        assert!(is_lease(lease_of(ID).as_bytes()));
        for mark in ["", "l", "v41", &lease_of(ID)[..32], &format!("{}0", lease_of(ID))] {
            assert!(!is_lease(mark.as_bytes()), "{mark}");
        }
    }
}
