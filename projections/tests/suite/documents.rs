//! Documents as a view store keeps them: their stored form, and the keys by which they are found.
use marvin_domain::AggregateKind;
use marvin_projections::{
    Document, Field, FieldKind, Key, Projection, RawDocument, agents::Agents, all, inbox::Inbox, schedules::Schedules,
    steps::Steps, tasks::Tasks, users::Users,
};
use serde_json::Value;
use std::collections::HashSet;
use uuid::Uuid;

use crate::{
    journal::{Store, document_after, log, shown},
    samples::{self, ADA, AGENT, at},
};

/// Every document of every view, as it is after each event of the examples.
fn documents() -> Vec<(&'static str, &'static [Field], RawDocument)> {
    let mut documents = Vec::new();
    for fold in all() {
        let mut store = Store::default();
        for event in log(samples::all().into_iter().map(|event| (ADA, event))) {
            for id in fold.ids(&event).unwrap() {
                store.take(&fold, std::slice::from_ref(&event));
                documents.push((fold.name(), fold.fields(), store.0[&id].clone()));
            }
        }
    }
    documents
}

#[test]
fn no_two_projections_share_a_name() {
    let names: HashSet<&str> = all().iter().map(|fold| fold.name()).collect();
    assert_eq!(names.len(), all().len());
}

#[test]
fn names_and_fields_can_stand_in_a_table() {
    let is_plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    for fold in all() {
        assert!(is_plain(fold.name()) && fold.fields().iter().all(|field| is_plain(&field.name)), "{}", fold.name());
        assert!(fold.version() > 0);
        assert_eq!(fold.fields().iter().map(|field| &field.name).collect::<HashSet<_>>().len(), fold.fields().len());
        let is_field = |name: &&str| fold.fields().iter().any(|field| field.name == *name);
        assert!(fold.indexes().iter().all(|index| !index.is_empty() && index.iter().all(is_field)));
    }
}

#[test]
fn every_document_has_a_key_for_each_field_and_of_its_kind() {
    for (name, fields, document) in documents() {
        assert_eq!(document.keys.len(), fields.len(), "{name}");
        for (field, key) in fields.iter().zip(&document.keys) {
            assert!(field.kind.takes(key), "{name}.{} is no {key:?}", field.name);
        }
    }
}

#[test]
fn a_field_takes_keys_of_its_kind_and_nothing() {
    use FieldKind::{Flag, Id, Integer, Text, Time};
    let keys = [Key::from(AGENT), Key::from("queued"), Key::from(true), Key::from(7_i64)];
    let expected: [(FieldKind, [bool; 4]); 5] = [
        (Id, [true, false, false, false]),
        (Text, [false, true, false, false]),
        (Integer, [false, false, true, true]),
        (Time, [false, false, true, true]),
        (Flag, [false, false, true, false]),
    ];
    for (kind, takes) in expected {
        assert_eq!(keys.each_ref().map(|key| kind.takes(key)), takes, "{kind:?}");
        assert!(kind.takes(&Key::Null));
    }
}

#[test]
fn fields_read_back_from_their_json() {
    for fold in all() {
        let json = serde_json::to_string(fold.fields()).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Field>>(&json).unwrap(), fold.fields());
    }
    assert_eq!(serde_json::to_string(&Field::id("agent_id")).unwrap(), r#"{"name":"agent_id","kind":"id"}"#);
    let rare = Field::id("agent_id").rare();
    assert_eq!(serde_json::to_string(&rare).unwrap(), r#"{"name":"agent_id","kind":"id","is_rare":true}"#);
}

fn key_of(kind: FieldKind, fact: &Value) -> Key {
    match fact {
        Value::Null => Key::Null,
        Value::Bool(flag) => Key::from(*flag),
        Value::Number(number) => Key::Integer(number.as_i64().unwrap()),
        Value::String(text) => match kind {
            FieldKind::Id => Key::from(text.parse::<Uuid>().unwrap()),
            FieldKind::Time => Key::from(text.parse::<chrono::DateTime<chrono::Utc>>().unwrap()),
            _ => Key::from(text.as_str()),
        },
        other => panic!("{other} is no key"),
    }
}

#[test]
fn a_key_is_the_fact_of_its_name() {
    for (name, fields, document) in documents() {
        let facts: Value = serde_json::from_slice(&document.facts).unwrap();
        for (field, key) in fields.iter().zip(&document.keys) {
            let expected = match &*field.name {
                "unread" => Key::from(facts["read_at"].is_null()),
                "waits_until" if facts["ready_at"].is_null() => Key::Null,
                "waits_until" => key_of(field.kind, &facts["deadline"]),
                name => key_of(field.kind, facts.get(name).unwrap()),
            };
            assert_eq!(*key, expected, "{name}.{}", field.name);
        }
    }
}

/// A changed snapshot means: raise the projection's version, so that its view is built anew beside the old one.
#[test]
fn every_view_keeps_the_stored_form_of_its_version() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("stored");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for fold in all() {
            let forms = documents().into_iter().filter(|(name, ..)| *name == fold.name());
            let forms = forms.map(|(_, _, document)| shown(&document));
            let name = format!("{}.v{}", fold.name(), fold.version());
            insta::assert_snapshot!(name, forms.collect::<Vec<_>>().join("\n"));
        }
    });
}

/// `first` is the example, of those of `kind`, that begins a document.
fn assert_reads_back<P: Projection>(kind: AggregateKind, first: usize) {
    let document = document_after::<P>(ADA, samples::of(kind).into_iter().skip(first).take(1));
    let raw = |personal| RawDocument {
        id: ADA,
        position: 101,
        facts: serde_json::to_vec(&document).unwrap(),
        personal,
        subject: document.subject(),
        keys: P::keys(&document),
    };
    assert_eq!(raw(document.personal()).open::<P::Document>().unwrap(), document);
    let erased: P::Document = raw(None).open().unwrap();
    assert_eq!(erased.personal(), None);
    assert_eq!(erased == document, document.personal().is_none());
}

#[test]
fn a_document_reads_back_from_its_parts_and_without_the_personal_one_as_erased() {
    assert_reads_back::<Agents>(AggregateKind::Agent, 0);
    assert_reads_back::<Tasks>(AggregateKind::Task, 0);
    assert_reads_back::<Steps>(AggregateKind::Task, 2);
    assert_reads_back::<Users>(AggregateKind::User, 0);
    assert_reads_back::<Inbox>(AggregateKind::Notification, 0);
    assert_reads_back::<Schedules>(AggregateKind::Schedule, 0);
}

#[test]
fn a_personal_part_has_a_subject() {
    for (name, _, document) in documents() {
        assert!(document.personal.is_none() || document.subject == Some(ADA), "{name}");
    }
}

#[test]
fn a_key_is_an_id_a_text_an_integer_or_nothing() {
    assert_eq!(Key::from(AGENT), Key::Id(AGENT));
    assert_eq!(Key::from("queued"), Key::Text("queued".into()));
    assert_eq!([Key::from(7_i64), Key::from(true), Key::from(false)], [7, 1, 0].map(Key::Integer));
    assert_eq!(Key::from(at(1)), Key::Integer(1_790_000_001_250));
    assert_eq!(Key::from(None::<i64>), Key::Null);
    assert_eq!(Key::from(Some(7_i64)), Key::Integer(7));
}

#[test]
fn the_examples_of_each_aggregate_set_out_with_its_beginning() {
    let begins: Vec<&str> = AggregateKind::ALL.iter().map(|&kind| samples::of(kind)[0].event_type()).collect();
    assert_eq!(
        begins,
        ["set_up", "registered", "created", "submitted", "raised", "skipped", "keys_disclosed", "created", "set"]
    );
}
