//! The decisions of Marvin: aggregates, their commands and events, and the process managers that turn events into commands.
//!
//! Pure by rule: no I/O, no clock, no randomness. Times and ids come in with the command, so the same commands over the same
//! history always give the same events.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod aggregate;
pub mod event;
pub mod ids;
pub mod misfit;
pub mod name;
pub mod process;
pub mod upcast;

pub mod agent;
pub mod channel;
pub mod instance;
pub mod notification;
pub mod projection;
pub mod schedule;
pub mod secret;
pub mod task;
pub mod user;

pub use aggregate::{Refusal, RefusalKind, Refuse, Rooted};
pub use event::{Actor, Checkpoint, DecodeError, Envelope, Metadata, Personal, Position, Sequence, StreamId};
pub use misfit::Misfit;
pub use name::Name;

// The one registration of an aggregate: its module's types become variants of `AggregateKind`, `Event`, `Command` and `State`.
aggregates! {
    Instance(instance::Instance, instance::InstanceCommand, instance::InstanceEvent);
    User(user::User, user::UserCommand, user::UserEvent);
    Agent(agent::Agent, agent::AgentCommand, agent::AgentEvent);
    Task(task::Task, task::TaskCommand, task::TaskEvent);
    Notification(notification::Notification, notification::NotificationCommand, notification::NotificationEvent);
    Projection(projection::Projection, projection::ProjectionCommand, projection::ProjectionEvent);
    Channel(channel::Channel, channel::ChannelCommand, channel::ChannelEvent);
    Schedule(schedule::ScheduleState, schedule::ScheduleCommand, schedule::ScheduleEvent);
    Secret(secret::Secret, secret::SecretCommand, secret::SecretEvent);
}

/// A command and the stream it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Directed {
    pub stream: StreamId,
    pub command: Command,
}

impl Directed {
    pub fn new(id: uuid::Uuid, command: impl Into<Command>) -> Self {
        let command = command.into();
        Self { stream: StreamId { kind: command.kind(), id }, command }
    }
}
