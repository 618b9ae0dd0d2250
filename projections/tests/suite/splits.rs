//! However the log is cut into batches, and whatever is delivered again, the documents come out the same.
use marvin_domain::{
    AggregateKind, Envelope, Event,
    agent::{AgentChanged, AgentEvent},
    task::{Output, TaskEvent},
};
use marvin_projections::all;
use proptest::{prelude::*, sample::Index};
use serde_json::json;
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

use crate::{
    journal::{Store, log, shown},
    samples,
};

/// Streams of each kind: few, so that most events change a document that stands already.
const STREAMS: u128 = 3;

/// One event of some stream: which example, with which number in it, and whether its person is erased.
fn event() -> impl Strategy<Value = (Uuid, Event)> {
    let kind = proptest::sample::select(AggregateKind::ALL);
    let number = proptest::num::f64::NORMAL;
    (kind, any::<Index>(), 0..STREAMS, number, proptest::bool::weighted(0.2)).prop_map(
        |(kind, which, stream, number, erased)| {
            let mut event = which.get(&samples::of(kind)).clone();
            set_number(&mut event, number);
            if erased {
                event.erase();
            }
            (Uuid::from_u128(stream), event)
        },
    )
}

/// Numbers are where a document that is written and read more often could drift from one that is not.
fn set_number(event: &mut Event, number: f64) {
    match event {
        Event::Agent(AgentEvent::Changed(AgentChanged { config, .. })) => {
            *config = Some(json!({ "number": number }).into());
        }
        Event::Task(TaskEvent::Completed(completed)) => {
            completed.personal = marvin_domain::Personal::Known(Output { output: json!(number) });
        }
        _ => {}
    }
}

/// A log in which each stream begins with the event that begins its document.
fn journal() -> impl Strategy<Value = Vec<Arc<Envelope>>> {
    proptest::collection::vec(event(), 1..60).prop_map(|events| {
        let mut begun = HashSet::new();
        log(events.into_iter().map(|(id, event)| {
            let kind = event.kind();
            (id, if begun.insert((kind, id)) { samples::of(kind).remove(0) } else { event })
        }))
    })
}

/// The documents of every view, each with its view and id, from batches that end where `cuts` say.
fn views(journal: &[Arc<Envelope>], cuts: &[usize], redelivered: usize) -> Vec<String> {
    let mut ends: Vec<usize> = cuts.iter().copied().chain([journal.len()]).collect();
    ends.sort_unstable();
    let view = |fold: Arc<dyn marvin_projections::Fold>| {
        let (mut store, mut begin) = (Store::default(), 0_usize);
        for &end in &ends {
            store.take(&*fold, &journal[begin.saturating_sub(redelivered)..end]);
            begin = end;
        }
        let name = fold.name();
        store.0.into_iter().map(move |(id, document)| format!("{name}/{id} {}", shown(&document)))
    };
    all().into_iter().flat_map(view).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_log_folds_to_the_same_documents_wherever_it_is_cut(
        journal in journal(), cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(journal.len())).collect();
        prop_assert_eq!(views(&journal, &cuts, 0), views(&journal, &[], 0));
    }

    #[test]
    fn a_log_folds_to_the_same_documents_event_by_event(journal in journal()) {
        let cuts: Vec<usize> = (0..journal.len()).collect();
        prop_assert_eq!(views(&journal, &cuts, 0), views(&journal, &[], 0));
    }

    #[test]
    fn what_is_delivered_again_changes_nothing(
        journal in journal(), cuts in proptest::collection::vec(any::<Index>(), 0..6), redelivered in 1..20_usize,
    ) {
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(journal.len())).collect();
        prop_assert_eq!(views(&journal, &cuts, redelivered), views(&journal, &[], 0));
    }
}
