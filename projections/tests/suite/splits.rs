//! However the log is cut into batches, and whatever is delivered again, the documents come out the same.
use marvin_domain::{
    AggregateKind, Envelope, Event,
    agent::{AgentChanged, AgentEvent},
    task::{Output, TaskEvent},
};
use marvin_projections::{Fold, all};
use proptest::{prelude::*, sample::Index};
use serde_json::json;
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

use crate::{
    journal::{Folding, Store, log, shown},
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
        // Several steps a task, each at times recorded again.
        Event::Task(TaskEvent::StepCompleted(completed)) => completed.step = 1 + (number.to_bits() % 3) as u32,
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

/// How a log is folded: how many events before each batch come again, in how many lanes, and how much those keep.
#[derive(Debug, Clone, Copy)]
struct Way {
    redelivered: usize,
    lanes: usize,
    bytes_max: usize,
}

/// In one lane that keeps nothing.
const PLAIN: Way = Way { redelivered: 0, lanes: 1, bytes_max: 0 };

fn way() -> impl Strategy<Value = Way> {
    // Of nothing, of a few documents of some hundred bytes, and of all of them.
    let bytes_max = proptest::sample::select(vec![0, 2_000, 1_000_000]);
    (0..20_usize, 1..5_usize, bytes_max).prop_map(|(redelivered, lanes, bytes_max)| Way {
        redelivered,
        lanes,
        bytes_max,
    })
}

/// The documents of every view, each with its view and id, from batches that end where `cuts` say.
fn views(journal: &[Arc<Envelope>], cuts: &[usize], way: Way) -> Vec<String> {
    let mut ends: Vec<usize> = cuts.iter().copied().chain([journal.len()]).collect();
    ends.sort_unstable();
    let view = |fold: Arc<dyn Fold>| {
        let (mut store, mut begin) = (Store::default(), 0_usize);
        let mut folding = Folding::new(&fold, way.lanes, way.bytes_max);
        for &end in &ends {
            folding.take(&mut store, &journal[begin.saturating_sub(way.redelivered)..end]).unwrap();
            begin = end;
        }
        let name = fold.name();
        store.0.into_iter().map(move |(id, document)| format!("{name}/{id} {}", shown(&document)))
    };
    all().into_iter().flat_map(view).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_log_folds_to_the_same_documents_however_it_is_cut_dealt_out_kept_and_delivered_again(
        journal in journal(), cuts in proptest::collection::vec(any::<Index>(), 0..6), way in way(),
    ) {
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(journal.len())).collect();
        prop_assert_eq!(views(&journal, &cuts, way), views(&journal, &[], PLAIN));
    }

    #[test]
    fn a_log_folds_to_the_same_documents_event_by_event(journal in journal(), way in way()) {
        let cuts: Vec<usize> = (0..journal.len()).collect();
        prop_assert_eq!(views(&journal, &cuts, way), views(&journal, &[], PLAIN));
    }
}
