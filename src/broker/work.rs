//! Messages that say that a task may be ready, and the queues that they lie in: one for each kind of agent that runs here, and one for
//! each agent whose tasks outside programs take.
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Keeping, Message, Queue,
    sealed::{self, Unreadable},
};
use crate::security::channels::{ChannelKeys, KeyName};

/// Says that the task may be ready. Whether it is, the log decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub task: Uuid,
    pub agent: Uuid,
}

/// Says to programs outside that the agent may have something for them. They look, and are given what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hint {
    pub agent: Uuid,
    /// None where it is the agent that changed.
    pub task: Option<Uuid>,
    /// None where it is worth looking at once.
    #[serde(serialize_with = "crate::time::optional")]
    pub ready_at: Option<DateTime<Utc>>,
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

    /// The agent of a channel that [`channel`](Self::channel) names; none for any other text.
    pub fn agent_of(channel: &str) -> Option<Uuid> {
        let agent = channel.strip_prefix("agent.")?.parse().ok()?;
        (Self::Agent(agent).channel() == channel).then_some(agent)
    }

    /// The queue, among those of all instances that share the broker.
    pub fn queue(&self, instance: &str) -> Queue {
        let keeping = match self {
            Self::Kind(_) => Keeping::All,
            // Nobody says that somebody will ever come.
            Self::Agent(_) => Keeping::Newest,
        };
        Queue { name: format!("{instance}.{}", self.channel()), topics: Vec::new(), keeping }
    }

    /// The message with this id, sealed under the current key of the line.
    fn message(&self, id: Uuid, keys: &ChannelKeys, said: &impl Serialize) -> Message {
        let clear = Message {
            id,
            headers: Vec::new(),
            content_type: "application/json".into(),
            body: marvin_domain::event::to_json(said).into(),
        };
        let name = KeyName { channel: self.channel(), epoch: ChannelKeys::epoch_at(Utc::now().timestamp()) };
        sealed::seal(keys, &name, clear)
    }
}

impl Hint {
    /// The message with this id, in the queue of its agent.
    pub fn message(&self, id: Uuid, keys: &ChannelKeys) -> (Line, Message) {
        let line = Line::Agent(self.agent);
        let message = line.message(id, keys, self);
        (line, message)
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
    /// The message with this id, in the queue of a kind.
    pub fn message(&self, id: Uuid, keys: &ChannelKeys, kind: String) -> (Line, Message) {
        let line = Line::Kind(kind);
        let message = line.message(id, keys, self);
        (line, message)
    }

    /// # Errors
    /// See [`NoWork`]: nobody will ever read it.
    pub fn read(message: &Message, keys: &ChannelKeys, line: &Line) -> Result<Self, NoWork> {
        Ok(serde_json::from_slice(&sealed::open(keys, &line.channel(), message)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Line;
    use rstest::rstest;
    use uuid::Uuid;

    const AGENT: &str = "018f5f3a-7c1e-7d4b-8a55-0123456789ab";

    #[rstest]
    #[case::as_it_is_named("agent.018f5f3a-7c1e-7d4b-8a55-0123456789ab", true)]
    #[case::upper_case("agent.018F5F3A-7C1E-7D4B-8A55-0123456789AB", false)]
    #[case::without_hyphens("agent.018f5f3a7c1e7d4b8a550123456789ab", false)]
    #[case::twice("agent.agent.018f5f3a-7c1e-7d4b-8a55-0123456789ab", false)]
    #[case::more("agent.018f5f3a-7c1e-7d4b-8a55-0123456789ab/1", false)]
    #[case::no_id("agent.", false)]
    #[case::of_a_kind("work.rules", false)]
    #[case::empty("", false)]
    fn a_channel_is_an_agents_by_its_one_name(#[case] channel: &str, #[case] is_one: bool) {
        let expected = is_one.then(|| AGENT.parse::<Uuid>().unwrap());
        assert_eq!(Line::agent_of(channel), expected, "{channel}");
    }
}
