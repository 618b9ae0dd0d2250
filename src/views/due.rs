//! Which events every view should reflect by now.
use marvin_domain::Position;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long an event may take until it can be read. Twice as long as a reader waits for one, and longer than it takes until another
/// process has gone on where one died; under load a view is a fraction of a second behind.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Where the log ended, as seen about once a second. Holds no more than that of the last [`PATIENCE`].
#[derive(Debug, Default)]
pub(super) struct Heads(VecDeque<(Instant, Position)>);

impl Heads {
    /// Takes in where the log ends now, and answers where it ended [`PATIENCE`] ago; the log's beginning while that is not known.
    pub fn see(&mut self, head: Position, now: Instant) -> Position {
        self.0.push_back((now, head));
        let is_due = |seen: Option<&(Instant, Position)>| {
            seen.is_some_and(|(at, _)| now.saturating_duration_since(*at) >= PATIENCE)
        };
        while is_due(self.0.get(1)) {
            self.0.pop_front();
        }
        let first = self.0.front();
        first.filter(|_| is_due(first)).map_or(0, |(_, head)| *head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_due_when_the_patience_is_over() {
        let (mut heads, begun) = (Heads::default(), Instant::now());
        let mut at = |seconds, head| heads.see(head, begun + Duration::from_secs(seconds));
        assert_eq!([at(0, 5), at(1, 7), at(9, 8)], [0, 0, 0]);
        assert_eq!([at(10, 9), at(11, 9), at(18, 9), at(19, 9), at(20, 9)], [5, 7, 7, 8, 9]);
    }

    #[test]
    fn no_more_is_held_than_is_needed() {
        let (mut heads, begun) = (Heads::default(), Instant::now());
        for second in 0..1_000 {
            heads.see(second, begun + Duration::from_secs(second));
        }
        assert_eq!(heads.0.len() as u64, PATIENCE.as_secs() + 1);
    }
}
