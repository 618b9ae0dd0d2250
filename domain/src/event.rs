//! Events as the log keeps them: an envelope around facts and, where a person's words are in it, one personal part.
use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, Visitor},
};
use std::{fmt, str::FromStr};
use uuid::Uuid;

use crate::{AggregateKind, Event, Misfit};

/// Counts the events of the whole log: 1, 2, 3 … in commit order.
pub type Position = u64;
/// Counts the events of one stream: 1, 2, 3 …
pub type Sequence = u64;

/// One aggregate's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub kind: AggregateKind,
    pub id: Uuid,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.id)
    }
}

/// Who caused an event. Written `user/<id>`, `agent/<id>` or `system`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Actor {
    User(Uuid),
    Agent(Uuid),
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user/{id}"),
            Self::Agent(id) => write!(f, "agent/{id}"),
            Self::System => f.write_str("system"),
        }
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> Self {
        actor.to_string()
    }
}

/// Reads the text where it stands: each event read pays for it.
impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Actor;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("user/<id>, agent/<id> or system")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Actor, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl FromStr for Actor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let id = |part: &str| Uuid::parse_str(part).map_err(|error| error.to_string());
        match text.split_once('/') {
            Some(("user", part)) => id(part).map(Self::User),
            Some(("agent", part)) => id(part).map(Self::Agent),
            None if text == "system" => Ok(Self::System),
            _ => Err(format!("{text} names no actor")),
        }
    }
}

/// What stands beside an event for good: opaque ids only, since it is stored in clear and never erased.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub actor: Actor,
    /// The person under whose key the personal part is sealed, and whose task or notification it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Uuid>,
    /// The id of the command that began the whole chain.
    pub correlation: Uuid,
    /// The event that led to this one, when a process manager or an agent acted on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<Uuid>,
    /// An HMAC of the request, by which a repeated command id is told from a reused one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    pub position: Position,
    pub stream: StreamId,
    pub sequence: Sequence,
    pub event_id: Uuid,
    pub command_id: Uuid,
    pub recorded_at: DateTime<Utc>,
    pub metadata: Metadata,
    pub event: Event,
}

/// Everything up to `position` is done. The event's id tells this history from another one in which a log that was set back
/// has grown past the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    pub position: Position,
    pub event_id: Uuid,
}

impl Checkpoint {
    /// Before the first event. Fits every log.
    pub const START: Self = Self { position: 0, event_id: Uuid::nil() };

    /// Behind this event.
    pub fn behind(event: &Envelope) -> Self {
        Self { position: event.position, event_id: event.event_id }
    }
}

/// A person's words or data. `Erased` once the person is erased: the key is gone, and with it every copy.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Personal<T> {
    Known(T),
    #[default]
    Erased,
}

impl<T> Personal<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Erased => None,
        }
    }

    pub fn is_erased(&self) -> bool {
        matches!(self, Self::Erased)
    }
}

/// Never shows the value: debug output ends up in logs.
impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_erased() { "Erased" } else { "Known(…)" })
    }
}

/// Debug output that names the type and shows nothing of it, for what a person wrote: debug output ends up in logs.
#[macro_export]
macro_rules! opaque_debug {
    ($($type:ident),+) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($type), "(…)"))
            }
        })+
    };
}

/// Why a stored event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer Marvin. Upgrade; never skip.
    #[error("unknown event {kind}.{event_type}.v{version}: a newer Marvin wrote it, this one knows {known}",
        kind = .kind.as_str(), known = versions(*known))]
    Unknown {
        kind: AggregateKind,
        event_type: String,
        version: u16,
        /// The newest version of this type that this program knows; none when it does not know the type.
        known: Option<u16>,
    },
    #[error("the stored {part} of {kind}.{event_type}.v{version} do not fit", kind = .kind.as_str())]
    Malformed {
        kind: AggregateKind,
        event_type: String,
        version: u16,
        part: &'static str,
        #[source]
        source: Misfit,
    },
}

fn versions(known: Option<u16>) -> String {
    match known {
        None => "no such type".into(),
        Some(1) => "v1 only".into(),
        Some(newest) => format!("v1 to v{newest}"),
    }
}

/// How one aggregate's events are stored. Implemented by [`events!`](crate::events).
pub trait Recorded: Sized {
    fn event_type(&self) -> &'static str;
    fn version(&self) -> u16;
    fn facts(&self) -> Vec<u8>;
    fn personal(&self) -> Option<Vec<u8>>;
    fn is_erased(&self) -> bool;
    fn erase(&mut self);
    /// Reads an event of any version up to the current one, which it answers.
    ///
    /// # Errors
    /// `Unknown` or `Malformed`.
    fn decode(event_type: &str, version: u16, facts: &[u8], personal: Option<&[u8]>) -> Result<Self, DecodeError>;
}

/// The data of one event type; the macro writes the methods for types with a `personal` field.
pub trait EventData: Serialize + DeserializeOwned {
    fn personal_json(&self) -> Option<Vec<u8>> {
        None
    }
    fn is_erased(&self) -> bool {
        false
    }
    fn erase(&mut self) {}
    /// # Errors
    /// When the bytes are not the JSON of this type's personal part.
    fn fill_personal(&mut self, _personal: &[u8]) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

/// Writes JSON of a type whose serialisation cannot fail: plain data with string keys.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with string keys is always JSON")
}

/// Declares an aggregate's events: `Variant(Data) = "type" v 1;`, with `personal` behind it where `Data` has a field
/// `#[serde(skip)] personal: Personal<_>`.
///
/// A type of a higher version needs an upcaster for each version below it. With `, writes 1` behind `v 2`, version 2 is read and
/// version 1 is still written: for the release before the one that writes it.
#[macro_export]
macro_rules! events {
    (@data $data:ty) => { impl $crate::event::EventData for $data {} };
    (@data $data:ty, personal) => {
        impl $crate::event::EventData for $data {
            fn personal_json(&self) -> Option<Vec<u8>> { self.personal.known().map($crate::event::to_json) }
            fn is_erased(&self) -> bool { self.personal.is_erased() }
            fn erase(&mut self) { self.personal = $crate::Personal::Erased; }
            fn fill_personal(&mut self, personal: &[u8]) -> Result<(), serde_json::Error> {
                self.personal = $crate::Personal::Known(serde_json::from_slice(personal)?);
                Ok(())
            }
        }
    };
    (@written $version:literal) => { $version };
    (@written $version:literal $written:literal) => { $written };
    ($(#[$doc:meta])* $name:ident of $kind:ident {
        $($variant:ident($data:ty) = $type:literal v $version:literal $(, writes $written:literal)? $($personal:ident)?;)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($variant($data)),+ }

        $($crate::events!(@data $data $(, $personal)?);)+

        impl cqrs_es::DomainEvent for $name {
            fn event_type(&self) -> String { $crate::event::Recorded::event_type(self).into() }
            fn event_version(&self) -> String { $crate::event::Recorded::version(self).to_string() }
        }

        impl $crate::event::Recorded for $name {
            fn event_type(&self) -> &'static str { match self { $(Self::$variant(_) => $type),+ } }
            fn version(&self) -> u16 {
                match self { $(Self::$variant(_) => $crate::events!(@written $version $($written)?)),+ }
            }
            fn facts(&self) -> Vec<u8> { match self { $(Self::$variant(data) => $crate::event::to_json(data)),+ } }
            fn personal(&self) -> Option<Vec<u8>> {
                match self { $(Self::$variant(data) => $crate::event::EventData::personal_json(data)),+ }
            }
            fn is_erased(&self) -> bool { match self { $(Self::$variant(data) => $crate::event::EventData::is_erased(data)),+ } }
            fn erase(&mut self) { match self { $(Self::$variant(data) => $crate::event::EventData::erase(data)),+ } }

            fn decode(event_type: &str, version: u16, facts: &[u8], personal: Option<&[u8]>) -> Result<Self, $crate::DecodeError> {
                let kind = $crate::AggregateKind::$kind;
                let known = match event_type { $($type => Some($version),)+ _ => None };
                let unknown = || $crate::DecodeError::Unknown { kind, event_type: event_type.into(), version, known };
                let current = known.filter(|known| (1..=*known).contains(&version)).ok_or_else(unknown)?;
                if version < current {
                    let older = $crate::upcast::Older { kind, event_type, version, known: current };
                    let (facts, personal) = older.lift($crate::upcast::UPCASTERS, facts, personal)?;
                    return Self::decode(event_type, current, &facts, personal.as_deref());
                }
                let malformed = |part| move |error: serde_json::Error| $crate::DecodeError::Malformed {
                    kind, event_type: event_type.into(), version, part, source: error.into(),
                };
                match event_type {
                    $($type => {
                        #[allow(unused_mut)]
                        let mut data: $data = serde_json::from_slice(facts).map_err(malformed("facts"))?;
                        if let Some(personal) = personal {
                            $crate::event::EventData::fill_personal(&mut data, personal).map_err(malformed("personal"))?;
                        }
                        Ok(Self::$variant(data))
                    })+
                    _ => Err(unknown()),
                }
            }
        }

        $(impl From<$data> for $name {
            fn from(data: $data) -> Self { Self::$variant(data) }
        })+
    };
}
