//! Agents that do work: what a kind of agent is, and which kinds there are.
//!
//! A kind checks configurations and inputs, says what they look like, and runs a task. It records each effect as a step of the
//! task's journal (`run`) and appends nothing by itself. Claims, leases, attempts and timeouts are the worker's; a kind knows
//! none of them.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{error::FieldError, views::query::Views};

mod attempt;
pub mod deadline;
pub mod insight;
pub mod lease;
pub mod queue;
mod ready;
pub mod rules;
pub mod run;
pub mod slots;
pub mod waiting;
pub mod webhook;
pub mod worker;

use insight::agent::InsightAgent;
use lease::kind::WorkerAgent;
use rules::agent::RulesAgent;
pub use run::{Run, RunError, TaskFailure};
use webhook::{Outside, WebhookAgent};

/// What people read about a kind before they choose it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct KindDescription {
    pub kind: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub config_schema: Value,
    pub input_schema: Value,
    pub output_schema: Value,
    /// Whether `try` answers at once, without recording anything.
    pub can_try: bool,
}

/// An input to be tried without recording anything.
#[derive(Debug)]
pub struct Trial<'a> {
    pub agent_id: Uuid,
    pub agent_name: &'a str,
    pub config: &'a Value,
    pub input: &'a Value,
    pub requested_by: Uuid,
    pub now: DateTime<Utc>,
}

/// What a task with this input would have come to.
#[derive(Debug)]
pub struct Tried {
    pub output: Value,
    /// How the kind came to it, when it tells more than the output.
    pub explanation: Option<Value>,
}

/// Why what a configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Every refused value, with a pointer into the configuration.
    #[error("the configuration names what is not there")]
    Refused(Vec<FieldError>),
    /// It cannot be told now.
    #[error("{0}")]
    Unavailable(String),
}

#[async_trait]
pub trait AgentHandler: Send + Sync {
    fn describe(&self) -> KindDescription;

    /// Whether its tasks are leased to workers outside. Then no process of ours claims them or calls [`run`](Self::run).
    fn is_leased(&self) -> bool {
        false
    }

    /// # Errors
    /// Every refused value, with a pointer into the configuration.
    fn check_config(&self, config: &Value) -> Result<(), Vec<FieldError>>;

    /// Whether what the configuration names is there now, such as a secret. Asked when an agent is made or changed.
    ///
    /// # Errors
    /// See [`ReferenceError`].
    async fn check_references(&self, _config: &Value) -> Result<(), ReferenceError> {
        Ok(())
    }

    /// # Errors
    /// Every refused value, with a pointer into the input.
    fn check_input(&self, config: &Value, input: &Value) -> Result<(), Vec<FieldError>>;

    /// Does a task and answers its output. May be called again for the same task after a crash: steps that were recorded answer
    /// what they recorded.
    ///
    /// # Errors
    /// `Failed` when the task cannot be done, `Lost` when this attempt no longer counts.
    async fn run(&self, run: &mut Run) -> Result<Value, RunError>;

    /// The output at once and nothing recorded; none for kinds that reach outside.
    async fn attempt(&self, _trial: &Trial<'_>) -> Option<Result<Tried, TaskFailure>> {
        None
    }
}

/// Computations of handlers that run at once: they would only slow each other down beyond the cores.
static COMPUTING: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from))));

/// Computes off the async threads. The place is kept until the work is over, also when nobody waits for it any more: a
/// computation cannot be stopped, and must not run beside more of its kind than there are cores.
///
/// # Errors
/// `agent_crashed` when the work panics.
pub async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TaskFailure> {
    let crashed = || TaskFailure::passing("agent_crashed", "the agent's program failed; this is a defect of Marvin");
    let place = COMPUTING.clone().acquire_owned().await.map_err(|_| crashed())?;
    let working = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(place);
        result
    });
    working.await.map_err(|_| crashed())
}

/// The kinds of agent that this program runs.
#[derive(Clone)]
pub struct Kinds(Arc<BTreeMap<&'static str, Arc<dyn AgentHandler>>>);

impl Kinds {
    /// The one registration of agent kinds.
    pub fn all(views: Views, outside: Outside) -> Self {
        Self::of(vec![
            Arc::new(InsightAgent),
            Arc::new(RulesAgent::new(views)),
            Arc::new(WorkerAgent),
            Arc::new(WebhookAgent::new(outside)),
        ])
    }

    /// These kinds and no others.
    pub fn of(handlers: Vec<Arc<dyn AgentHandler>>) -> Self {
        Self(Arc::new(handlers.into_iter().map(|handler| (handler.describe().kind, handler)).collect()))
    }

    pub fn get(&self, kind: &str) -> Option<&Arc<dyn AgentHandler>> {
        self.0.get(kind)
    }

    /// Whether tasks of this kind are run by processes of ours, rather than leased to others or unknown.
    pub fn run_here(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|handler| !handler.is_leased())
    }

    /// The kinds whose tasks are run by processes of ours.
    pub fn names_run_here(&self) -> Vec<&'static str> {
        self.0.keys().copied().filter(|kind| self.run_here(kind)).collect()
    }

    /// Whether tasks of this kind are leased to workers outside.
    pub fn is_leased(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|handler| handler.is_leased())
    }

    pub fn describe(&self) -> Vec<KindDescription> {
        self.0.values().map(|handler| handler.describe()).collect()
    }
}
