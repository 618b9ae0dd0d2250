//! A person's words are in the personal part of a document and nowhere else.
use marvin_domain::{AggregateKind, Event};
use marvin_projections::{
    Projection, RawDocument, all,
    inbox::Inbox,
    schedules::Schedules,
    tasks::{TaskText, Tasks},
    users::Users,
};
use serde_json::json;

use crate::{
    journal::{Store, document_after, log},
    samples::{self, ADA, MARKER},
};

fn holds_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}

/// Every document as it is after each of these events.
fn documents(events: &[Event]) -> Vec<RawDocument> {
    let mut documents = Vec::new();
    for fold in all() {
        let mut store = Store::default();
        for event in log(events.iter().map(|event| (ADA, event.clone()))) {
            store.take(&fold, &[event]);
            documents.extend(store.0.values().cloned());
        }
    }
    documents
}

#[test]
fn facts_and_keys_hold_nothing_personal() {
    for document in documents(&samples::all()) {
        assert!(!holds_marker(&document.facts));
        assert!(!format!("{:?}", document.keys).contains(MARKER));
    }
}

#[test]
fn what_a_person_wrote_is_in_the_personal_part() {
    let personal = documents(&samples::all()).into_iter().filter_map(|document| document.personal);
    assert!(personal.into_iter().any(|personal| holds_marker(&personal)));
}

#[test]
fn a_view_rebuilt_after_the_erasure_holds_nothing_personal() {
    let mut events = samples::all();
    events.iter_mut().for_each(Event::erase);
    assert!(documents(&events).iter().all(|document| document.personal.is_none()));
}

#[test]
fn debug_output_of_a_stored_document_shows_none_of_its_bytes() {
    // Bytes are shown as numbers, so they are looked for in that form: a person's words, and how any JSON object begins.
    let numbers = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    for document in documents(&samples::all()) {
        let shown = format!("{document:?}");
        for hidden in [MARKER.to_owned(), numbers(MARKER.as_bytes()), numbers(b"{\"")] {
            assert!(!shown.contains(&hidden), "{shown}");
        }
    }
}

fn assert_silent<P: Projection>(kind: AggregateKind) {
    let document = document_after::<P>(ADA, samples::of(kind).into_iter().take(1));
    assert!(!format!("{document:?}{document:#?}").contains(MARKER), "{document:?}");
}

#[test]
fn debug_output_of_a_document_shows_nothing_personal() {
    assert_silent::<Tasks>(AggregateKind::Task);
    assert_silent::<Users>(AggregateKind::User);
    assert_silent::<Inbox>(AggregateKind::Notification);
    assert_silent::<Schedules>(AggregateKind::Schedule);
    let text = TaskText { input: json!(MARKER), output: Some(json!(MARKER)), error_message: Some(MARKER.into()) };
    assert!(!format!("{text:?}").contains(MARKER));
}
