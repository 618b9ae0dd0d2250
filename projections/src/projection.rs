//! What a projection is, and how its own code is run.
use marvin_domain::{AggregateKind, Envelope, Misfit, Position};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};
use uuid::Uuid;

use crate::{Document, Field, Key};

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
        source: Misfit,
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

/// What a formatted panic says instead: it may quote what a person wrote, and the reason of a stop is stored in clear.
const WITHHELD: &str = "its message stands in the output of the process";

/// Runs a projection's own code. What a panic leaves half done is the caller's to throw away.
pub(crate) fn caught<T>(position: Position, run: impl FnOnce() -> T) -> Result<T, FoldError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| FoldError::Panicked { position, message: message_of(&*panic) })
}

fn message_of(panic: &(dyn Any + Send)) -> &'static str {
    panic.downcast_ref::<&'static str>().copied().unwrap_or(WITHHELD)
}
