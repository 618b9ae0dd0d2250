//! Answers that come later: the address that a call names for them, their way into the journal, and whoever waits for them.
//!
//! An answer is a step of the task's journal, told once, whether or not an attempt runs at that moment: the attempt that runs, or the
//! next one, finds it there. So none is lost between two attempts, and the log says whether the address was used.
use chrono::Utc;
use marvin_domain::{
    Actor, AggregateKind, Directed, Envelope, Event, Metadata, Refuse, StreamId,
    task::{Phase, Task, TaskCommand, TaskError, TaskEvent, TaskStepCompleted},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tracing::warn;
use uuid::Uuid;

use super::token::Place;
use crate::{
    agent::{TaskFailure, run::check_size},
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    log::{EventLog, ReadError, Receipt, codec::Codec, subscription::Subscription, tail::Tail},
    security::subjects::SubjectStore,
};

/// What the step of an answer is called.
const STEP_KIND: &str = "callback";
/// How long an answer waits that is faster than the record of its call: the receiver may tell before it has answered the call.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks for that record.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The slow poll behind the wake-up of who waits for an answer.
const WAIT_POLL: Duration = Duration::from_secs(5);
/// Pause before the log is followed again that could not be read.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Events of a task's stream read at once.
const JOURNAL_PAGE_EVENTS: u32 = 1_000;

/// What a receiver says came of a task.
#[derive(Clone, PartialEq)]
pub enum Tale {
    Output(Value),
    Failed { code: String, message: String, retry: bool },
}

/// An answer as the journal has it.
pub enum Told {
    Output(Value),
    /// `is_acted_on` when an attempt has failed with it already, so that this one is another round.
    Failed {
        failure: TaskFailure,
        is_acted_on: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    #[error("nobody was given this address")]
    Unknown,
    #[error("the call is not recorded yet")]
    Early,
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

pub struct Callbacks {
    dispatcher: Dispatcher,
    log: Arc<dyn EventLog>,
    codec: Codec,
    subjects: Arc<dyn SubjectStore>,
    public_url: String,
    /// Who waits in this process, by task.
    waiting: Mutex<HashMap<Uuid, Arc<Notify>>>,
}

impl Callbacks {
    pub fn new(
        dispatcher: Dispatcher,
        log: Arc<dyn EventLog>,
        codec: Codec,
        subjects: Arc<dyn SubjectStore>,
        public_url: String,
    ) -> Arc<Self> {
        Arc::new(Self { dispatcher, log, codec, subjects, public_url, waiting: Mutex::default() })
    }

    /// The address that answers the call of this step. Whoever knows it may answer: it is told to the receiver and to nobody else.
    pub fn url(&self, task: Uuid, call: u32) -> String {
        let token = Place { task, call }.token(&*self.subjects);
        format!("{}/api/v1/callbacks/{token}", self.public_url)
    }

    /// Records what a receiver tells.
    ///
    /// # Errors
    /// `Unknown` for an address that we never gave out, `Refused` (late) when it was used or the task has ended, `Early` when the
    /// call it answers is not recorded within some seconds.
    pub async fn tell(&self, token: &str, tale: Tale) -> Result<Receipt, CallbackError> {
        let place = Place::of(token, &*self.subjects).ok_or(CallbackError::Unknown)?;
        let stream = StreamId { kind: AggregateKind::Task, id: place.task };
        let loaded = self.dispatcher.load(stream).await?;
        let task = <&Task>::try_from(&loaded.state).ok().filter(|task| task.phase != Phase::Unknown);
        let mut meta = CommandMeta::new(Actor::Agent(task.ok_or(CallbackError::Unknown)?.agent_id));
        meta.correlation = self.correlation_of(stream).await?.unwrap_or(meta.command_id);
        let result = tale.result();
        check_size(&result).map_err(|failure| CallbackError::TooLarge(failure.message))?;
        let (kind, name) = (STEP_KIND.to_owned(), "answer".to_owned());
        let tell = TaskCommand::TellStep { step: place.call + 1, kind, name, at: Utc::now(), result };
        let (tell, begun) = ([Directed::new(place.task, tell)], Instant::now());
        let early = TaskError::StepOutOfOrder { expected: 0 }.code();
        loop {
            match self.dispatcher.dispatch(&meta, &tell).await {
                Err(DispatchError::Refused(refusal)) if refusal.code == early => {}
                told => return Ok(told?),
            }
            if begun.elapsed() > RECORDED_WITHIN {
                return Err(CallbackError::Early);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Waits for the answer that is this step of the task, however long that takes.
    ///
    /// # Errors
    /// `log_unreadable` when the journal holds something that cannot be read.
    pub async fn wait(&self, task: Uuid, step: u32) -> Result<Told, TaskFailure> {
        let waiting = Waiting::new(self, task);
        loop {
            // Asked for before the look, so that none is missed between the two.
            let woken = waiting.wake.notified();
            match self.told(task, step).await {
                Ok(Some(told)) => return Ok(told),
                Ok(None) => {}
                Err(error @ ReadError::Corrupt { .. }) => {
                    return Err(TaskFailure::passing("log_unreadable", error.to_string()));
                }
                Err(error) => warn!(task.id = %task, error = %error, "an answer cannot be looked for now"),
            }
            tokio::time::timeout(WAIT_POLL, woken).await.ok();
        }
    }

    /// Wakes those who wait, as the log tells of answers, until the process ends.
    pub async fn listen(self: Arc<Self>, tail: Arc<Tail>) {
        let after = *tail.head().borrow();
        let mut subscription = Subscription::new(tail, after);
        loop {
            match subscription.next().await {
                Ok(events) => events.iter().filter(|event| answer(event).is_some()).for_each(|event| {
                    if let Some(wake) = self.waiting().get(&event.stream.id) {
                        wake.notify_one();
                    }
                }),
                Err(error) => {
                    warn!(error = %error, "the log cannot be followed for answers");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// The answer that is this step, if the journal has it.
    async fn told(&self, task: Uuid, step: u32) -> Result<Option<Told>, ReadError> {
        let stream = StreamId { kind: AggregateKind::Task, id: task };
        let (mut told, mut after): (Option<Told>, _) = (None, 0);
        loop {
            let rows = self.log.read_stream(stream, after, JOURNAL_PAGE_EVENTS).await?;
            let Some(last) = rows.last() else { return Ok(told) };
            after = last.sequence;
            for event in self.codec.open(rows).await? {
                match answer(&event).filter(|answer| answer.step == step) {
                    Some(answer) => told = answer.personal.known().map(|personal| Told::of(&personal.result)),
                    None => told.iter_mut().for_each(|told| told.hear(&event)),
                }
            }
        }
    }

    /// The chain that the task belongs to, as its first event has it.
    async fn correlation_of(&self, stream: StreamId) -> Result<Option<Uuid>, ReadError> {
        let first = self.log.read_stream(stream, 0, 1).await?.pop();
        let metadata = first.and_then(|first| serde_json::from_str::<Metadata>(&first.metadata).ok());
        Ok(metadata.map(|metadata| metadata.correlation))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The step of an answer.
fn answer(event: &Envelope) -> Option<&TaskStepCompleted> {
    match &event.event {
        Event::Task(TaskEvent::StepCompleted(step)) if step.kind == STEP_KIND => Some(step),
        _ => None,
    }
}

/// A place among those who wait, given up also when whoever waits is stopped. A later attempt may have taken it over.
struct Waiting<'a> {
    callbacks: &'a Callbacks,
    task: Uuid,
    wake: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn new(callbacks: &'a Callbacks, task: Uuid) -> Self {
        let wake = Arc::new(Notify::new());
        callbacks.waiting().insert(task, wake.clone());
        Self { callbacks, task, wake }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.callbacks.waiting();
        if waiting.get(&self.task).is_some_and(|wake| Arc::ptr_eq(wake, &self.wake)) {
            waiting.remove(&self.task);
        }
    }
}

impl Tale {
    /// As the journal keeps it.
    fn result(self) -> Value {
        match self {
            Self::Output(output) => json!({ "output": output }),
            Self::Failed { code, message, retry } => {
                json!({ "error": { "code": code, "message": message, "retry": retry } })
            }
        }
    }
}

impl Told {
    /// Reads what [`Tale::result`] wrote.
    fn of(result: &Value) -> Self {
        let Some(error) = result.get("error") else {
            return Self::Output(result.get("output").cloned().unwrap_or_default());
        };
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        let failure = TaskFailure {
            code: text("code").into(),
            message: text("message"),
            retry: error["retry"].as_bool().unwrap_or(false),
            retry_after: None,
        };
        Self::Failed { failure, is_acted_on: false }
    }

    /// An end that came later, for this very reason, is what an attempt made of it.
    fn hear(&mut self, event: &Envelope) {
        let Self::Failed { failure, is_acted_on } = self else { return };
        let Event::Task(event) = &event.event else { return };
        let ended_with = match event {
            TaskEvent::RetryScheduled(event) => &event.code,
            TaskEvent::Failed(event) => &event.code,
            TaskEvent::DeadLettered(event) => &event.code,
            _ => return,
        };
        *is_acted_on |= *ended_with == failure.code;
    }
}
