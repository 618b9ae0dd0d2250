//! What debug output shows of commands to a task: which one it is and whose, never the words in it.
use std::fmt::{Debug, Formatter, Result};

use super::{Submission, TaskCommand};

impl Debug for Submission {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Submission")
            .field("agent_id", &self.agent_id)
            .field("requested_by", &self.requested_by)
            .field("parent", &self.parent)
            .finish_non_exhaustive()
    }
}

impl Debug for TaskCommand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Submit(submission) => f.debug_tuple("Submit").field(submission).finish(),
            Self::Start { worker, at } => f.debug_struct("Start").field("worker", worker).field("at", at).finish(),
            Self::CompleteStep { attempt, step, .. } => {
                f.debug_struct("CompleteStep").field("attempt", attempt).field("step", step).finish_non_exhaustive()
            }
            Self::TellStep { step, .. } => f.debug_struct("TellStep").field("step", step).finish_non_exhaustive(),
            Self::Complete { attempt, .. } => {
                f.debug_struct("Complete").field("attempt", attempt).finish_non_exhaustive()
            }
            Self::Fail { attempt, failure, retry_at } => f
                .debug_struct("Fail")
                .field("attempt", attempt)
                .field("failure", failure)
                .field("retry_at", retry_at)
                .finish(),
            Self::LoseHeartbeat { attempt } => f.debug_struct("LoseHeartbeat").field("attempt", attempt).finish(),
            Self::PassDeadline { at } => f.debug_struct("PassDeadline").field("at", at).finish(),
            Self::Cancel { reason } => f.debug_struct("Cancel").field("reason", reason).finish(),
            Self::Retry => f.write_str("Retry"),
        }
    }
}
