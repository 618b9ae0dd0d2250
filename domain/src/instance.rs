//! The instance itself: that it was set up, and who its administrators are.
//!
//! A singleton stream. A change of an administrator appends to this stream and to the user's in one command, so two changes at
//! once cannot leave the instance without an administrator.
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

use crate::{AggregateKind, RefusalKind, Refuse, Rooted, StreamId, events};

/// The only instance stream there is.
pub const STREAM: StreamId = StreamId { kind: AggregateKind::Instance, id: Uuid::nil() };

#[derive(Debug, Clone, PartialEq)]
pub enum InstanceCommand {
    SetUp { administrator: Uuid },
    AddAdministrator { user: Uuid },
    RemoveAdministrator { user: Uuid },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSetUp {
    pub administrator: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdministratorAdded {
    pub user: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdministratorRemoved {
    pub user: Uuid,
}

events! {
    InstanceEvent of Instance {
        SetUp(InstanceSetUp) = "set_up" v 1;
        AdministratorAdded(AdministratorAdded) = "administrator_added" v 1;
        AdministratorRemoved(AdministratorRemoved) = "administrator_removed" v 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    #[error("this instance has been set up already")]
    AlreadySetUp,
    #[error("this instance has not been set up yet")]
    NotSetUp,
    #[error("the last administrator cannot be removed: name another one first")]
    LastAdministrator,
}

impl Refuse for InstanceError {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::AlreadySetUp => RefusalKind::Late,
            Self::NotSetUp | Self::LastAdministrator => RefusalKind::Rule,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::AlreadySetUp => "already_set_up",
            Self::NotSetUp => "not_set_up",
            Self::LastAdministrator => "last_administrator",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    administrators: BTreeSet<Uuid>,
}

impl Instance {
    pub fn is_set_up(&self) -> bool {
        !self.administrators.is_empty()
    }

    pub fn is_administrator(&self, user: Uuid) -> bool {
        self.administrators.contains(&user)
    }
}

impl Rooted for Instance {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        None
    }
}

impl Aggregate for Instance {
    const TYPE: &'static str = "instance";
    type Command = InstanceCommand;
    type Event = InstanceEvent;
    type Error = InstanceError;
    type Services = ();

    async fn handle(&mut self, command: InstanceCommand, (): &(), sink: &EventSink<Self>) -> Result<(), InstanceError> {
        let event: InstanceEvent = match command {
            InstanceCommand::SetUp { .. } if self.is_set_up() => return Err(InstanceError::AlreadySetUp),
            InstanceCommand::SetUp { administrator } => InstanceSetUp { administrator }.into(),
            _ if !self.is_set_up() => return Err(InstanceError::NotSetUp),
            InstanceCommand::AddAdministrator { user } if self.is_administrator(user) => return Ok(()),
            InstanceCommand::AddAdministrator { user } => AdministratorAdded { user }.into(),
            InstanceCommand::RemoveAdministrator { user } if !self.is_administrator(user) => return Ok(()),
            InstanceCommand::RemoveAdministrator { .. } if self.administrators.len() == 1 => {
                return Err(InstanceError::LastAdministrator);
            }
            InstanceCommand::RemoveAdministrator { user } => AdministratorRemoved { user }.into(),
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: InstanceEvent) {
        match event {
            InstanceEvent::SetUp(InstanceSetUp { administrator: user })
            | InstanceEvent::AdministratorAdded(AdministratorAdded { user }) => {
                self.administrators.insert(user);
            }
            InstanceEvent::AdministratorRemoved(AdministratorRemoved { user }) => {
                self.administrators.remove(&user);
            }
        }
    }
}
