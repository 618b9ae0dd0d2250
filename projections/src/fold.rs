//! What a projection is, and how the machinery handles one without knowing its types.
use marvin_domain::{AggregateKind, Envelope, Position};
use std::{
    any::Any,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use uuid::Uuid;

use crate::{Document, Field, Key, Lane, Plan, Skips, lane::Working, plan::plan};

/// A read model, named for what users see.
pub trait Projection: Send + Sync + 'static {
    const NAME: &'static str;
    /// Raise it whenever a document would come out differently: the view is then built anew beside the old one.
    const VERSION: u32;
    /// The aggregates whose events it folds. The others' need not even be opened.
    const KINDS: &'static [AggregateKind];
    /// Facts by which lists may be filtered, in the order of [`Projection::keys`].
    const FIELDS: &'static [Field];
    /// Fields that lists are filtered by together, and sorted by last. Each gets an index, with the id behind it.
    const INDEXES: &'static [&'static [&'static str]];
    type Document: Document;

    /// The documents that this event touches.
    fn ids(event: &Envelope) -> Vec<Uuid>;
    /// The document that this event begins; none when the event can only change one that exists.
    fn begin(id: Uuid, event: &Envelope) -> Option<Self::Document>;
    /// Changes a document that an earlier event began.
    fn apply(document: &mut Self::Document, event: &Envelope);
    fn keys(document: &Self::Document) -> Vec<Key>;
}

/// Why an event could not be folded. The projection stops there; it is never skipped silently.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("position {position} changes document {id}, which no event began")]
    NothingToChange { position: Position, id: Uuid },
    /// Found when the event at `position` was to change it. The event may be fine: rebuild the view.
    #[error("position {position} changes document {id}, which does not fit this version of its projection")]
    Malformed {
        position: Position,
        id: Uuid,
        #[source]
        source: serde_json::Error,
    },
    #[error("the projection panicked at position {position}: {message}")]
    Panicked { position: Position, message: &'static str },
}

impl FoldError {
    /// The event that could not be folded.
    pub fn position(&self) -> Position {
        match self {
            Self::NothingToChange { position, .. }
            | Self::Malformed { position, .. }
            | Self::Panicked { position, .. } => *position,
        }
    }
}

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

/// What a formatted panic says instead: it may quote what a person wrote, and the reason of a stop is stored in clear.
const WITHHELD: &str = "its message stands in the output of the process";

/// Runs a projection's own code. What a panic leaves half done is the caller's to throw away.
pub(crate) fn caught<T>(position: Position, run: impl FnOnce() -> T) -> Result<T, FoldError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| FoldError::Panicked { position, message: message_of(&*panic) })
}

fn message_of(panic: &(dyn Any + Send)) -> &'static str {
    panic.downcast_ref::<&'static str>().copied().unwrap_or(WITHHELD)
}
