//! Messages that say that a task may be ready, and the queues that they lie in: one for each kind of agent that runs here, and one for
//! each agent whose tasks outside programs take.
use chrono::Utc;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Message, Queue,
    sealed::{self, Unreadable},
};
use crate::security::channels::{ChannelKeys, KeyName};

/// Says that the task may be ready. Whether it is, the log decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub task: Uuid,
    pub agent: Uuid,
}

/// Whose work a queue holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    /// Tasks of all agents of a kind that this program runs.
    Kind(String),
    /// Tasks of one agent, for programs outside.
    Agent(Uuid),
}

impl Line {
    /// The channel whose keys its messages are sealed under.
    pub fn channel(&self) -> String {
        match self {
            Self::Kind(kind) => format!("work.{kind}"),
            Self::Agent(agent) => format!("agent.{agent}"),
        }
    }

    /// The queue, among those of all instances that share the broker.
    pub fn queue(&self, instance: &str) -> Queue {
        Queue { name: format!("{instance}.{}", self.channel()), topics: Vec::new() }
    }
}

/// Why a message is no work.
#[derive(Debug, thiserror::Error)]
pub enum NoWork {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("it is not what a work message says")]
    Malformed(#[from] serde_json::Error),
}

impl Work {
    /// The message with this id, sealed under the current key of the line.
    pub fn message(&self, id: Uuid, keys: &ChannelKeys, line: &Line) -> Message {
        let clear = Message {
            id,
            headers: Vec::new(),
            content_type: "application/json".into(),
            body: marvin_domain::event::to_json(self).into(),
        };
        let name = KeyName { channel: line.channel(), epoch: ChannelKeys::epoch_at(Utc::now().timestamp()) };
        sealed::seal(keys, &name, clear)
    }

    /// # Errors
    /// See [`NoWork`]: nobody will ever read it.
    pub fn read(message: &Message, keys: &ChannelKeys, line: &Line) -> Result<Self, NoWork> {
        Ok(serde_json::from_slice(&sealed::open(keys, &line.channel(), message)?)?)
    }
}
