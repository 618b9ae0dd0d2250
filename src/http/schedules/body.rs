//! A schedule as the API shows it, and what it takes to make or change one.
use chrono::{DateTime, Utc};
use garde::Validate;
use marvin_domain::schedule::{
    JITTER_S_MAX, Missed, Outcome, Overlap, PauseReason, Policies, ScheduleStatus, Timing, TimingError, When,
};
use marvin_projections::schedules::ScheduleDocument;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    error::FieldError,
    http::{caller::Caller, path::PathId},
    security::permissions::Permission,
    time::rfc3339,
};

/// Planned instants that are shown.
const NEXT_RUNS: usize = 5;
/// Without another one, wall clocks show UTC.
const TIMEZONE_DEFAULT: &str = "UTC";

#[derive(Debug, Serialize)]
pub struct ScheduleBody<'a> {
    id: Uuid,
    /// None where the reader may not see the owner's words.
    name: Option<&'a str>,
    owner: Uuid,
    agent_id: Uuid,
    input: Option<&'a Value>,
    cron: Option<&'a str>,
    #[serde(serialize_with = "crate::time::optional")]
    at: Option<DateTime<Utc>>,
    timezone: &'a str,
    jitter_s: u32,
    overlap: Overlap,
    missed: Missed,
    status: ScheduleStatus,
    paused_reason: Option<PauseReason>,
    /// Firings in a row that failed.
    failures: u32,
    #[serde(serialize_with = "times")]
    next_runs: Vec<DateTime<Utc>>,
    /// Firings that wait for the end of the task before.
    queued: usize,
    open_tasks: usize,
    #[serde(serialize_with = "crate::time::optional")]
    last_fired_at: Option<DateTime<Utc>>,
    last_task_id: Option<Uuid>,
    last_outcome: Option<&'static str>,
    #[serde(serialize_with = "crate::time::required")]
    created_at: DateTime<Utc>,
    /// The owner is erased.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    sequence: u64,
    position: u64,
}

fn times<S: Serializer>(times: &[DateTime<Utc>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().map(|time| rfc3339(*time)))
}

impl<'a> ScheduleBody<'a> {
    /// `caller` sees the owner's words only where they may.
    pub fn of(document: &'a ScheduleDocument, caller: &Caller) -> Self {
        let schedule = &document.schedule;
        let is_readable = caller.reaches(schedule.owner, Permission::PersonalReadAll);
        let words = document.personal.known().filter(|_| is_readable);
        let (cron, at) = match &schedule.timing.when {
            When::Cron(cron) => (Some(cron.as_str()), None),
            When::At(at) => (None, Some(*at)),
        };
        Self {
            id: document.id,
            name: words.map(|words| words.name.as_str()),
            owner: schedule.owner,
            agent_id: schedule.agent_id,
            input: words.map(|words| &words.input),
            cron,
            at,
            timezone: &schedule.timing.timezone,
            jitter_s: schedule.policies.jitter_s,
            overlap: schedule.policies.overlap,
            missed: schedule.policies.missed,
            status: schedule.status,
            paused_reason: document.paused_reason(),
            failures: schedule.failures,
            next_runs: schedule.next_runs(NEXT_RUNS),
            queued: schedule.queue.len(),
            open_tasks: schedule.open.len(),
            last_fired_at: document.last_fired_at,
            last_task_id: document.last_task_id,
            last_outcome: document.last_outcome.map(Outcome::as_str),
            created_at: document.created_at,
            erased: document.personal.is_erased(),
            sequence: document.sequence,
            position: document.position,
        }
    }
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct CreateSchedule {
    pub name: String,
    pub agent_id: PathId,
    pub input: Value,
    pub cron: Option<String>,
    pub at: Option<DateTime<Utc>>,
    pub timezone: Option<String>,
    #[serde(default)]
    #[garde(range(max = JITTER_S_MAX))]
    pub jitter_s: u32,
    #[serde(default)]
    pub overlap: Overlap,
    #[serde(default)]
    pub missed: Missed,
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct ChangeSchedule {
    pub name: Option<String>,
    pub agent_id: Option<PathId>,
    #[serde(default, deserialize_with = "given")]
    pub input: Option<Value>,
    pub cron: Option<String>,
    pub at: Option<DateTime<Utc>>,
    pub timezone: Option<String>,
    #[garde(range(max = JITTER_S_MAX))]
    pub jitter_s: Option<u32>,
    pub overlap: Option<Overlap>,
    pub missed: Option<Missed>,
}

/// For a value that may be `null`, which is not the same as being absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn when(cron: Option<String>, at: Option<DateTime<Utc>>) -> Result<Option<When>, FieldError> {
    match (cron, at) {
        (Some(_), Some(_)) => Err(FieldError::new("/at", "must not stand beside cron")),
        (cron, at) => Ok(cron.map(When::Cron).or(at.map(When::At))),
    }
}

fn refused(error: &TimingError) -> FieldError {
    let pointer = match error {
        TimingError::Cron(_) | TimingError::NeverFires => "/cron",
        TimingError::Moment => "/at",
        TimingError::Timezone => "/timezone",
    };
    FieldError::new(pointer, error.to_string())
}

impl CreateSchedule {
    /// # Errors
    /// The refused value, if it can be told before the first firing is looked for.
    pub fn timing(&mut self, at: DateTime<Utc>) -> Result<Timing, FieldError> {
        let when = when(self.cron.take(), self.at.take())?;
        let when = when.ok_or_else(|| FieldError::new("/cron", "must be given, or at"))?;
        let timezone = self.timezone.take().unwrap_or_else(|| TIMEZONE_DEFAULT.to_owned());
        let timing = Timing { when, timezone }.exact();
        timing.first_after(at).map_err(|error| refused(&error))?;
        Ok(timing)
    }

    pub fn policies(&self) -> Policies {
        Policies { jitter_s: self.jitter_s, overlap: self.overlap, missed: self.missed }
    }
}

impl ChangeSchedule {
    /// The timing that this leads to; none when it stays as it is.
    ///
    /// # Errors
    /// The refused value.
    pub fn timing(&mut self, current: &Timing, at: DateTime<Utc>) -> Result<Option<Timing>, FieldError> {
        let when = when(self.cron.take(), self.at.take())?;
        let timezone = self.timezone.take();
        if when.is_none() && timezone.is_none() {
            return Ok(None);
        }
        let Timing { when: when_now, timezone: zone_now } = current.clone();
        let timing = Timing { when: when.unwrap_or(when_now), timezone: timezone.unwrap_or(zone_now) }.exact();
        if timing != *current {
            timing.first_after(at).map_err(|error| refused(&error))?;
        }
        Ok(Some(timing))
    }

    pub fn policies(&self, current: Policies) -> Policies {
        Policies {
            jitter_s: self.jitter_s.unwrap_or(current.jitter_s),
            overlap: self.overlap.unwrap_or(current.overlap),
            missed: self.missed.unwrap_or(current.missed),
        }
    }
}
