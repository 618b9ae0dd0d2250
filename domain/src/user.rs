//! A person with an account. Erasing ends it for good: the stream stays, the person's words become unreadable.
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};
use uuid::Uuid;

use crate::{Name, Personal, RefusalKind, Refuse, Rooted, events, opaque_debug};

/// What a person may do, by name; the permissions behind each stand in the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Admin,
    Operator,
    Member,
    Auditor,
    Integrator,
}

impl Role {
    pub const ALL: [Role; 5] = [Self::Admin, Self::Operator, Self::Member, Self::Auditor, Self::Integrator];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Member => "member",
            Self::Auditor => "auditor",
            Self::Integrator => "integrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| format!("{text:?} is not a role"))
    }
}

/// Who a person is, in their own words.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub email: String,
    pub display_name: Name,
}

opaque_debug!(Profile);

#[derive(Debug, Clone, PartialEq)]
pub enum UserCommand {
    /// `credential` names the row that holds the password hash, outside the log.
    Register {
        profile: Profile,
        roles: BTreeSet<Role>,
        credential: Uuid,
    },
    Erase,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRegistered {
    pub roles: BTreeSet<Role>,
    pub credential: Uuid,
    #[serde(skip)]
    pub personal: Personal<Profile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserErased {}

events! {
    UserEvent of User {
        Registered(UserRegistered) = "registered" v 1 personal;
        Erased(UserErased) = "erased" v 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("there is no such user")]
    Absent,
    #[error("this user is registered already")]
    AlreadyRegistered,
    #[error("a user needs at least one role")]
    NoRole,
}

impl Refuse for UserError {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Absent => RefusalKind::Absent,
            Self::AlreadyRegistered => RefusalKind::Late,
            Self::NoRole => RefusalKind::Rule,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::AlreadyRegistered => "already_registered",
            Self::NoRole => "no_role",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    #[default]
    Unknown,
    Active,
    Erased,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub standing: Standing,
    pub roles: BTreeSet<Role>,
    pub credential: Option<Uuid>,
}

impl Rooted for User {
    fn subject(&self, id: Uuid) -> Option<Uuid> {
        Some(id)
    }
}

impl Aggregate for User {
    const TYPE: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Error = UserError;
    type Services = ();

    async fn handle(&mut self, command: UserCommand, (): &(), sink: &EventSink<Self>) -> Result<(), UserError> {
        let event: UserEvent = match (command, self.standing) {
            (UserCommand::Register { roles, .. }, Standing::Unknown) if roles.is_empty() => {
                return Err(UserError::NoRole);
            }
            (UserCommand::Register { profile, roles, credential }, Standing::Unknown) => {
                UserRegistered { roles, credential, personal: Personal::Known(profile) }.into()
            }
            (UserCommand::Register { .. }, _) => return Err(UserError::AlreadyRegistered),
            (UserCommand::Erase, Standing::Unknown) => return Err(UserError::Absent),
            (UserCommand::Erase, Standing::Active) => UserErased {}.into(),
            (UserCommand::Erase, Standing::Erased) => return Ok(()),
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: UserEvent) {
        match event {
            UserEvent::Registered(UserRegistered { roles, credential, .. }) => {
                (self.standing, self.roles, self.credential) = (Standing::Active, roles, Some(credential));
            }
            UserEvent::Erased(_) => {
                (self.standing, self.credential) = (Standing::Erased, None);
                self.roles.clear();
            }
        }
    }
}
