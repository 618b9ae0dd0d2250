//! A schedule: gives an agent the same task again and again, or once at a moment, for its owner.
//!
//! Which instants are planned follows from the timing; each passes once, in order, with a record of what came of it. The next one
//! is in the log, so that another clock, or another table of time zones, changes nothing that was decided.
use chrono::{DateTime, Duration, SubsecRound, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use uuid::Uuid;

use crate::{Personal, RefusalKind, Refuse, Rooted, Sequence, ids};

mod command;
mod events;
mod recurrence;
pub use command::*;
pub use events::*;
pub use recurrence::*;

/// Firings in a row that may fail before the schedule is paused: enough for an outage of minutes to pass unnoticed, few enough to
/// stop what fails for good.
pub const FAILURES_MAX: u32 = 5;
/// Firings of one schedule that wait for their turn: beyond that its tasks take longer than their rhythm allows, for good.
pub const QUEUED_MAX: usize = 100;
/// Tasks of one schedule that are open at once, where they may overlap.
pub const OPEN_TASKS_MAX: usize = 100;
/// Missed instants that are made up for: a night of minutes would hold an agent up for hours.
pub const MISSED_MAX: usize = 100;
/// How late a firing may be, beyond its jitter, before it counts as missed: a restart or a takeover by another node is shorter.
pub const GRACE: Duration = Duration::seconds(30);
/// Longest spread, in seconds: an hour.
pub const JITTER_S_MAX: u32 = 3_600;

/// What is done when the task before is still open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    #[default]
    Skip,
    Queue,
    Allow,
}

/// What is done about planned instants at which the program was not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    Skip,
    #[default]
    One,
    All,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Firings are spread over this time.
    pub jitter_s: u32,
    pub overlap: Overlap,
    pub missed: Missed,
}

/// When the firing that is planned for `planned_at` is due: the same on every node.
pub fn due_at(schedule: Uuid, planned_at: DateTime<Utc>, jitter_s: u32) -> DateTime<Utc> {
    let drawn = ids::derived(schedule, &format!("jitter {}", planned_at.timestamp_millis())).into_bytes();
    let drawn = drawn[9..].iter().fold(0_u64, |drawn, byte| drawn << 8 | u64::from(*byte));
    let spread_ms = i64::try_from(drawn % (u64::from(jitter_s) * 1_000 + 1)).expect("an hour of milliseconds");
    planned_at + Duration::milliseconds(spread_ms)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleStatus {
    Active,
    Paused,
    /// Nothing is planned any more.
    Ended,
    Removed,
}

impl ScheduleStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Ended => "ended",
            Self::Removed => "removed",
        }
    }
}

/// What decisions about a schedule need; what the owner wrote stays in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub status: ScheduleStatus,
    pub owner: Uuid,
    pub agent_id: Uuid,
    pub timing: Timing,
    pub policies: Policies,
    pub next_at: Option<DateTime<Utc>>,
    /// No instant up to this one is ever planned again.
    last_planned: Option<DateTime<Utc>>,
    /// Planned instants that wait for the end of the task before.
    pub queue: VecDeque<DateTime<Utc>>,
    /// Tasks that have not ended.
    pub open: Vec<Uuid>,
    /// Firings in a row that failed.
    pub failures: u32,
    pub paused: Option<PauseReason>,
    /// Which event of the stream holds the input.
    pub input_at: Sequence,
    /// How many there are so far.
    events: Sequence,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub planned_at: DateTime<Utc>,
    /// It is to be passed over.
    pub is_missed: bool,
    /// The first one that is passed over with it.
    missed_since: Option<DateTime<Utc>>,
    next_at: Option<DateTime<Utc>>,
}

impl Schedule {
    /// The planned instant that is next, if it has come. The schedule's jitter is the caller's to wait for.
    pub fn due(&self, now: DateTime<Utc>) -> Option<Due> {
        let next = self.next_at.filter(|next| self.status == ScheduleStatus::Active && *next <= now)?;
        let plan = self.timing.plan().ok()?;
        let jitter = Duration::seconds(i64::from(self.policies.jitter_s));
        let horizon = now - jitter - GRACE;
        let due = |planned_at, is_missed| Due {
            planned_at,
            is_missed,
            missed_since: Some(next).filter(|next| *next < planned_at),
            next_at: plan.next_after(planned_at),
        };
        let latest = |until, count_max| plan.latest(next, until, count_max).first().copied().unwrap_or(next);
        Some(match self.policies.missed {
            _ if next >= horizon => due(next, false),
            Missed::Skip => due(latest(horizon - Duration::milliseconds(1), 1), true),
            Missed::One => due(latest(now - jitter, 1), false),
            Missed::All => due(latest(now - jitter, MISSED_MAX), false),
        })
    }

    /// The firing that has waited longest, if its turn has come.
    pub fn released(&self) -> Option<DateTime<Utc>> {
        let is_free = self.status == ScheduleStatus::Active && self.open.is_empty();
        self.queue.front().copied().filter(|_| is_free)
    }

    /// What is to be done with a firing that could be submitted; none when it should be.
    pub fn held_up(&self) -> Option<Outcome> {
        let passed = |reason| Some(Outcome::PassedOver { reason });
        match self.policies.overlap {
            Overlap::Allow if self.open.len() >= OPEN_TASKS_MAX => passed(Passed::TooManyOpen),
            Overlap::Allow => None,
            _ if self.open.is_empty() && self.queue.is_empty() => None,
            Overlap::Skip => passed(Passed::Overlap),
            Overlap::Queue if self.queue.len() >= QUEUED_MAX => passed(Passed::QueueFull),
            Overlap::Queue => Some(Outcome::Queued),
        }
    }

    /// The planned instants that come next, at most `count_max`.
    pub fn next_runs(&self, count_max: usize) -> Vec<DateTime<Utc>> {
        let (Some(next), Ok(plan)) = (self.next_at, self.timing.plan()) else { return Vec::new() };
        std::iter::successors(Some(next), |last| plan.next_after(*last)).take(count_max).collect()
    }

    /// The first planned instant from now on under this timing.
    fn first_of(&self, timing: &Timing, at: DateTime<Utc>) -> Result<DateTime<Utc>, TimingError> {
        timing.first_after(self.last_planned.map_or(at, |last| last.max(at)))
    }

    fn settle(&mut self) {
        if matches!(self.status, ScheduleStatus::Active | ScheduleStatus::Ended) {
            let is_over = self.next_at.is_none() && self.queue.is_empty();
            self.status = if is_over { ScheduleStatus::Ended } else { ScheduleStatus::Active };
        }
    }

    /// Takes in what came of a firing that was recorded.
    fn record(&mut self, planned_at: DateTime<Utc>, outcome: Outcome) {
        match outcome {
            Outcome::Submitted { task_id } => self.open.push(task_id),
            Outcome::Queued => self.queue.push_back(planned_at),
            Outcome::PassedOver { reason } => self.failures += u32::from(reason.failure().is_some()),
        }
    }

    fn create(created: ScheduleCreated) -> Self {
        let ScheduleCreated { owner, agent_id, timing, policies, next_at, .. } = created;
        Self {
            status: ScheduleStatus::Active,
            owner,
            agent_id,
            timing,
            policies,
            next_at: Some(next_at),
            last_planned: None,
            queue: VecDeque::new(),
            open: Vec::new(),
            failures: 0,
            paused: None,
            input_at: 1,
            events: 1,
        }
    }

    /// Takes in an event that is not the first.
    pub fn follow(&mut self, event: &ScheduleEvent) {
        self.events += 1;
        match event {
            ScheduleEvent::Created(_) => {}
            ScheduleEvent::Changed(changed) => {
                self.agent_id = changed.agent_id.unwrap_or(self.agent_id);
                self.timing = changed.timing.clone().unwrap_or_else(|| self.timing.clone());
                self.policies = changed.policies.unwrap_or(self.policies);
                self.next_at = changed.next_at;
                self.input_at = if changed.has_input { self.events } else { self.input_at };
            }
            ScheduleEvent::Paused(paused) => {
                (self.status, self.paused) = (ScheduleStatus::Paused, Some(paused.reason));
                self.next_at = None;
                self.queue.clear();
            }
            ScheduleEvent::Resumed(resumed) => {
                (self.status, self.paused) = (ScheduleStatus::Active, None);
                (self.next_at, self.failures) = (resumed.next_at, 0);
            }
            ScheduleEvent::Fired(fired) => {
                if !fired.is_manual {
                    self.last_planned = Some(fired.planned_at);
                }
                self.next_at = fired.next_at;
                self.record(fired.planned_at, fired.outcome);
            }
            ScheduleEvent::Released(released) => {
                self.queue.pop_front();
                self.record(released.planned_at, released.outcome);
            }
            ScheduleEvent::TaskEnded(ended) => {
                self.open.retain(|task| *task != ended.task_id);
                self.failures = match ended.end {
                    TaskEnd::Completed => 0,
                    TaskEnd::Failed => self.failures + 1,
                    TaskEnd::Cancelled => self.failures,
                };
            }
            ScheduleEvent::Removed(_) => {
                (self.status, self.next_at) = (ScheduleStatus::Removed, None);
                self.queue.clear();
                self.open.clear();
            }
        }
        self.settle();
    }
}

impl TryFrom<&ScheduleEvent> for Schedule {
    type Error = ();
    /// The schedule that this event begins.
    fn try_from(event: &ScheduleEvent) -> Result<Self, ()> {
        match event {
            ScheduleEvent::Created(created) => Ok(Self::create(created.clone())),
            _ => Err(()),
        }
    }
}
