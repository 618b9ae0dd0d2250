//! What the outside calls an event: the type and the attributes of CloudEvents 1.0, alike over HTTP and AMQP.
use marvin_domain::Envelope;

use crate::time::rfc3339;

/// `marvin.task.completed.v1`
pub fn event_type(envelope: &Envelope) -> String {
    format!("marvin.{}.v{}", short_type(envelope), envelope.event.version())
}

/// `task.completed`
pub fn short_type(envelope: &Envelope) -> String {
    format!("{}.{}", envelope.stream.kind.as_str(), envelope.event.event_type())
}

/// Every attribute but `datacontenttype`, with its name. Positions are strings of digits: integers have 32 bits there.
pub fn attributes(envelope: &Envelope, source: &str) -> Vec<(&'static str, String)> {
    let metadata = &envelope.metadata;
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", envelope.event_id.to_string()),
        ("source", source.to_owned()),
        ("type", event_type(envelope)),
        ("subject", envelope.stream.to_string()),
        ("time", rfc3339(envelope.recorded_at)),
        ("position", envelope.position.to_string()),
        ("sequence", envelope.sequence.to_string()),
        ("correlationid", metadata.correlation.to_string()),
        ("actor", metadata.actor.to_string()),
    ];
    attributes.extend(metadata.causation.map(|causation| ("causationid", causation.to_string())));
    attributes
}
