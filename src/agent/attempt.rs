//! One attempt: reads the task's journal, runs the handler within its time, and records how it ended.
use chrono::{DateTime, Utc};
use marvin_domain::{
    Directed, Envelope, Event, Personal, StreamId,
    agent::{Limits, Profile},
    task::{CancelReason, Failure, TaskCommand, TaskEvent},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::AbortHandle, time::Instant};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Kinds, Run, RunError, TaskFailure,
    run::{Assignment, check_size},
};
use crate::{
    dispatch::Dispatcher,
    log::{EventLog, ReadError, codec::Codec, is_full},
};

/// Events of a task's stream read at once.
const JOURNAL_PAGE_EVENTS: u32 = 1_000;
/// The longest that somebody outside may put the next attempt off: whoever asks for more is asked again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

enum Ended {
    Done(Value),
    Failed(TaskFailure),
    /// Cancelled, or taken over: nothing is left to record.
    Lost,
}

/// What a task's stream says to whoever runs it.
struct Journal {
    assignment: Assignment,
    deadline: Option<DateTime<Utc>>,
    /// None when the requester is erased.
    input: Option<Value>,
    steps: BTreeMap<u32, Value>,
}

/// The attempts that run in this process, and what they work with.
pub(super) struct Attempts {
    pub kinds: Kinds,
    pub dispatcher: Dispatcher,
    pub log: Arc<dyn EventLog>,
    codec: Codec,
    running: Arc<Mutex<HashMap<Uuid, Running>>>,
}

/// A claim that this process makes or works under, until it is dropped: so long is its lease kept, and so long it can be stopped.
pub(super) struct Claim {
    id: Uuid,
    /// By claim.
    all: Arc<Mutex<HashMap<Uuid, Running>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.id);
    }
}

fn lock(all: &Mutex<HashMap<Uuid, Running>>) -> MutexGuard<'_, HashMap<Uuid, Running>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task that this process claims, from before the claim is in the log: whatever ends the task from then on finds it here.
struct Running {
    task: Uuid,
    /// None until its handler runs.
    handler: Option<AbortHandle>,
    is_stopped: bool,
    /// Until then nobody else can have the task.
    leased_until: Instant,
}

impl Running {
    fn stop(&mut self) {
        self.is_stopped = true;
        if let Some(handler) = &self.handler {
            handler.abort();
        }
    }
}

impl Attempts {
    pub fn new(kinds: Kinds, dispatcher: Dispatcher, log: Arc<dyn EventLog>, codec: Codec) -> Self {
        Self { kinds, dispatcher, log, codec, running: Arc::default() }
    }

    /// The tasks that are claimed here, each with its claim.
    pub fn claims(&self) -> Vec<(Uuid, Uuid)> {
        self.running().iter().map(|(claim, running)| (running.task, *claim)).collect()
    }

    /// Whether this process works on the task, or is about to.
    pub fn has(&self, task: Uuid) -> bool {
        self.running().values().any(|running| running.task == task && !running.is_stopped)
    }

    /// How many handlers run here.
    pub fn count(&self) -> usize {
        self.running().values().filter(|running| running.handler.is_some()).count()
    }

    /// The task is about to be started under this claim.
    #[must_use]
    pub fn begin(&self, task: Uuid, id: Uuid, leased_until: Instant) -> Claim {
        self.running().insert(id, Running { task, handler: None, is_stopped: false, leased_until });
        Claim { id, all: self.running.clone() }
    }

    /// Stops a task, under whichever claim it runs.
    pub fn stop(&self, task: Uuid) {
        self.running().values_mut().filter(|running| running.task == task).for_each(Running::stop);
    }

    /// Stops what runs under this claim; a task that was claimed again meanwhile goes on.
    pub fn stop_claimed(&self, claim: Uuid) {
        if let Some(running) = self.running().get_mut(&claim) {
            running.stop();
        }
    }

    /// These claims were prolonged.
    pub fn prolong(&self, claims: &HashSet<Uuid>, leased_until: Instant) {
        let mut all = self.running();
        all.iter_mut().filter(|(claim, _)| claims.contains(claim)).for_each(|(_, it)| it.leased_until = leased_until);
    }

    /// Stops what has no lease any more at this time.
    pub fn stop_outlived(&self, at: Instant) {
        self.running().values_mut().filter(|running| running.leased_until <= at).for_each(Running::stop);
    }

    /// The handler of this claim runs. It is stopped at once if that was asked for while it was not there yet; what runs of an
    /// earlier claim counts no more.
    fn handle(&self, task: Uuid, claim: Uuid, handler: AbortHandle) {
        let mut all = self.running();
        all.iter_mut()
            .filter(|(other, running)| running.task == task && **other != claim)
            .for_each(|(_, it)| it.stop());
        let Some(running) = all.get_mut(&claim) else { return handler.abort() };
        running.handler = Some(handler);
        if running.is_stopped {
            running.stop();
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Uuid, Running>> {
        lock(&self.running)
    }
}

/// Runs the attempt that was just claimed, to its end. Never fails: what cannot be recorded is found by the sweep.
pub(super) async fn perform(attempts: &Attempts, task: Uuid, claim: Uuid, agent: &Profile) {
    let journal = match read_journal(attempts, task, agent).await {
        Ok(Some(journal)) => journal,
        Ok(None) => return,
        Err(error) => return warn!(task.id = %task, error = %error, "a task's journal cannot be read"),
    };
    let Journal { mut assignment, deadline, input, steps } = journal;
    let attempt = assignment.attempt;
    let begun = std::time::Instant::now();
    let recorder = Run::new(assignment.clone(), BTreeMap::new(), attempts.dispatcher.clone(), attempts.kinds.clone());
    let Some(input) = input else {
        let cancel = Directed::new(task, TaskCommand::Cancel { reason: CancelReason::RequesterErased });
        recorder.dispatch("cancel", &[cancel]).await.ok();
        return;
    };
    assignment.input = input;
    let run = Run::new(assignment, steps, attempts.dispatcher.clone(), attempts.kinds.clone());
    let (ended, mut last) = within(attempts, (task, claim), agent, run, deadline).await;
    let end = match ended {
        Ended::Done(output) => match check_size(&output) {
            Ok(()) => TaskCommand::Complete { attempt, output },
            Err(failure) => fail(attempt, failure, &agent.limits),
        },
        Ended::Failed(failure) => fail(attempt, failure, &agent.limits),
        Ended::Lost => return,
    };
    let mut failed = match &end {
        TaskCommand::Fail { failure, .. } => Some(failure.code.clone()),
        _ => None,
    };
    last.push(Directed::new(task, end));
    let mut recorded = recorder.dispatch("end", &last).await;
    if let Err(RunError::Failed(failure)) = recorded {
        // What should have been recorded with the end is refused, and is no reason to leave the task without one.
        failed = Some(failure.code.clone().into());
        recorded =
            recorder.dispatch("refused end", &[Directed::new(task, fail(attempt, failure, &agent.limits))]).await;
    }
    if recorded.is_ok() {
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(task.id = %task, attempt, duration_ms, failed, "attempt ended");
    }
}

/// Runs the handler in a task of its own, so that a cancellation stops it and a panic is only its own. Answers also the steps that
/// are to be recorded with the end.
async fn within(
    attempts: &Attempts,
    (task, claim): (Uuid, Uuid),
    agent: &Profile,
    mut run: Run,
    deadline: Option<DateTime<Utc>>,
) -> (Ended, Vec<Directed>) {
    let limit = Duration::from_millis(agent.limits.timeout_ms);
    let left = deadline.map(|deadline| (deadline - Utc::now()).to_std().unwrap_or(Duration::ZERO));
    if left == Some(Duration::ZERO) {
        let failure = TaskFailure::lasting("deadline_passed", "the deadline had passed before the task could start");
        return (Ended::Failed(failure), Vec::new());
    }
    let Some(handler) = attempts.kinds.get(&agent.kind).cloned() else { return (Ended::Lost, Vec::new()) };
    let handling = tokio::spawn(async move { (handler.run(&mut run).await, run.into_postponed()) });
    attempts.handle(task, claim, handling.abort_handle());
    let abort = handling.abort_handle();
    let outcome = tokio::time::timeout(left.map_or(limit, |left| left.min(limit)), handling).await;
    let ended = match outcome {
        Ok(Ok((Ok(output), last))) => return (Ended::Done(output), last),
        Ok(Ok((Err(RunError::Failed(failure)), last))) => return (Ended::Failed(failure), last),
        Ok(Ok((Err(RunError::Lost), _))) => Ended::Lost,
        Ok(Err(error)) if error.is_cancelled() => Ended::Lost,
        Ok(Err(_)) => Ended::Failed(TaskFailure::passing(
            "agent_crashed",
            "the agent's program failed; this is a defect of Marvin",
        )),
        Err(_) => {
            abort.abort();
            let overdue = left.is_some_and(|left| left <= limit);
            Ended::Failed(if overdue {
                TaskFailure::lasting("deadline_passed", "the deadline passed while the task ran")
            } else {
                TaskFailure::passing("timeout", format!("the attempt took longer than {} ms", agent.limits.timeout_ms))
            })
        }
    };
    (ended, Vec::new())
}

fn fail(attempt: u32, failure: TaskFailure, limits: &Limits) -> TaskCommand {
    let asked = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
    let retry_at = failure.retry.then(|| Utc::now() + backoff(attempt, limits).max(asked));
    TaskCommand::Fail { attempt, failure: Failure::new(&failure.code, failure.message), retry_at }
}

/// Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", 2015): a random share of the doubled pause.
pub(super) fn backoff(attempt: u32, limits: &Limits) -> Duration {
    let doubled = limits.backoff_initial_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20));
    let ceiling = doubled.min(limits.backoff_max_ms);
    let share = u64::from_le_bytes(crate::security::random::bytes::<8>());
    Duration::from_millis(share % (ceiling + 1))
}

async fn read_journal(attempts: &Attempts, task: Uuid, agent: &Profile) -> Result<Option<Journal>, ReadError> {
    let stream = StreamId { kind: marvin_domain::AggregateKind::Task, id: task };
    let (mut journal, mut after) = (None, 0);
    loop {
        let rows = attempts.log.read_stream(stream, after, JOURNAL_PAGE_EVENTS).await?;
        let caught_up = !is_full(&rows, JOURNAL_PAGE_EVENTS);
        for envelope in attempts.codec.open(rows).await? {
            after = envelope.sequence;
            enter(&mut journal, &envelope, agent);
        }
        if caught_up {
            return Ok(journal);
        }
    }
}

fn enter(journal: &mut Option<Journal>, envelope: &Envelope, agent: &Profile) {
    let Event::Task(event) = &envelope.event else { return };
    match (event, journal) {
        (TaskEvent::Submitted(submitted), journal) => {
            let assignment = Assignment {
                task_id: envelope.stream.id,
                agent_id: submitted.agent_id,
                agent_name: agent.name.as_str().to_owned(),
                config: agent.config.clone(),
                input: Value::Null,
                requested_by: submitted.requested_by,
                conversation_id: submitted.conversation_id,
                priority: submitted.priority,
                attempt: 0,
                chain_depth: submitted.chain_depth,
                submitted_at: envelope.recorded_at,
                started_at: envelope.recorded_at,
                correlation: envelope.metadata.correlation,
                started_event: envelope.event_id,
            };
            let input = match &submitted.personal {
                Personal::Known(given) => Some(given.input.clone()),
                Personal::Erased => None,
            };
            *journal = Some(Journal { assignment, deadline: submitted.deadline, input, steps: BTreeMap::new() });
        }
        (TaskEvent::Started(started), Some(journal)) => {
            journal.assignment.attempt = started.attempt;
            (journal.assignment.started_at, journal.assignment.started_event) =
                (envelope.recorded_at, envelope.event_id);
        }
        (TaskEvent::StepCompleted(step), Some(journal)) => {
            journal.steps.extend(step.personal.known().map(|personal| (step.step, personal.result.clone())));
        }
        _ => {}
    }
}
