//! An agent: what it is called, of which kind it is, how it is configured, and whether it takes work.
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{ops::Deref, sync::Arc};
use uuid::Uuid;

use crate::{Name, RefusalKind, Refuse, Rooted, events};

/// An agent's configuration, checked by its kind. Shared, since it may be large and every decision copies the state.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub struct Config(Arc<Value>);

impl From<Value> for Config {
    fn from(value: Value) -> Self {
        Self(Arc::new(value))
    }
}

impl Deref for Config {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Serialize for Config {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What an agent may spend on a task, and how often it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Attempts before a task is given up (1..=20).
    pub max_attempts: u32,
    /// Time of one attempt.
    pub timeout_ms: u64,
    pub backoff_initial_ms: u64,
    pub backoff_max_ms: u64,
    /// Tasks of this agent that run at once, over all processes.
    pub max_concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            timeout_ms: 60_000,
            backoff_initial_ms: 1_000,
            backoff_max_ms: 60_000,
            max_concurrency: 4,
        }
    }
}

/// A day: no attempt and no pause between attempts may be longer.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// More parallel tasks of one agent than this are a mistake on one machine.
const CONCURRENCY_MAX: u32 = 1_000;

impl Limits {
    /// Names the first limit that is out of its bounds.
    ///
    /// # Errors
    /// `LimitOutOfBounds` with the field and its bounds.
    pub fn check(&self) -> Result<(), AgentError> {
        let bounds = [
            ("max_attempts", u64::from(self.max_attempts), 1, 20),
            ("timeout_ms", self.timeout_ms, 1, DAY_MS),
            ("backoff_initial_ms", self.backoff_initial_ms, 0, DAY_MS),
            ("backoff_max_ms", self.backoff_max_ms, self.backoff_initial_ms, DAY_MS),
            ("max_concurrency", u64::from(self.max_concurrency), 1, u64::from(CONCURRENCY_MAX)),
        ];
        match bounds.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value)) {
            Some((field, _, min, max)) => Err(AgentError::LimitOutOfBounds { field, min, max }),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum AgentCommand {
    /// `config` has been checked by the kind's handler.
    Create {
        name: Name,
        description: String,
        kind: String,
        config: Config,
        limits: Limits,
    },
    /// What is none stays as it is.
    Change {
        name: Option<Name>,
        description: Option<String>,
        config: Option<Config>,
        limits: Option<Limits>,
    },
    Pause,
    Resume,
    Retire,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentCreated {
    pub name: Name,
    pub description: String,
    pub kind: String,
    pub config: Config,
    pub limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentChanged {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentPaused {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentResumed {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRetired {}

events! {
    AgentEvent of Agent {
        Created(AgentCreated) = "created" v 1;
        Changed(AgentChanged) = "changed" v 1;
        Paused(AgentPaused) = "paused" v 1;
        Resumed(AgentResumed) = "resumed" v 1;
        Retired(AgentRetired) = "retired" v 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("there is no such agent")]
    Absent,
    #[error("this agent exists already")]
    AlreadyExists,
    #[error("this agent is retired")]
    Retired,
    #[error("limits.{field} must be {min} to {max}")]
    LimitOutOfBounds { field: &'static str, min: u64, max: u64 },
}

impl Refuse for AgentError {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Absent => RefusalKind::Absent,
            Self::AlreadyExists => RefusalKind::Late,
            Self::Retired | Self::LimitOutOfBounds { .. } => RefusalKind::Rule,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::AlreadyExists => "already_exists",
            Self::Retired => "retired",
            Self::LimitOutOfBounds { .. } => "limit_out_of_bounds",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    Active,
    Paused,
    Retired,
}

impl AgentStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Retired => "retired",
        }
    }
}

/// What a created agent is; the configuration is kept since every submission and every attempt needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub name: Name,
    pub description: String,
    pub kind: String,
    pub config: Config,
    pub limits: Limits,
    pub status: AgentStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Agent(Option<Profile>);

impl Agent {
    pub fn profile(&self) -> Option<&Profile> {
        self.0.as_ref()
    }
}

impl Rooted for Agent {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        None
    }
}

impl Aggregate for Agent {
    const TYPE: &'static str = "agent";
    type Command = AgentCommand;
    type Event = AgentEvent;
    type Error = AgentError;
    type Services = ();

    async fn handle(&mut self, command: AgentCommand, (): &(), sink: &EventSink<Self>) -> Result<(), AgentError> {
        let event: AgentEvent = match (command, &self.0) {
            (AgentCommand::Create { name, description, kind, config, limits }, None) => {
                limits.check()?;
                AgentCreated { name, description, kind, config, limits }.into()
            }
            (AgentCommand::Create { .. }, Some(_)) => return Err(AgentError::AlreadyExists),
            (_, None) => return Err(AgentError::Absent),
            (AgentCommand::Retire, Some(agent)) if agent.status == AgentStatus::Retired => return Ok(()),
            (AgentCommand::Retire, Some(_)) => AgentRetired {}.into(),
            (_, Some(agent)) if agent.status == AgentStatus::Retired => return Err(AgentError::Retired),
            (AgentCommand::Pause, Some(agent)) if agent.status == AgentStatus::Paused => return Ok(()),
            (AgentCommand::Pause, Some(_)) => AgentPaused {}.into(),
            (AgentCommand::Resume, Some(agent)) if agent.status == AgentStatus::Active => return Ok(()),
            (AgentCommand::Resume, Some(_)) => AgentResumed {}.into(),
            (AgentCommand::Change { name, description, config, limits }, Some(agent)) => {
                limits.map_or(Ok(()), |limits| limits.check())?;
                let changed = AgentChanged {
                    name: name.filter(|name| *name != agent.name),
                    description: description.filter(|description| *description != agent.description),
                    config: config.filter(|config| *config != agent.config),
                    limits: limits.filter(|limits| *limits != agent.limits),
                };
                if changed == (AgentChanged { name: None, description: None, config: None, limits: None }) {
                    return Ok(());
                }
                changed.into()
            }
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: AgentEvent) {
        match (event, &mut self.0) {
            (AgentEvent::Created(AgentCreated { name, description, kind, config, limits }), agent) => {
                *agent = Some(Profile { name, description, kind, config, limits, status: AgentStatus::Active });
            }
            (AgentEvent::Changed(changed), Some(agent)) => {
                let AgentChanged { name, description, config, limits } = changed;
                agent.name = name.unwrap_or_else(|| agent.name.clone());
                agent.description = description.unwrap_or_else(|| agent.description.clone());
                agent.config = config.unwrap_or_else(|| agent.config.clone());
                agent.limits = limits.unwrap_or(agent.limits);
            }
            (AgentEvent::Paused(_), Some(agent)) => agent.status = AgentStatus::Paused,
            (AgentEvent::Resumed(_), Some(agent)) => agent.status = AgentStatus::Active,
            (AgentEvent::Retired(_), Some(agent)) => agent.status = AgentStatus::Retired,
            (_, None) => {}
        }
    }
}
