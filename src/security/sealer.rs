//! Seals a payload of facts and, where there is one, a personal part; opens them again, or finds that the person is erased.
//!
//! Facts go under the instance key, a personal part under its subject's own. Once that key is destroyed the part is gone from
//! the log, its views and their copies at once.
use async_trait::async_trait;
use smallvec::SmallVec;
use std::{collections::HashMap, ops::Range, sync::Arc};
use uuid::Uuid;

use super::{
    cipher::{self, DataKey, Suite},
    subjects::SubjectStore,
};

/// First byte of a payload; raised when its layout changes.
const FORMAT: u8 = 1;
/// The format byte and the length of the facts.
const HEAD_BYTES: usize = 5;
/// What goes before a place, so that neither part opens as the other. Neither begins as the other does.
const FACTS: &[u8] = b"facts ";
const PERSONAL: &[u8] = b"personal ";
const DAMAGED_FRAME: &str = "its frame is damaged";

/// Tells a person who was erased from one whose key is missing for a bad reason.
#[async_trait]
pub trait Erasures: Send + Sync {
    /// # Errors
    /// In words, when it cannot be found out.
    async fn is_erased(&self, subject: Uuid) -> Result<bool, String>;
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Retry with backoff.
    #[error("keys are unavailable: {0}")]
    Unavailable(String),
    /// The payload at `index` of those given was altered, moved, or its key is missing without an erasure.
    #[error("a sealed payload cannot be opened: {reason}")]
    Unreadable { index: usize, reason: String },
}

/// Names a scope or a place. Those of every event and document fit without an allocation, and each read pays for two.
pub type Spot = SmallVec<[u8; 64]>;

/// A sealed payload and the place it was sealed for.
#[derive(Debug)]
pub struct Sealed {
    pub scope: Spot,
    pub place: Spot,
    pub payload: Vec<u8>,
}

/// A payload that was opened where it stood.
#[derive(Debug)]
pub struct Opened {
    payload: Vec<u8>,
    facts: Range<usize>,
    personal: Option<Range<usize>>,
    /// Whose key a personal part names, also when it is gone.
    pub subject: Option<Uuid>,
}

impl Opened {
    pub fn facts(&self) -> &[u8] {
        &self.payload[self.facts.clone()]
    }

    /// None when there is no personal part, or the person is erased.
    pub fn personal(&self) -> Option<&[u8]> {
        self.personal.clone().map(|personal| &self.payload[personal])
    }
}

pub struct Sealer {
    suite: Suite,
    facts_key: Arc<DataKey>,
    subjects: Arc<dyn SubjectStore>,
    erasures: Arc<dyn Erasures>,
}

impl Sealer {
    pub fn new(suite: Suite, subjects: Arc<dyn SubjectStore>, erasures: Arc<dyn Erasures>) -> Self {
        Self { suite, facts_key: subjects.facts_key(), subjects, erasures }
    }

    /// Seals facts and the personal part of a subject. For an erased subject the part is left out: it could never be read.
    ///
    /// # Errors
    /// `Unavailable`, also when the subject's key is missing although nobody erased them.
    pub async fn seal(
        &self,
        scope: &[u8],
        place: &[u8],
        facts: &[u8],
        personal: Option<(Vec<u8>, Uuid)>,
    ) -> Result<Vec<u8>, SealError> {
        let facts = cipher::seal_at(self.suite, &self.facts_key, scope, [FACTS, place], facts);
        let mut payload = Vec::with_capacity(HEAD_BYTES + facts.len());
        payload.push(FORMAT);
        payload.extend(u32::try_from(facts.len()).expect("facts are far below 4 GiB").to_be_bytes());
        payload.extend(facts);
        if let Some((text, subject)) = personal {
            let keys = self.keys(&[subject]).await?;
            match keys.get(&subject) {
                Some(key) => payload.extend(cipher::seal_at(self.suite, key, scope, [PERSONAL, place], &text)),
                None if self.is_erased(subject).await? => {}
                None => return Err(SealError::Unavailable(unexplained(subject))),
            }
        }
        Ok(payload)
    }

    /// Opens payloads, in order.
    ///
    /// # Errors
    /// `Unreadable` with the index of the first that does not open.
    pub async fn open(&self, sealed: Vec<Sealed>) -> Result<Vec<Opened>, SealError> {
        let mut parts = Vec::with_capacity(sealed.len());
        let mut subjects = Vec::new();
        for (index, item) in sealed.iter().enumerate() {
            let unreadable = |reason: &str| SealError::Unreadable { index, reason: reason.to_owned() };
            let (facts, personal) = split(&item.payload).ok_or_else(|| unreadable(DAMAGED_FRAME))?;
            let subject = match personal {
                [] => None,
                personal => Some(cipher::key_id(personal).map_err(|error| unreadable(&error.to_string()))?),
            };
            subjects.extend(subject);
            parts.push((facts.len(), subject));
        }
        subjects.sort_unstable();
        subjects.dedup();
        let keys = self.keys(&subjects).await?;
        let mut opened = Vec::with_capacity(sealed.len());
        for (index, (item, (facts_bytes, subject))) in sealed.into_iter().zip(parts).enumerate() {
            let unreadable = |reason: String| SealError::Unreadable { index, reason };
            let Sealed { scope, place, mut payload } = item;
            let (facts_part, personal_part) = payload[HEAD_BYTES..].split_at_mut(facts_bytes);
            let facts = cipher::open_in_place(&self.facts_key, &scope, [FACTS, &place], facts_part)
                .map_err(|error| unreadable(error.to_string()))?;
            let personal = match subject.map(|subject| (subject, keys.get(&subject))) {
                None => None,
                Some((_, Some(key))) => Some(
                    cipher::open_in_place(key, &scope, [PERSONAL, &place], personal_part)
                        .map_err(|error| unreadable(error.to_string()))?,
                ),
                // A missing key is right only for an erased person; anything else stops the reader.
                Some((subject, None)) if !self.is_erased(subject).await? => {
                    return Err(unreadable(unexplained(subject)));
                }
                Some((_, None)) => None,
            };
            let within = |part: Range<usize>, start: usize| part.start + start..part.end + start;
            let personal = personal.map(|personal| within(personal, HEAD_BYTES + facts_bytes));
            opened.push(Opened { facts: within(facts, HEAD_BYTES), personal, payload, subject });
        }
        Ok(opened)
    }

    /// Opens the facts of one payload and leaves its personal part sealed.
    ///
    /// # Errors
    /// In words, when they do not open.
    pub fn open_facts(&self, scope: &[u8], place: &[u8], payload: &[u8]) -> Result<Vec<u8>, String> {
        let (facts, _) = split(payload).ok_or(DAMAGED_FRAME)?;
        cipher::open_at(&self.facts_key, scope, [FACTS, place], facts).map_err(|error| error.to_string())
    }

    async fn keys(&self, subjects: &[Uuid]) -> Result<HashMap<Uuid, Arc<DataKey>>, SealError> {
        if subjects.is_empty() {
            return Ok(HashMap::new());
        }
        self.subjects.keys(subjects).await.map_err(|error| SealError::Unavailable(error.to_string()))
    }

    /// Whether the log tells that this person was erased.
    ///
    /// # Errors
    /// `Unavailable` when that cannot be found out: nothing is known to be wrong then.
    pub async fn is_erased(&self, subject: Uuid) -> Result<bool, SealError> {
        self.erasures.is_erased(subject).await.map_err(SealError::Unavailable)
    }
}

fn unexplained(subject: Uuid) -> String {
    format!("the key of {subject} is missing, and nobody erased them")
}

fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = payload.split_at_checked(HEAD_BYTES)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    if head[0] != FORMAT {
        return None;
    }
    rest.split_at_checked(usize::try_from(length).ok()?)
}
