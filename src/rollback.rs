//! Compares what followed the log with the log itself. A log that was set back stops the start until somebody accepts it.
use marvin_domain::Position;
use uuid::Uuid;

use crate::log::checkpoint::Checkpoint;

/// A checkpoint where the log holds another event, or none. One sentence for whoever started the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} has followed the log to position {position} ({follower}), but {log} {found}: the log was set back; put the right \
     one back, or go on with this one after `marvin doctor --accept-rollback`",
    position = .checkpoint.position
)]
pub struct SetBack {
    pub place: Place,
    /// Where the checkpoint stands, in words for an operator.
    pub file: &'static str,
    log: &'static str,
    pub follower: String,
    pub checkpoint: Checkpoint,
    found: Found,
}

/// Who keeps a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Views,
    Log,
    Subjects,
}

impl SetBack {
    /// Whether the log ends before the checkpoint, as an older copy does; one that went on another way may reach past it.
    pub fn is_beyond_the_end(&self) -> bool {
        matches!(self.found, Found::End(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Found {
    #[error("ends at {0}")]
    End(Position),
    #[error("holds another event there")]
    AnotherEvent,
}

/// The log, as far as the comparison looks at it.
pub trait Standing {
    type Error;

    /// What an operator calls it.
    const NAME: &str;

    /// The position of the last event; 0 for an empty log.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn head(&self) -> Result<Position, Self::Error>;

    /// The id of the event at this position, if one stands there.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn event_at(&self, position: Position) -> Result<Option<Uuid>, Self::Error>;
}

/// Those of the checkpoints in `file` that do not fit the log.
///
/// # Errors
/// When the log cannot be read.
pub fn compare<L: Standing>(
    log: &L,
    place: Place,
    file: &'static str,
    kept: impl IntoIterator<Item = (String, Checkpoint)>,
) -> Result<Vec<SetBack>, L::Error> {
    let mut set_back = Vec::new();
    for (follower, checkpoint) in kept.into_iter().filter(|(_, checkpoint)| *checkpoint != Checkpoint::START) {
        let found = match log.event_at(checkpoint.position)? {
            Some(event_id) if event_id == checkpoint.event_id => continue,
            Some(_) => Found::AnotherEvent,
            None => Found::End(log.head()?),
        };
        set_back.push(SetBack { place, file, log: L::NAME, follower, checkpoint, found });
    }
    Ok(set_back)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    struct Log(Vec<Uuid>);

    impl Standing for Log {
        type Error = Infallible;
        const NAME: &str = "log.db";
        fn head(&self) -> Result<Position, Infallible> {
            Ok(self.0.len() as Position)
        }
        fn event_at(&self, position: Position) -> Result<Option<Uuid>, Infallible> {
            let index = usize::try_from(position).unwrap().checked_sub(1);
            Ok(index.and_then(|index| self.0.get(index).copied()))
        }
    }

    fn found(checkpoint: Checkpoint) -> Option<String> {
        let log = Log((1..=3).map(Uuid::from_u128).collect());
        let set_back = compare(&log, Place::Views, "views.db", [("tasks".to_owned(), checkpoint)]).unwrap();
        set_back.first().map(ToString::to_string)
    }

    #[test]
    fn a_checkpoint_fits_where_its_own_event_stands_and_nowhere_else() {
        let at = |position, event: u128| Checkpoint { position, event_id: Uuid::from_u128(event) };
        assert_eq!(found(Checkpoint::START), None);
        assert_eq!(found(at(1, 1)), None);
        assert_eq!(found(at(3, 3)), None);
        assert!(found(at(3, 2)).unwrap().contains("position 3 (tasks), but log.db holds another event there"));
        assert!(found(at(4, 4)).unwrap().contains("position 4 (tasks), but log.db ends at 3"));
        assert!(found(at(u64::MAX, 3)).unwrap().contains("ends at 3"));
        assert!(found(at(0, 1)).unwrap().contains("position 0"), "an id without its event fits nothing");
    }
}
