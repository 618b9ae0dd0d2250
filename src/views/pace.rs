//! How fast tables are filled, as seen from this process.
use marvin_domain::Position;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Table, TableRow};

/// Between two looks that are kept: nothing is said of a rate before the second one.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks kept of each table, so that a rate is that of the last half minute when somebody watches: a pause, or a restart in
/// between, is forgotten soon.
const LOOKS_MAX: usize = 30;

/// Where each table was seen, and when. Holds the tables that are being filled, and so a few at most.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<HashMap<Table, VecDeque<(Instant, Position)>>>);

impl Paces {
    /// Looks at all the tables that are being filled; what is known of others is forgotten.
    pub fn see<'a>(&self, rows: impl Iterator<Item = &'a TableRow>, now: Instant) {
        let mut known = self.known();
        let mut seen = HashMap::with_capacity(known.len());
        for row in rows {
            let mut looks = known.remove(&row.table).unwrap_or_default();
            if looks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= LOOK_INTERVAL) {
                looks.push_back((now, row.checkpoint.position));
            }
            if looks.len() > LOOKS_MAX {
                looks.pop_front();
            }
            seen.insert(row.table.clone(), looks);
        }
        *known = seen;
    }

    /// Events a second between the first and the last look.
    pub fn of(&self, table: &Table) -> Option<f64> {
        let known = self.known();
        let looks = known.get(table)?;
        let ((begun, from), (ended, to)) = (looks.front()?, looks.back()?);
        let seconds = ended.saturating_duration_since(*begun).as_secs_f64();
        (seconds > 0.0).then(|| to.saturating_sub(*from) as f64 / seconds)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Table, VecDeque<(Instant, Position)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log::checkpoint::Checkpoint, views::State};
    use uuid::Uuid;

    fn at(build: u32, position: Position) -> TableRow {
        TableRow {
            table: Table { name: "things".into(), version: 1, build, fields: [].into(), indexes: [].into() },
            state: State::Building,
            checkpoint: Checkpoint { position, event_id: Uuid::nil() },
            token: 1,
            stopped: None,
            begun_at: chrono::Utc::now(),
            target: 0,
            unread_for: Duration::ZERO,
        }
    }

    /// Looks at one table every `millis`, at these positions; answers its rate.
    fn rate(millis: u64, positions: impl IntoIterator<Item = Position>) -> Option<f64> {
        let (paces, begun) = (Paces::default(), Instant::now());
        for (number, position) in (0..).zip(positions) {
            paces.see([at(1, position)].iter(), begun + Duration::from_millis(number * millis));
        }
        paces.of(&at(1, 0).table)
    }

    #[test]
    fn a_rate_takes_a_second() {
        assert_eq!(rate(999, [500, 1_000]), None);
        assert_eq!(rate(1_000, [500, 1_500]), Some(1_000.0));
    }

    #[test]
    fn what_does_not_move_has_a_rate_of_nothing() {
        assert_eq!(rate(2_000, [500, 500]), Some(0.0));
    }

    #[test]
    fn a_rate_begins_where_the_table_was_first_seen_and_not_at_the_logs_beginning() {
        assert_eq!(rate(1_000, [900_000, 900_100, 900_200]), Some(100.0));
    }

    #[test]
    fn only_the_last_half_minute_counts() {
        let crawl = (0..100).map(|second| second * 10);
        let run = (1..=LOOKS_MAX as u64).map(|second| 990 + second * 500);
        assert_eq!(rate(1_000, crawl.chain(run)), Some(500.0));
    }

    #[test]
    fn a_table_that_is_no_longer_filled_is_forgotten() {
        let (paces, begun) = (Paces::default(), Instant::now());
        let later = |seconds| begun + Duration::from_secs(seconds);
        paces.see([at(1, 0), at(2, 0)].iter(), begun);
        paces.see([at(2, 10)].iter(), later(1));
        paces.see([at(1, 50), at(2, 20)].iter(), later(2));
        assert_eq!(paces.of(&at(1, 0).table), None);
        assert_eq!(paces.of(&at(2, 0).table), Some(10.0));
    }
}
