//! How the machinery handles a projection without knowing its types.
use marvin_domain::{AggregateKind, Envelope};
use std::{marker::PhantomData, sync::Arc};
use uuid::Uuid;

use crate::{Field, FoldError, Lane, Plan, Projection, Skips, lane::Working, plan::plan, projection::caught};

/// A projection without its types, as the machinery handles it.
///
/// A batch is folded in three steps. [`plan`](Self::plan) tells which event touches which document and deals the documents out
/// to lanes. Each lane, on a thread of its own where that helps, loads what it lacks and folds. What changed is stored together
/// with the checkpoint, and only then do the lanes keep it in memory.
pub trait Fold: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn kinds(&self) -> &'static [AggregateKind];
    fn fields(&self) -> &'static [Field];
    fn indexes(&self) -> &'static [&'static [&'static str]];
    /// The documents that this event touches.
    ///
    /// # Errors
    /// `Panicked`.
    fn ids(&self, event: &Envelope) -> Result<Vec<Uuid>, FoldError>;
    /// Deals out what `events` change to `lanes` lanes (at least one), without the skipped ones. A document is always in the
    /// same lane of as many.
    fn plan(&self, events: &[Arc<Envelope>], skips: &Skips, lanes: usize) -> Plan;
    /// A lane with nothing in it. It keeps documents of about `bytes_max` bytes of JSON, which take several times as much in
    /// memory; with 0 it keeps none.
    fn lane(&self, bytes_max: usize) -> Box<dyn Lane>;
}

/// The machinery's view of projection `P`.
pub fn fold_of<P: Projection>() -> Arc<dyn Fold> {
    Arc::new(Typed::<P>(PhantomData))
}

struct Typed<P>(PhantomData<P>);

impl<P: Projection> Fold for Typed<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn version(&self) -> u32 {
        P::VERSION
    }

    fn kinds(&self) -> &'static [AggregateKind] {
        P::KINDS
    }

    fn fields(&self) -> &'static [Field] {
        P::FIELDS
    }

    fn indexes(&self) -> &'static [&'static [&'static str]] {
        P::INDEXES
    }

    fn ids(&self, event: &Envelope) -> Result<Vec<Uuid>, FoldError> {
        if P::KINDS.contains(&event.stream.kind) { caught(event.position, || P::ids(event)) } else { Ok(Vec::new()) }
    }

    fn plan(&self, events: &[Arc<Envelope>], skips: &Skips, lanes: usize) -> Plan {
        plan(self, events, skips, lanes)
    }

    fn lane(&self, bytes_max: usize) -> Box<dyn Lane> {
        Box::new(Working::<P>::new(bytes_max))
    }
}
