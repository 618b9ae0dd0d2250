//! Reading stored events: what was written comes back, and what cannot be read says why.
use marvin_domain::{AggregateKind, DecodeError, Event};
use proptest::prelude::*;
use serde_json::json;

use crate::samples;

fn decode(event: &Event, facts: &[u8], personal: Option<&[u8]>) -> Result<Event, DecodeError> {
    Event::decode(event.kind(), event.event_type(), event.version(), facts, personal)
}

#[test]
fn every_event_reads_back_as_it_was_written() {
    for event in samples::all() {
        let read = decode(&event, &event.facts(), event.personal().as_deref()).unwrap();
        assert_eq!(read, event);
        assert_eq!((read.facts(), read.personal()), (event.facts(), event.personal()));
    }
}

#[test]
fn without_its_personal_part_an_event_reads_as_erased() {
    for event in samples::all() {
        let mut erased = event.clone();
        erased.erase();
        let read = decode(&event, &event.facts(), None).unwrap();
        assert_eq!((&read, read.personal()), (&erased, None));
        assert_eq!(read.is_erased(), event.personal().is_some(), "{event:?}");
        assert!(!event.is_erased());
    }
}

#[test]
fn an_unknown_type_or_version_is_named_and_never_skipped() {
    for event in samples::all() {
        for (event_type, version) in [("forgotten", 1), (event.event_type(), 0), (event.event_type(), 9)] {
            let unknown = Event::decode(event.kind(), event_type, version, b"{}", None);
            let newest = (event_type == event.event_type()).then(|| event.version());
            assert!(
                matches!(&unknown, Err(DecodeError::Unknown { kind, event_type: named, version: numbered, known })
                    if (*kind, named.as_str(), *numbered, *known) == (event.kind(), event_type, version, newest)),
                "{unknown:?}"
            );
        }
    }
    for (event_type, knows) in [("completed", "v1 only"), ("retried", "v1 to v2"), ("forgotten", "no such type")] {
        let unknown = Event::decode(AggregateKind::Task, event_type, 9, b"{}", None).unwrap_err();
        let sentence = format!("unknown event task.{event_type}.v9: a newer Marvin wrote it, this one knows {knows}");
        assert_eq!(unknown.to_string(), sentence);
    }
}

#[test]
fn facts_that_do_not_fit_their_type_are_malformed() {
    for event in samples::all() {
        for facts in ["", "{", "7", "\"text\"", "{\"attempt\":\"one\",\"name\":7,\"roles\":{},\"recipient\":1}x"] {
            let malformed = decode(&event, facts.as_bytes(), None);
            assert!(matches!(malformed, Err(DecodeError::Malformed { part: "facts", .. })), "{facts}: {malformed:?}");
        }
    }
}

#[test]
fn facts_that_lack_a_field_are_malformed() {
    let malformed = Event::decode(AggregateKind::Task, "started", 1, br#"{"attempt":1}"#, None).unwrap_err();
    assert!(matches!(malformed, DecodeError::Malformed { part: "facts", .. }));
    assert_eq!(malformed.to_string(), "the stored facts of task.started.v1 do not fit");
}

#[test]
fn a_personal_part_that_does_not_fit_its_type_is_malformed() {
    for event in samples::all().iter().filter(|event| event.personal().is_some()) {
        for personal in ["", "{", "7", "{}"] {
            let malformed = decode(event, &event.facts(), Some(personal.as_bytes()));
            assert!(matches!(malformed, Err(DecodeError::Malformed { part: "personal", .. })), "{malformed:?}");
        }
    }
}

#[test]
fn a_name_that_no_longer_passes_is_malformed() {
    let facts = serde_json::to_vec(&json!({ "name": "a\nb" })).unwrap();
    let malformed = Event::decode(AggregateKind::Agent, "changed", 1, &facts, None);
    assert!(matches!(malformed, Err(DecodeError::Malformed { .. })), "{malformed:?}");
}

proptest! {
    /// A forecast that differs in its last digit between a live view and a rebuilt one is a view that lies.
    #[test]
    fn a_number_reads_back_to_its_last_digit(number in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
        let facts = serde_json::to_vec(&json!({ "config": { "number": number } })).unwrap();
        let read = Event::decode(AggregateKind::Agent, "changed", 1, &facts, None).unwrap();
        prop_assert_eq!(read.facts(), facts);
    }
}
