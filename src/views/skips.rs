//! The events that administrators took out of a projection, read from the log before anything is folded.
use marvin_domain::{
    Position,
    projection::{self, Projection},
};
use marvin_projections::{Fold, Skips};

use crate::{
    dispatch::{DispatchError, Dispatcher},
    log::{ReadError, tail::Tail},
};

/// What the projection's version passes over, as recorded by now.
///
/// # Errors
/// `Unavailable` or `Corrupt`.
pub async fn skips(fold: &dyn Fold, dispatcher: &Dispatcher, tail: &Tail) -> Result<Skips, DispatchError> {
    let loaded = dispatcher.load(projection::stream(fold.name(), fold.version())).await?;
    let mut skips = Skips::default();
    let Ok(projection) = <&Projection>::try_from(&loaded.state) else { return Ok(skips) };
    for position in projection.skipped() {
        skips.add(position, touched(fold, tail, position).await?);
    }
    Ok(skips)
}

/// The documents that the event at `position` would have changed. None of one that nobody can read any more, or about which
/// the projection panics: those may well be why it is skipped.
async fn touched(fold: &dyn Fold, tail: &Tail, position: Position) -> Result<Vec<uuid::Uuid>, ReadError> {
    let found = match tail.read(position.saturating_sub(1), 1).await {
        Err(ReadError::Corrupt { .. }) => Vec::new(),
        found => found?,
    };
    let event = found.first().filter(|event| event.position == position);
    Ok(event.map(|event| fold.ids(event).unwrap_or_default()).unwrap_or_default())
}
