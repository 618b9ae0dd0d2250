//! Whether an agent would take a task of a schedule: the same rules as for a task that a person submits.
use marvin_domain::{
    AggregateKind, StreamId,
    agent::{Agent, AgentStatus},
    schedule::Passed,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    agent::Kinds,
    dispatch::{DispatchError, Dispatcher},
    error::FieldError,
};

/// Why it would not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    Absent,
    Retired,
    /// With pointers into the input.
    Input(Vec<FieldError>),
}

impl From<Unfit> for Passed {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Absent => Self::AgentAbsent,
            Unfit::Retired => Self::AgentRetired,
            Unfit::Input(_) => Self::InputRefused,
        }
    }
}

/// The attempts that the agent allows a task with this input, or why it takes none.
///
/// # Errors
/// When the agent's stream cannot be read.
pub async fn check_submission(
    dispatcher: &Dispatcher,
    kinds: &Kinds,
    agent_id: Uuid,
    input: &Value,
) -> Result<Result<u32, Unfit>, DispatchError> {
    let loaded = dispatcher.load(StreamId { kind: AggregateKind::Agent, id: agent_id }).await?;
    let Some(agent) = <&Agent>::try_from(&loaded.state).ok().and_then(Agent::profile) else {
        return Ok(Err(Unfit::Absent));
    };
    if agent.status == AgentStatus::Retired {
        return Ok(Err(Unfit::Retired));
    }
    let Some(handler) = kinds.get(&agent.kind) else { return Ok(Err(Unfit::Absent)) };
    let checked = handler.check_input(&agent.config, input);
    Ok(checked.map(|()| agent.limits.max_attempts).map_err(Unfit::Input))
}
