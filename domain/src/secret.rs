//! A named secret: whether there is one, and which stored value is in force. The value itself is never here.
//!
//! One stream for each name. A value is kept under an id of its own before the event that brings it into force, so a crash between
//! the two changes nothing.
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AggregateKind, Directed, RefusalKind, Refuse, Rooted, StreamId, events, ids, instance};

/// Longest name, in characters: fits a line of the console and a column of a table.
pub const NAME_CHARS_MAX: usize = 64;

/// 1 to 64 letters, digits, `-`, `_` and `.` of ASCII, beginning with a letter or a digit: stands in paths and configurations.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to {NAME_CHARS_MAX} letters, digits, dots, hyphens and underscores, beginning with a letter or a digit"
)]
pub struct SecretNameError;

impl SecretName {
    /// # Errors
    /// When the text is another form of name.
    pub fn parse(text: &str) -> Result<Self, SecretNameError> {
        let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let goes_on = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        (begins && goes_on && text.len() <= NAME_CHARS_MAX).then(|| Self(text.to_owned())).ok_or(SecretNameError)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream of this secret, the same on every node.
    pub fn stream(&self) -> StreamId {
        StreamId { kind: AggregateKind::Secret, id: ids::derived(instance::STREAM.id, &format!("secret/{}", self.0)) }
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameError;
    fn try_from(text: String) -> Result<Self, SecretNameError> {
        Self::parse(&text)
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum SecretCommand {
    /// Brings the value that is kept under this id into force, in place of the one before.
    Set {
        name: SecretName,
        value: Uuid,
    },
    Remove {
        name: SecretName,
    },
}

impl SecretCommand {
    /// This command to the stream that it is for.
    pub fn directed(self) -> Directed {
        let (Self::Set { name, .. } | Self::Remove { name }) = &self;
        Directed::new(name.stream().id, self)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretSet {
    pub name: SecretName,
    /// The id under which the value is kept, outside the log.
    pub value: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretRemoved {
    pub name: SecretName,
}

events! {
    SecretEvent of Secret {
        Set(SecretSet) = "set" v 1;
        Removed(SecretRemoved) = "removed" v 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("there is no such secret")]
    Absent,
    #[error("somebody else has set this secret at the same time")]
    Overtaken,
}

impl Refuse for SecretError {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Absent => RefusalKind::Absent,
            Self::Overtaken => RefusalKind::Late,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Overtaken => "overtaken",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// The value in force.
    pub value: Option<Uuid>,
    /// The newest value that ever was: older ones may be deleted, so none of them comes into force any more.
    newest: Option<Uuid>,
}

impl Rooted for Secret {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        None
    }
}

impl Aggregate for Secret {
    const TYPE: &'static str = "secret";
    type Command = SecretCommand;
    type Event = SecretEvent;
    type Error = SecretError;
    type Services = ();

    async fn handle(&mut self, command: SecretCommand, (): &(), sink: &EventSink<Self>) -> Result<(), SecretError> {
        let event: SecretEvent = match command {
            SecretCommand::Set { value, .. } if self.value == Some(value) => return Ok(()),
            SecretCommand::Set { value, .. } if self.newest >= Some(value) => return Err(SecretError::Overtaken),
            SecretCommand::Set { name, value } => SecretSet { name, value }.into(),
            SecretCommand::Remove { .. } if self.value.is_none() => return Err(SecretError::Absent),
            SecretCommand::Remove { name } => SecretRemoved { name }.into(),
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: SecretEvent) {
        match event {
            SecretEvent::Set(set) => (self.value, self.newest) = (Some(set.value), Some(set.value)),
            SecretEvent::Removed(_) => self.value = None,
        }
    }
}
