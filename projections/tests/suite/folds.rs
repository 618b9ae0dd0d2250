//! What folding a batch promises, for every projection alike.
use marvin_domain::{AggregateKind, Event, task::TaskEvent};
use marvin_projections::{Fold, FoldError, RawDocument, Skips, agents::Agents, all, fold_of, steps::step_id};
use uuid::Uuid;

use crate::{
    journal::{FIRST, Folding, Store, log},
    samples::{self, ADA, BOB},
};

/// The views that show what this kind of aggregate does.
fn shown_by(kind: AggregateKind) -> &'static [&'static str] {
    match kind {
        AggregateKind::Instance | AggregateKind::Projection | AggregateKind::Channel | AggregateKind::Secret => &[],
        AggregateKind::User => &["users"],
        AggregateKind::Agent => &["agents"],
        AggregateKind::Task => &["tasks", "steps"],
        AggregateKind::Notification => &["inbox"],
        AggregateKind::Schedule => &["schedules"],
    }
}

/// The document of this view that the event touches.
fn touched(view: &str, event: &Event, stream: Uuid) -> Option<Uuid> {
    match (view, event) {
        ("steps", Event::Task(TaskEvent::StepCompleted(completed))) => Some(step_id(stream, completed.step)),
        ("steps", _) => None,
        (view, event) => shown_by(event.kind()).contains(&view).then_some(stream),
    }
}

/// The examples that touch documents of this view, in an order that begins one.
fn events_of(fold: &dyn Fold) -> Vec<Event> {
    samples::all().into_iter().filter(|event| touched(fold.name(), event, ADA).is_some()).collect()
}

fn of_stream(id: Uuid, events: Vec<Event>) -> impl Iterator<Item = (Uuid, Event)> {
    events.into_iter().map(move |event| (id, event))
}

#[test]
fn an_event_touches_its_own_document_in_the_views_of_its_aggregate_only() {
    for fold in all() {
        for event in log(of_stream(ADA, samples::all())) {
            let expected: Vec<Uuid> = touched(fold.name(), &event.event, ADA).into_iter().collect();
            assert_eq!(fold.ids(&event).unwrap(), expected, "{} of {:?}", fold.name(), event.event);
        }
    }
}

#[test]
fn every_event_moves_its_document_to_its_own_position_and_sequence() {
    for fold in all() {
        let mut store = Store::default();
        for (sequence, event) in (1_u64..).zip(log(of_stream(ADA, events_of(&*fold)))) {
            store.take(&fold, std::slice::from_ref(&event));
            let document = store.0.values().next().unwrap();
            let facts: serde_json::Value = serde_json::from_slice(&document.facts).unwrap();
            assert_eq!((document.position, store.0.len()), (event.position, 1));
            assert_eq!((&facts["position"], &facts["sequence"]), (&event.position.into(), &sequence.into()));
        }
    }
}

#[test]
fn only_its_first_event_begins_a_document() {
    for fold in all() {
        for event in events_of(&*fold).into_iter().skip(1) {
            let refused = Folding::new(&fold, 1, 0).take(&mut Store::default(), &log([(ADA, event.clone())]));
            assert!(
                matches!(refused, Err(FoldError::NothingToChange { position: FIRST, id: ADA })),
                "{} began with {event:?}",
                fold.name()
            );
        }
    }
}

#[test]
fn what_cannot_be_folded_is_named() {
    let paused = samples::of(AggregateKind::Agent).remove(2);
    let refused =
        Folding::new(&fold_of::<Agents>(), 1, 0).take(&mut Store::default(), &log([(ADA, paused)])).unwrap_err();
    assert_eq!(refused.to_string(), format!("position 101 changes document {ADA}, which no event began"));
}

#[test]
fn folding_a_batch_twice_changes_nothing_whether_documents_were_kept_or_not() {
    for (fold, bytes_max) in all().iter().flat_map(|fold| [(fold, 0), (fold, 1_000_000)]) {
        let batch = log(of_stream(ADA, events_of(&**fold)));
        let (mut store, mut folding) = (Store::default(), Folding::new(fold, 1, bytes_max));
        assert_eq!(folding.take(&mut store, &batch).unwrap(), 1);
        let once = store.clone();
        assert_eq!(folding.take(&mut store, &batch).unwrap(), 0);
        assert_eq!(store, once);
    }
}

#[test]
fn an_event_that_was_delivered_twice_within_a_batch_counts_once() {
    for fold in all() {
        let batch = log(of_stream(ADA, events_of(&*fold)));
        let twice: Vec<_> = batch.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
        let (mut once, mut doubled) = (Store::default(), Store::default());
        once.take(&fold, &batch);
        doubled.take(&fold, &twice);
        assert_eq!(doubled, once);
    }
}

#[test]
fn only_documents_that_changed_are_answered() {
    let fold = fold_of::<Agents>();
    let created = samples::of(AggregateKind::Agent).remove(0);
    let (mut store, retired) = (Store::default(), samples::of(AggregateKind::Agent).remove(4));
    let events = log([(ADA, created.clone()), (BOB, created), (BOB, retired)]);
    store.take(&fold, &events[..2]);
    let touches = &fold.plan(&events, &Skips::default(), 1).lanes[0];
    let changed = fold.lane(0).fold(store.0.into_values().collect(), touches).unwrap();
    assert_eq!(changed.iter().map(|document| document.id).collect::<Vec<_>>(), [BOB]);
}

#[test]
fn a_batch_of_no_concern_changes_nothing() {
    for fold in all() {
        let others = samples::all().into_iter().filter(|event| touched(fold.name(), event, ADA).is_none());
        assert_eq!(Store::default().take(&fold, &log(others.map(|event| (ADA, event)))), 0);
    }
}

#[test]
fn a_stored_document_that_does_not_fit_stops_the_fold() {
    for fold in all() {
        let events = events_of(&*fold);
        // A view whose documents one event begins and none changes gets that one again.
        let again = events.last().cloned();
        let batch = log(of_stream(ADA, events.into_iter().chain(again).collect()));
        let mut store = Store::default();
        store.take(&fold, &batch[..1]);
        let (id, good) = store.0.pop_first().unwrap();
        let mut damaged = vec![RawDocument { facts: b"{}".to_vec(), ..good.clone() }];
        damaged.extend([&b"{"[..], b"", b"null"].map(|facts| RawDocument { facts: facts.to_vec(), ..good.clone() }));
        if good.personal.is_some() {
            damaged.push(RawDocument { personal: Some(b"{}".to_vec()), ..good });
        }
        for document in damaged {
            let mut store = Store([(id, document)].into());
            let refused = Folding::new(&fold, 1, 0).take(&mut store, &batch[1..]).unwrap_err();
            assert!(
                matches!(refused, FoldError::Malformed { position: 102, id: found, .. } if found == id),
                "{}",
                fold.name()
            );
        }
    }
}

#[test]
fn a_view_tells_which_aggregates_it_is_folded_from() {
    for fold in all() {
        let expected: Vec<_> =
            AggregateKind::ALL.iter().copied().filter(|kind| shown_by(*kind).contains(&fold.name())).collect();
        assert_eq!(fold.kinds(), expected);
    }
}
