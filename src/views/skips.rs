//! The events that administrators took out of a projection, read from the log before anything is folded.
use marvin_domain::{
    Position,
    projection::{self, Projection},
};
use marvin_projections::{Fold, Skips};
use uuid::Uuid;

use crate::{
    dispatch::{DispatchError, Dispatcher},
    log::{EventLog, ReadError, codec::Codec},
};

/// What the projection's version passes over, as recorded by now.
///
/// # Errors
/// `Unavailable` or `Corrupt`.
pub async fn skips(
    fold: &dyn Fold,
    dispatcher: &Dispatcher,
    log: &dyn EventLog,
    codec: &Codec,
) -> Result<Skips, DispatchError> {
    let loaded = dispatcher.load(projection::stream(fold.name(), fold.version())).await?;
    let mut skips = Skips::default();
    let Ok(projection) = <&Projection>::try_from(&loaded.state) else { return Ok(skips) };
    for position in projection.skipped() {
        skips.add(position, touched(fold, log, codec, position).await?);
    }
    Ok(skips)
}

/// The documents that the event at `position` would have changed. None of one that nobody can read any more, or about which
/// the projection panics: those may well be why it is skipped.
async fn touched(
    fold: &dyn Fold,
    log: &dyn EventLog,
    codec: &Codec,
    position: Position,
) -> Result<Vec<Uuid>, ReadError> {
    let opened = match log.read(position.saturating_sub(1), 1).await {
        Ok(rows) => codec.open(rows).await,
        Err(error) => Err(error),
    };
    let events = match opened {
        Err(ReadError::Corrupt { .. }) => return Ok(Vec::new()),
        opened => opened?,
    };
    let event = events.first().filter(|event| event.position == position);
    Ok(event.map(|event| fold.ids(event).unwrap_or_default()).unwrap_or_default())
}
