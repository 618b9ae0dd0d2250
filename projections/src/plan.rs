//! What a batch of events does to which documents, dealt out to lanes that fold side by side.
use marvin_domain::{Envelope, Position};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};
use uuid::Uuid;

use crate::{Fold, FoldError};

/// The events that an administrator took out of a projection, and what follows from that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skips {
    positions: BTreeSet<Position>,
    documents: HashSet<Uuid>,
}

impl Skips {
    /// Takes out the event at `position`, which touches `documents`. Where it would have begun one of them, later events find
    /// nothing to change there, and are passed over as well.
    pub fn add(&mut self, position: Position, documents: impl IntoIterator<Item = Uuid>) {
        self.positions.insert(position);
        self.documents.extend(documents);
    }

    pub fn holds(&self, position: Position) -> bool {
        self.positions.contains(&position)
    }
}

/// One event that touches one document.
#[derive(Debug, Clone)]
pub struct Touch {
    pub id: Uuid,
    pub event: Arc<Envelope>,
    /// An event that may have begun the document was skipped: so it need not be there.
    pub orphan: bool,
}

/// What a batch does, up to the first event that cannot be folded.
#[derive(Debug)]
pub struct Plan {
    /// By lane, each in the order of the log. No document is in two of them.
    pub lanes: Vec<Vec<Touch>>,
    /// The first event that cannot be folded, as far as it is known.
    pub failure: Option<FoldError>,
}

impl Plan {
    /// Leaves out `failure` and all behind it. Fold every lane again then, whether it was the one that failed or not, since it may
    /// have come further. Nothing that could be folded before fails now, so that each failure lies before the last one.
    pub fn stop_before(&mut self, failure: FoldError) {
        let end = failure.position();
        for lane in &mut self.lanes {
            lane.truncate(lane.partition_point(|touch| touch.event.position < end));
        }
        self.failure = Some(failure);
    }
}

pub(crate) fn plan(fold: &dyn Fold, events: &[Arc<Envelope>], skips: &Skips, lanes: usize) -> Plan {
    let mut plan = Plan { lanes: vec![Vec::new(); lanes], failure: None };
    for event in events.iter().filter(|event| !skips.holds(event.position)) {
        match fold.ids(event) {
            Ok(ids) => {
                for id in ids {
                    let orphan = skips.documents.contains(&id);
                    plan.lanes[lane_of(id, lanes)].push(Touch { id, event: event.clone(), orphan });
                }
            }
            Err(failure) => {
                plan.failure = Some(failure);
                break;
            }
        }
    }
    plan
}

/// Spreads ids over lanes. Their high bits are a time and some of the low ones a count, so all of the low half is mixed first.
fn lane_of(id: Uuid, lanes: usize) -> usize {
    /// 2^64 over the golden ratio, as Fibonacci hashing takes it (Knuth, The Art of Computer Programming, section 6.4).
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let (_, low) = id.as_u64_pair();
    let mixed = low.wrapping_mul(MIX) >> 32;
    usize::try_from(mixed % lanes as u64).expect("a remainder is below the number of lanes")
}
