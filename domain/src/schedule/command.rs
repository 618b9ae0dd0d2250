//! What may be asked of a schedule, and what is decided.
use super::*;

#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleCommand {
    Create {
        owner: Uuid,
        agent_id: Uuid,
        timing: Timing,
        policies: Policies,
        words: Words,
        at: DateTime<Utc>,
    },
    /// What is none stays as it is.
    Change {
        agent_id: Option<Uuid>,
        timing: Option<Timing>,
        policies: Option<Policies>,
        words: NewWords,
        at: DateTime<Utc>,
    },
    Pause,
    /// Fires again from now on; what was planned meanwhile is not made up for.
    Resume {
        at: DateTime<Utc>,
    },
    /// Records what comes of the planned instant that is due at `at`.
    Fire {
        planned_at: DateTime<Utc>,
        at: DateTime<Utc>,
        outcome: Outcome,
    },
    /// Fires now, whatever the plan says.
    Trigger {
        task_id: Uuid,
        at: DateTime<Utc>,
    },
    /// Records what comes of the firing that has waited longest.
    Release {
        planned_at: DateTime<Utc>,
        outcome: Outcome,
    },
    /// A task of this schedule has ended; others are of no concern.
    EndTask {
        task_id: Uuid,
        end: TaskEnd,
    },
    Remove {
        reason: RemoveReason,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("there is no such schedule")]
    Absent,
    #[error("this schedule exists already")]
    AlreadyExists,
    #[error("{0}")]
    Timing(TimingError),
    #[error("jitter_s must be 0 to {JITTER_S_MAX}")]
    Jitter,
    #[error("this is not what is due")]
    NotDue,
    #[error("the task before is still open")]
    Overlap,
    #[error("a schedule may have at most {OPEN_TASKS_MAX} open tasks")]
    TooManyOpen,
}

impl Refuse for ScheduleError {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Absent => RefusalKind::Absent,
            Self::AlreadyExists | Self::NotDue | Self::Overlap => RefusalKind::Late,
            Self::Timing(_) | Self::Jitter | Self::TooManyOpen => RefusalKind::Rule,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::AlreadyExists => "already_exists",
            Self::Timing(TimingError::Cron(_)) => "cron",
            Self::Timing(TimingError::NeverFires) => "never_fires",
            Self::Timing(TimingError::Moment) => "moment",
            Self::Timing(TimingError::Timezone) => "timezone",
            Self::Jitter => "jitter",
            Self::NotDue => "not_due",
            Self::Overlap => "overlap",
            Self::TooManyOpen => "too_many_open",
        }
    }
}

impl From<TimingError> for ScheduleError {
    fn from(error: TimingError) -> Self {
        Self::Timing(error)
    }
}

/// A schedule, or what was never created.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState(Option<Schedule>);

impl ScheduleState {
    /// None when it was never created, and once it is removed.
    pub fn present(&self) -> Option<&Schedule> {
        self.0.as_ref().filter(|schedule| schedule.status != ScheduleStatus::Removed)
    }
}

impl Rooted for ScheduleState {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        self.0.as_ref().map(|schedule| schedule.owner)
    }
}

fn check(policies: Option<&Policies>) -> Result<(), ScheduleError> {
    match policies {
        Some(policies) if policies.jitter_s > JITTER_S_MAX => Err(ScheduleError::Jitter),
        _ => Ok(()),
    }
}

impl Schedule {
    fn change(
        &self,
        agent_id: Option<Uuid>,
        timing: Option<Timing>,
        policies: Option<Policies>,
        words: NewWords,
        at: DateTime<Utc>,
    ) -> Result<Option<ScheduleEvent>, ScheduleError> {
        check(policies.as_ref())?;
        let agent_id = agent_id.filter(|agent| *agent != self.agent_id);
        let timing = timing.map(Timing::exact).filter(|timing| *timing != self.timing);
        let policies = policies.filter(|policies| *policies != self.policies);
        let first = timing.as_ref().map(|timing| self.first_of(timing, at)).transpose()?;
        if agent_id.is_none() && timing.is_none() && policies.is_none() && words == NewWords::default() {
            return Ok(None);
        }
        let is_paused = self.status == ScheduleStatus::Paused;
        let next_at = first.filter(|_| !is_paused).or(self.next_at);
        let has_input = words.input.is_some();
        let personal = Personal::Known(words);
        Ok(Some(ScheduleChanged { agent_id, timing, policies, has_input, next_at, personal }.into()))
    }

    fn fire(
        &self,
        planned_at: DateTime<Utc>,
        at: DateTime<Utc>,
        outcome: Outcome,
    ) -> Result<ScheduleEvent, ScheduleError> {
        let due = self.due(at).filter(|due| due.planned_at == planned_at).ok_or(ScheduleError::NotDue)?;
        let is_passed_as_missed = outcome == Outcome::PassedOver { reason: Passed::Missed };
        if due.is_missed != is_passed_as_missed {
            return Err(ScheduleError::NotDue);
        }
        let waits = matches!(outcome, Outcome::Submitted { .. } | Outcome::Queued);
        if waits && self.held_up().is_some_and(|held| held != outcome) {
            return Err(ScheduleError::Overlap);
        }
        let Due { missed_since, next_at, .. } = due;
        Ok(ScheduleFired { planned_at, is_manual: false, outcome, missed_since, next_at }.into())
    }

    fn release(&self, planned_at: DateTime<Utc>, outcome: Outcome) -> Result<ScheduleEvent, ScheduleError> {
        match self.released() {
            Some(released) if released == planned_at && outcome != Outcome::Queued => {
                Ok(ScheduleReleased { planned_at, outcome }.into())
            }
            _ => Err(ScheduleError::NotDue),
        }
    }

    fn trigger(&self, task_id: Uuid, at: DateTime<Utc>) -> Result<ScheduleEvent, ScheduleError> {
        if self.open.len() >= OPEN_TASKS_MAX {
            return Err(ScheduleError::TooManyOpen);
        }
        let outcome = Outcome::Submitted { task_id };
        let (planned_at, next_at) = (at.trunc_subsecs(3), self.next_at);
        Ok(ScheduleFired { planned_at, is_manual: true, outcome, missed_since: None, next_at }.into())
    }

    fn pause(&self, reason: PauseReason, failure: Option<Failing>) -> ScheduleEvent {
        SchedulePaused { reason, owner: self.owner, agent_id: self.agent_id, failure }.into()
    }

    /// None when the command is satisfied already.
    fn decide(&self, command: ScheduleCommand) -> Result<Option<ScheduleEvent>, ScheduleError> {
        let is_paused = self.status == ScheduleStatus::Paused;
        Ok(match command {
            ScheduleCommand::Create { .. } => return Err(ScheduleError::AlreadyExists),
            ScheduleCommand::Remove { .. } if self.status == ScheduleStatus::Removed => None,
            _ if self.status == ScheduleStatus::Removed => return Err(ScheduleError::Absent),
            ScheduleCommand::Change { agent_id, timing, policies, words, at } => {
                self.change(agent_id, timing, policies, words, at)?
            }
            ScheduleCommand::Pause if is_paused => None,
            ScheduleCommand::Pause => Some(self.pause(PauseReason::Requested, None)),
            ScheduleCommand::Resume { .. } if !is_paused => None,
            // What fell into the pause is over: a moment then leaves nothing to plan.
            ScheduleCommand::Resume { at } => {
                Some(ScheduleResumed { next_at: self.first_of(&self.timing, at).ok() }.into())
            }
            ScheduleCommand::Fire { planned_at, at, outcome } => Some(self.fire(planned_at, at, outcome)?),
            ScheduleCommand::Trigger { task_id, at } => Some(self.trigger(task_id, at)?),
            ScheduleCommand::Release { planned_at, outcome } => Some(self.release(planned_at, outcome)?),
            ScheduleCommand::EndTask { task_id, .. } if !self.open.contains(&task_id) => None,
            ScheduleCommand::EndTask { task_id, end } => Some(ScheduleTaskEnded { task_id, end }.into()),
            ScheduleCommand::Remove { reason } => Some(ScheduleRemoved { reason }.into()),
        })
    }
}

/// Why this event made one more failure, if it did.
fn failure_of(event: &ScheduleEvent) -> Option<Failing> {
    match event {
        ScheduleEvent::Fired(ScheduleFired { outcome: Outcome::PassedOver { reason }, .. })
        | ScheduleEvent::Released(ScheduleReleased { outcome: Outcome::PassedOver { reason }, .. }) => reason.failure(),
        ScheduleEvent::TaskEnded(ScheduleTaskEnded { end: TaskEnd::Failed, .. }) => Some(Failing::TaskFailed),
        _ => None,
    }
}

impl Aggregate for ScheduleState {
    const TYPE: &'static str = "schedule";
    type Command = ScheduleCommand;
    type Event = ScheduleEvent;
    type Error = ScheduleError;
    type Services = ();

    async fn handle(&mut self, command: ScheduleCommand, (): &(), sink: &EventSink<Self>) -> Result<(), ScheduleError> {
        let event: ScheduleEvent = match (command, &self.0) {
            (ScheduleCommand::Create { owner, agent_id, timing, policies, words, at }, None) => {
                check(Some(&policies))?;
                let timing = timing.exact();
                let next_at = timing.first_after(at)?;
                let personal = Personal::Known(words);
                ScheduleCreated { owner, agent_id, timing, policies, next_at, personal }.into()
            }
            (_, None) => return Err(ScheduleError::Absent),
            (command, Some(schedule)) => match schedule.decide(command)? {
                Some(event) => event,
                None => return Ok(()),
            },
        };
        let failure = failure_of(&event);
        sink.write(event, self).await;
        if let (Some(failure), Some(schedule)) = (failure, &self.0)
            && schedule.failures >= FAILURES_MAX
            && matches!(schedule.status, ScheduleStatus::Active | ScheduleStatus::Ended)
        {
            let paused = schedule.pause(PauseReason::RepeatedFailure, Some(failure));
            sink.write(paused, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ScheduleEvent) {
        match &mut self.0 {
            Some(schedule) => schedule.follow(&event),
            None => self.0 = Schedule::try_from(&event).ok(),
        }
    }
}
