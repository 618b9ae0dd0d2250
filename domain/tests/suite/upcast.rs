//! Older versions of events: what was ever stored still reads, lifted step by step to the version of today.
use marvin_domain::{
    AggregateKind, DecodeError, Event, Personal,
    event::{Recorded, to_json},
    events,
    upcast::{Older, UPCASTERS, Upcaster},
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

use crate::samples;

const TASK: AggregateKind = AggregateKind::Task;

/// Kind, type, version, facts, personal part.
type Stored = (AggregateKind, String, u16, Vec<u8>, Option<Vec<u8>>);

/// Every form that was ever stored: the snapshots of all versions.
fn ever_stored() -> Vec<Stored> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/stored");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let stored = paths.filter(|path| path.extension().is_some_and(|extension| extension == "snap")).map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let [kind, event_type, version] = *name.split('.').collect::<Vec<_>>() else { panic!("{name}") };
        let text = fs::read_to_string(&path).unwrap();
        let part = |part: &str| text.lines().find_map(|line| line.strip_prefix(part)).unwrap().trim().to_owned();
        let personal = Some(part("personal")).filter(|personal| personal != "none").map(String::into_bytes);
        let version = version.strip_prefix('v').unwrap().parse().unwrap();
        (AggregateKind::parse(kind).unwrap(), event_type.to_owned(), version, part("facts").into_bytes(), personal)
    });
    stored.collect()
}

#[test]
fn whatever_was_ever_stored_reads_as_the_version_of_today() {
    let (stored, current) = (ever_stored(), samples::all());
    assert!(stored.len() > current.len(), "the first form of a raised event is kept");
    for (kind, event_type, version, facts, personal) in stored {
        let read = Event::decode(kind, &event_type, version, &facts, personal.as_deref()).unwrap();
        let today = current.iter().find(|event| (event.kind(), event.event_type()) == (kind, &event_type)).unwrap();
        assert_eq!((read.event_type(), read.version()), (event_type.as_str(), today.version()));
        assert_eq!(read.personal(), personal);
        assert!(!read.is_erased());
        // What is read and shown is of today's version too.
        let shown = Event::decode(kind, &event_type, read.version(), &read.facts(), personal.as_deref());
        assert_eq!(shown.unwrap(), read);
    }
}

#[test]
fn every_version_below_the_current_one_has_one_upcaster_and_one_stored_form() {
    let forms: BTreeSet<_> = ever_stored().into_iter().map(|(kind, name, version, ..)| (kind, name, version)).collect();
    let below = |event: &Event| {
        let (kind, name) = (event.kind(), event.event_type().to_owned());
        (1..event.version()).map(move |version| (kind, name.clone(), version))
    };
    let expected: Vec<_> = samples::all().iter().flat_map(below).collect();
    let mut registered: Vec<_> =
        UPCASTERS.iter().map(|upcaster| (upcaster.kind, upcaster.event_type.to_owned(), upcaster.from)).collect();
    registered.sort();
    assert_eq!(registered, BTreeSet::from_iter(expected.clone()).into_iter().collect::<Vec<_>>());
    assert!(expected.iter().all(|older| forms.contains(older)), "{expected:?}");
}

#[test]
fn a_retry_of_version_1_says_that_it_does_not_name_its_attempts() {
    let retried = Event::decode(TASK, "retried", 1, b"{}", None).unwrap();
    assert_eq!((retried.version(), retried.facts()), (2, br#"{"attempts":null}"#.to_vec()));
    let malformed = Event::decode(TASK, "retried", 1, br#"{"attempts":3}"#, None).unwrap_err();
    assert!(matches!(malformed, DecodeError::Malformed { version: 1, .. }), "{malformed:?}");
}

/// Each notes its version, so that the order of the steps can be seen, and touches the personal part where there is one.
const CHAIN: [Upcaster; 3] = [step(3), step(1), step(2)];

const fn step(from: u16) -> Upcaster {
    let upcast = match from {
        1 => |facts: &mut marvin_domain::upcast::Facts, personal: Option<&mut Value>| note(facts, personal, 1),
        2 => |facts: &mut marvin_domain::upcast::Facts, personal: Option<&mut Value>| note(facts, personal, 2),
        _ => |facts: &mut marvin_domain::upcast::Facts, personal: Option<&mut Value>| note(facts, personal, 3),
    };
    Upcaster { kind: TASK, event_type: "noted", from, upcast }
}

fn note(
    facts: &mut marvin_domain::upcast::Facts,
    personal: Option<&mut Value>,
    version: u16,
) -> Result<(), &'static str> {
    let steps = facts.entry("steps").or_insert(json!([])).as_array_mut().ok_or("the steps are no list")?;
    steps.push(version.into());
    if let Some(personal) = personal {
        *personal = json!([version, personal.take()]);
    }
    Ok(())
}

fn lift(
    version: u16,
    known: u16,
    facts: &[u8],
    personal: Option<&[u8]>,
) -> Result<(Value, Option<Value>), DecodeError> {
    let older = Older { kind: TASK, event_type: "noted", version, known };
    let (facts, personal) = older.lift(&CHAIN, facts, personal)?;
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
    Ok((read(&facts), personal.as_deref().map(read)))
}

#[test]
fn upcasters_run_oldest_first_from_the_stored_version_on() {
    let lifted = |version| lift(version, 4, br#"{"kept":1}"#, Some(br#""words""#)).unwrap();
    assert_eq!(lifted(1), (json!({"kept": 1, "steps": [1, 2, 3]}), Some(json!([3, [2, [1, "words"]]]))));
    assert_eq!(lifted(3), (json!({"kept": 1, "steps": [3]}), Some(json!([3, "words"]))));
    assert_eq!(lift(2, 4, b"{}", None).unwrap(), (json!({"steps": [2, 3]}), None), "what is erased stays so");
}

#[test]
fn a_missing_upcaster_skips_nothing() {
    let missing = lift(3, 6, b"{}", None).unwrap_err();
    assert!(matches!(missing, DecodeError::Unknown { version: 4, known: Some(6), .. }), "{missing:?}");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spoken {
    #[serde(skip)]
    pub personal: Personal<String>,
}

events! {
    /// A release that reads version 2 and writes version 1 still.
    Ahead of Task {
        Moved(Moved) = "moved" v 2, writes 1;
        Spoken(Spoken) = "spoken" v 3, writes 2 personal;
    }
}

#[test]
fn one_release_reads_the_next_version_and_writes_the_present_one() {
    let moved = Ahead::decode("moved", 2, br#"{"why":"storm"}"#, None).unwrap();
    assert_eq!(moved, Moved { why: Some("storm".into()) }.into());
    let written = Ahead::from(Moved { why: None });
    assert_eq!((written.version(), written.facts()), (1, b"{}".to_vec()));
    let spoken = Ahead::decode("spoken", 3, b"{}", Some(br#""words""#)).unwrap();
    assert_eq!((spoken.version(), spoken.personal()), (2, Some(to_json(&"words"))));
    assert!(matches!(Ahead::decode("moved", 3, b"{}", None), Err(DecodeError::Unknown { known: Some(2), .. })));
}

/// Any JSON, some levels deep, with fields that upcasters look for among its names.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("attempts".to_owned()), Just("steps".to_owned()), ".{0,6}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Every registered upcaster and the chain: an answer or `Malformed`, never a panic and never another event.
    #[test]
    fn whatever_stands_where_an_old_event_should_is_read_or_malformed(facts in any_json(), personal in prop::option::of(any_json())) {
        let (facts, personal) = (to_json(&facts), personal.as_ref().map(to_json));
        for upcaster in UPCASTERS {
            let read = Event::decode(upcaster.kind, upcaster.event_type, upcaster.from, &facts, personal.as_deref());
            match read {
                Ok(event) => prop_assert_eq!((event.kind(), event.event_type()), (upcaster.kind, upcaster.event_type)),
                Err(DecodeError::Malformed { version, .. }) => prop_assert!(version >= upcaster.from),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        let lifted = lift(1, 4, &facts, personal.as_deref());
        prop_assert!(matches!(lifted, Ok(_) | Err(DecodeError::Malformed { .. })), "{lifted:?}");
    }

    #[test]
    fn bytes_that_are_no_json_are_malformed(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for upcaster in UPCASTERS {
            let read = Event::decode(upcaster.kind, upcaster.event_type, upcaster.from, &bytes, Some(&bytes));
            prop_assert!(matches!(read, Ok(_) | Err(DecodeError::Malformed { .. })), "{read:?}");
        }
    }
}
