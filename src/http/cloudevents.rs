//! Events as the outside sees them: CloudEvents 1.0 in JSON, and who may see which of them and what in them.
use marvin_domain::{AggregateKind, Envelope};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use uuid::Uuid;

use super::{caller::Caller, path::PathId, problem::Problem, query::refused};
use crate::{
    cloudevent::{attributes, event_type, short_type},
    error::FieldError,
    security::permissions::Permission,
};

pub const BATCH_JSON: &str = "application/cloudevents-batch+json";
/// Types in one filter: more than there are.
const TYPES_MAX: usize = 100;

/// What one reader may see, as of the rights they had when it was made.
#[derive(Debug, Clone)]
pub struct Sight {
    user_id: Uuid,
    all_events: bool,
    all_personal: bool,
}

impl Sight {
    pub fn of(caller: &Caller) -> Self {
        Self {
            user_id: caller.user_id,
            all_events: caller.may(Permission::EventsReadAll),
            all_personal: caller.may(Permission::PersonalReadAll),
        }
    }

    /// One's own tasks, notifications and account, and the agents; every event for who may read them all.
    pub fn sees(&self, envelope: &Envelope) -> bool {
        self.all_events
            || envelope.stream.kind == AggregateKind::Agent
            || envelope.metadata.subject == Some(self.user_id)
    }

    /// The event as this reader may see it. `data.personal` is there only where they may read it: null with
    /// `data.erased: true` when the person is erased.
    pub fn render(&self, envelope: &Envelope, source: &str) -> Value {
        let facts: Value = serde_json::from_slice(&envelope.event.facts()).unwrap_or_default();
        let mut data = Map::from_iter([("facts".to_owned(), facts)]);
        if envelope.event.is_erased() {
            data.insert("personal".into(), Value::Null);
            data.insert("erased".into(), Value::Bool(true));
        } else if let Some(personal) = envelope.event.personal()
            && (self.all_personal || envelope.metadata.subject == Some(self.user_id))
        {
            data.insert("personal".into(), serde_json::from_slice(&personal).unwrap_or_default());
        }
        let attributes = attributes(envelope, source).into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        let mut event: Map<String, Value> = attributes.collect();
        event.insert("datacontenttype".into(), "application/json".into());
        event.insert("data".into(), data.into());
        event.into()
    }
}

/// `types` and `subject` of a request: which events it asks for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    types: BTreeSet<String>,
    subject: Option<String>,
}

impl Selection {
    /// Reads the parameters; a type may be given whole or without `marvin.` and version.
    ///
    /// # Errors
    /// 400 for an empty or overlong list, and for a subject that is not `<aggregate>/<id>`.
    pub fn parse(types: Option<&str>, subject: Option<&str>) -> Result<Self, Problem> {
        let refuse = |name: &str, detail: &str| refused(vec![FieldError::new(format!("/{name}"), detail)]);
        let types: BTreeSet<String> =
            types.map(|types| types.split(',').map(str::to_owned).collect()).unwrap_or_default();
        if types.len() > TYPES_MAX || types.iter().any(String::is_empty) {
            return Err(refuse("types", "must be a list of event types, separated by commas"));
        }
        if let Some(subject) = subject {
            let (kind, id) = subject.split_once('/').unwrap_or((subject, ""));
            let known = AggregateKind::parse(kind);
            let nil = known == Some(AggregateKind::Instance) && id == Uuid::nil().to_string();
            if known.is_none() || !(nil || PathId::parse(id).is_some()) {
                return Err(refuse("subject", "must be an aggregate and an id, as in task/0190…"));
            }
        }
        Ok(Self { types, subject: subject.map(str::to_owned) })
    }

    pub fn takes(&self, envelope: &Envelope) -> bool {
        let type_fits = || self.types.contains(&short_type(envelope)) || self.types.contains(&event_type(envelope));
        let subject_fits = || self.subject.as_ref().is_none_or(|subject| *subject == envelope.stream.to_string());
        (self.types.is_empty() || type_fits()) && subject_fits()
    }
}
