//! What administrators decided about a projection: which events it passes over, and why.
//!
//! One stream for each name and version: another version folds anew, and may well take what this one could not.
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

use crate::{
    AggregateKind, Directed, Personal, Position, RefusalKind, Refuse, Rooted, StreamId, events, ids, instance,
    opaque_debug,
};

/// Longest reason, in characters: a paragraph, with a link to where it is explained.
pub const REASON_CHARS_MAX: usize = 1_000;
/// Events that a projection may pass over: with more of them, it is the projection that needs mending.
pub const SKIPS_MAX: usize = 1_000;

/// The stream of a projection's version, the same on every node.
pub fn stream(name: &str, version: u32) -> StreamId {
    let id = ids::derived(instance::STREAM.id, &format!("projection/{name}/{version}"));
    StreamId { kind: AggregateKind::Projection, id }
}

/// Why an event is passed over, in the words of the administrator.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    pub reason: String,
}

opaque_debug!(Reason);

#[derive(Debug, Clone, PartialEq)]
pub enum ProjectionCommand {
    /// Takes an event out of a projection; repeating it changes nothing, and the first reason stands.
    Skip { name: String, version: u32, position: Position, administrator: Uuid, reason: Reason },
}

impl ProjectionCommand {
    /// This command to the stream that it is for.
    pub fn directed(self) -> Directed {
        let Self::Skip { name, version, .. } = &self;
        Directed::new(stream(name, *version).id, self)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectionSkipped {
    pub name: String,
    pub version: u32,
    /// The event that is passed over.
    pub position: Position,
    pub administrator: Uuid,
    #[serde(skip)]
    pub personal: Personal<Reason>,
}

events! {
    ProjectionEvent of Projection {
        Skipped(ProjectionSkipped) = "skipped" v 1 personal;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProjectionError {
    #[error("positions begin at 1")]
    NoPosition,
    #[error("passing over an event needs a reason")]
    NoReason,
    #[error("the reason must have at most {REASON_CHARS_MAX} characters")]
    ReasonTooLong,
    #[error("a projection may pass over at most {SKIPS_MAX} events: mend the projection and rebuild it")]
    TooManySkips,
}

impl Refuse for ProjectionError {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Rule
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoPosition => "no_position",
            Self::NoReason => "no_reason",
            Self::ReasonTooLong => "reason_too_long",
            Self::TooManySkips => "too_many_skips",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    skipped: BTreeSet<Position>,
    /// Who skipped last: the reason in that event is theirs.
    administrator: Option<Uuid>,
}

impl Projection {
    /// The positions of the events that are passed over, in order.
    pub fn skipped(&self) -> impl Iterator<Item = Position> + '_ {
        self.skipped.iter().copied()
    }
}

impl Rooted for Projection {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        self.administrator
    }
}

impl Aggregate for Projection {
    const TYPE: &'static str = "projection";
    type Command = ProjectionCommand;
    type Event = ProjectionEvent;
    type Error = ProjectionError;
    type Services = ();

    async fn handle(
        &mut self,
        command: ProjectionCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), ProjectionError> {
        let ProjectionCommand::Skip { name, version, position, administrator, reason } = command;
        if position == 0 {
            return Err(ProjectionError::NoPosition);
        }
        if reason.reason.trim().is_empty() {
            return Err(ProjectionError::NoReason);
        }
        if reason.reason.chars().count() > REASON_CHARS_MAX {
            return Err(ProjectionError::ReasonTooLong);
        }
        if self.skipped.contains(&position) {
            return Ok(());
        }
        if self.skipped.len() >= SKIPS_MAX {
            return Err(ProjectionError::TooManySkips);
        }
        let personal = Personal::Known(reason);
        sink.write(ProjectionSkipped { name, version, position, administrator, personal }.into(), self).await;
        Ok(())
    }

    fn apply(&mut self, event: ProjectionEvent) {
        let ProjectionEvent::Skipped(skipped) = event;
        self.skipped.insert(skipped.position);
        self.administrator = Some(skipped.administrator);
    }
}
