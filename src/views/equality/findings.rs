//! What the comparison of a table with its replay comes to.
use marvin_projections::RawDocument;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use uuid::Uuid;

/// Differing documents that are named, of each table: enough to look into, few enough to read and for one answer.
pub const NAMED_MAX: usize = 20;

/// What a table says that a replay does not, or the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    Missing,
    Surplus,
    Unreadable,
    Position,
    Fields,
    Content,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Surplus => "is in no event",
            Self::Unreadable => "cannot be opened",
            Self::Position => "is of another position",
            Self::Fields => "has other index fields",
            Self::Content => "has other contents",
        })
    }
}

/// What is known of the documents that differed at the first look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    pub differing: u64,
    /// The first [`NAMED_MAX`] of those, in the order of their ids.
    pub named: BTreeMap<Uuid, Difference>,
    /// Documents that changed at each look; nothing is known of them.
    pub restless: u64,
}

impl Findings {
    pub(super) fn add(&mut self, id: Uuid, difference: Difference) {
        self.differing += 1;
        self.named.insert(id, difference);
        if self.named.len() > NAMED_MAX {
            self.named.pop_last();
        }
    }
}

/// A document of one side; none when it cannot be opened.
pub struct Found {
    pub id: Uuid,
    pub document: Option<RawDocument>,
}

impl Found {
    pub fn opened(document: RawDocument) -> Self {
        Self { id: document.id, document: Some(document) }
    }
}

/// None when both sides say the same.
pub fn difference(shown: Option<&Found>, folded: Option<&Found>) -> Option<Difference> {
    let (shown, folded) = match (shown, folded) {
        (Some(shown), Some(folded)) => (shown, folded),
        (Some(_), None) => return Some(Difference::Surplus),
        (None, Some(_)) => return Some(Difference::Missing),
        (None, None) => return None,
    };
    let (Some(shown), Some(folded)) = (&shown.document, &folded.document) else {
        return Some(Difference::Unreadable);
    };
    if shown == folded {
        None
    } else if shown.position != folded.position {
        Some(Difference::Position)
    } else if shown.keys != folded.keys {
        Some(Difference::Fields)
    } else {
        Some(Difference::Content)
    }
}
