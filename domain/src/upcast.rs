//! Upcasters: lift stored events of older versions to the one that this program works with.
//!
//! One upcaster is one function from a type's version to the next; decoding runs them oldest first. The log keeps what was
//! written for ever, so an upcaster is never changed or removed. docs/evolution.md shows how a version is raised.
use serde_json::{Map, Value};

use crate::{AggregateKind, DecodeError, Misfit};

/// An event's stored parts as JSON.
pub type Facts = Map<String, Value>;

/// Lifts one event type from version `from` to the next. A missing personal part is an erased one and stays missing.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    pub kind: AggregateKind,
    pub event_type: &'static str,
    pub from: u16,
    /// Answers why the stored JSON is none of version `from`; it never panics, whatever it is given.
    pub upcast: fn(&mut Facts, Option<&mut Value>) -> Result<(), &'static str>,
}

/// The one registration of upcasters.
pub const UPCASTERS: &[Upcaster] =
    &[Upcaster { kind: AggregateKind::Task, event_type: "retried", from: 1, upcast: retried_says_how_often }];

/// Version 1 said only that there was a retry; how many attempts that gave, a reader had to know.
fn retried_says_how_often(facts: &mut Facts, _personal: Option<&mut Value>) -> Result<(), &'static str> {
    if facts.contains_key("attempts") {
        return Err("a retry of version 1 names no attempts");
    }
    facts.insert("attempts".into(), Value::Null);
    Ok(())
}

/// A stored event that is not of the current version.
#[derive(Debug, Clone, Copy)]
pub struct Older<'a> {
    pub kind: AggregateKind,
    pub event_type: &'a str,
    pub version: u16,
    /// The version that this program works with.
    pub known: u16,
}

impl Older<'_> {
    fn malformed(self, part: &'static str, source: impl Into<Misfit>) -> DecodeError {
        let Self { kind, event_type, version, .. } = self;
        DecodeError::Malformed { kind, event_type: event_type.into(), version, part, source: source.into() }
    }

    /// The parts as the current version has them, lifted by those of `upcasters` that fit, oldest first.
    ///
    /// # Errors
    /// `Malformed` when a part does not fit its version, `Unknown` when an upcaster is missing.
    pub fn lift(
        self,
        upcasters: &[Upcaster],
        facts: &[u8],
        personal: Option<&[u8]>,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), DecodeError> {
        let mut facts: Facts = serde_json::from_slice(facts).map_err(|error| self.malformed("facts", error))?;
        let personal = personal.map(serde_json::from_slice::<Value>).transpose();
        let mut personal = personal.map_err(|error| self.malformed("personal", error))?;
        for version in self.version..self.known {
            let fits = |upcaster: &&Upcaster| {
                (upcaster.kind, upcaster.event_type, upcaster.from) == (self.kind, self.event_type, version)
            };
            let Some(upcaster) = upcasters.iter().find(fits) else {
                let (event_type, known) = (self.event_type.to_owned(), Some(self.known));
                return Err(DecodeError::Unknown { kind: self.kind, event_type, version, known });
            };
            (upcaster.upcast)(&mut facts, personal.as_mut())
                .map_err(|reason| self.malformed("parts", Misfit::of(reason)))?;
        }
        Ok((crate::event::to_json(&facts), personal.as_ref().map(crate::event::to_json)))
    }
}
