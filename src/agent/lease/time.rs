//! How long an attempt outside may take: the agent's limit from its start on, and never beyond the task's deadline.
use chrono::{DateTime, TimeDelta, Utc};
use marvin_domain::{AggregateKind, Metadata, Sequence, StreamId, agent::Limits, task::Failure};
use std::time::Duration;
use uuid::Uuid;

use crate::log::{EventLog, ReadError};

/// Where the running attempt began, as the log has it.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    pub at: DateTime<Utc>,
    /// The event that says so.
    pub event: Uuid,
    /// Of the task's chain.
    pub correlation: Uuid,
}

impl Begun {
    /// Reads it at `sequence`, where the stream ends while an attempt runs that records no steps.
    ///
    /// # Errors
    /// As [`EventLog::read_stream`]; `Corrupt` when nothing stands there.
    pub async fn read(log: &dyn EventLog, task: Uuid, sequence: Sequence) -> Result<Self, ReadError> {
        let stream = StreamId { kind: AggregateKind::Task, id: task };
        let row = log.read_stream(stream, sequence.saturating_sub(1), 1).await?.pop();
        let missing = || ReadError::Corrupt { position: 0, reason: format!("{stream} has no event {sequence}") };
        let row = row.ok_or_else(missing)?;
        let metadata: Metadata = serde_json::from_str(&row.metadata).map_err(|_| ReadError::Corrupt {
            position: row.position,
            reason: "its metadata cannot be read".to_owned(),
        })?;
        Ok(Self { at: row.recorded_at, event: row.event_id, correlation: metadata.correlation })
    }
}

/// When an attempt has to be over, and what it then failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    until: DateTime<Utc>,
    ended: Ended,
}

/// What ended an attempt that was not done in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The agent's limit, in milliseconds. Another attempt may be faster.
    Timeout(u64),
    Deadline,
}

impl Ended {
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// In the words of attempts that run in our processes.
    pub fn failure(self) -> Failure {
        match self {
            Self::Timeout(limit_ms) => Failure::new("timeout", format!("the attempt took longer than {limit_ms} ms")),
            Self::Deadline => Failure::new("deadline_passed", "the deadline passed while the task ran"),
        }
    }
}

impl Time {
    pub fn of(begun: DateTime<Utc>, deadline: Option<DateTime<Utc>>, limits: &Limits) -> Self {
        let limit = i64::try_from(limits.timeout_ms).ok().and_then(TimeDelta::try_milliseconds);
        let limit = limit.unwrap_or(TimeDelta::MAX);
        let until = begun.checked_add_signed(limit).unwrap_or(DateTime::<Utc>::MAX_UTC);
        match deadline {
            Some(deadline) if deadline <= until => Self { until: deadline, ended: Ended::Deadline },
            _ => Self { until, ended: Ended::Timeout(limits.timeout_ms) },
        }
    }

    /// What is left of it; nothing once it is over.
    pub fn left(&self, now: DateTime<Utc>) -> Duration {
        (self.until - now).to_std().unwrap_or(Duration::ZERO)
    }

    /// How the attempt ended, if its time is over.
    pub fn over(&self, now: DateTime<Utc>) -> Option<Ended> {
        (self.until <= now).then_some(self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_790_000_000_000 + millis).unwrap()
    }

    fn limits(timeout_ms: u64) -> Limits {
        Limits { timeout_ms, ..Limits::default() }
    }

    #[test]
    fn an_attempt_may_take_as_long_as_its_agent_allows() {
        let time = Time::of(at(0), None, &limits(5_000));
        assert_eq!((time.left(at(0)), time.over(at(4_999))), (Duration::from_secs(5), None));
        assert_eq!((time.left(at(5_000)), time.over(at(5_000))), (Duration::ZERO, Some(Ended::Timeout(5_000))));
        assert_eq!(time.left(at(9_000)), Duration::ZERO);
    }

    #[test]
    fn a_deadline_ends_an_attempt_before_its_limit_and_a_later_one_does_not() {
        let early = Time::of(at(0), Some(at(1_000)), &limits(5_000));
        assert_eq!((early.left(at(0)), early.over(at(1_000))), (Duration::from_secs(1), Some(Ended::Deadline)));
        let late = Time::of(at(0), Some(at(6_000)), &limits(5_000));
        assert_eq!(late.over(at(6_000)), Some(Ended::Timeout(5_000)));
    }

    #[test]
    fn a_limit_beyond_all_time_does_not_break_the_clock() {
        assert_eq!(Time::of(at(0), None, &limits(u64::MAX)).over(at(0)), None);
    }
}
