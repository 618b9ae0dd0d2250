//! The aggregate that postgres-es keeps: a task's journal of steps, with the same 300 bytes an event as Marvin's.
use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::support::sample::step;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub facts: Value,
    pub personal: Value,
}

/// What Marvin seals, as JSON in clear.
pub fn recorded(number: u64) -> Recorded {
    let event = step(number);
    let json = |bytes: Vec<u8>| serde_json::from_slice(&bytes).expect("events are JSON");
    Recorded { facts: json(event.facts()), personal: json(event.personal().expect("a step has a result")) }
}

impl DomainEvent for Recorded {
    fn event_type(&self) -> String {
        "step_completed".into()
    }

    fn event_version(&self) -> String {
        "1".into()
    }
}

/// Counts its steps: as little as a decision can need.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Journal {
    pub steps: u64,
}

pub struct RecordStep;

#[derive(Debug)]
pub struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a step is never refused")
    }
}

impl std::error::Error for Never {}

impl Aggregate for Journal {
    const TYPE: &'static str = "task";
    type Command = RecordStep;
    type Event = Recorded;
    type Error = Never;
    type Services = ();

    async fn handle(&mut self, _: RecordStep, (): &(), sink: &EventSink<Self>) -> Result<(), Never> {
        sink.write(recorded(self.steps + 1), self).await;
        Ok(())
    }

    fn apply(&mut self, _: Recorded) {
        self.steps += 1;
    }
}
