//! An event that cannot be folded stops its projection exactly there: all before it is folded, nothing behind it is.
use marvin_domain::{
    AggregateKind, Envelope, Event,
    agent::{AgentChanged, AgentEvent, AgentPaused, AgentResumed, AgentRetired, AgentStatus},
};
use marvin_projections::{
    Field, FoldError, Key, Projection, Skips,
    agents::{AgentDocument, Agents},
    all, fold_of,
};
use proptest::{prelude::*, sample::Index};
use std::sync::Arc;
use uuid::Uuid;

use crate::{
    journal::{FIRST, Folding, Store, log},
    samples::{self, ADA, AGENT, BOB},
};

/// Agents, but each change finds another bug, halfway through where it can.
struct Fragile;

impl Projection for Fragile {
    const NAME: &'static str = "fragile";
    const VERSION: u32 = 1;
    const KINDS: &'static [AggregateKind] = Agents::KINDS;
    const FIELDS: &'static [Field] = Agents::FIELDS;
    const INDEXES: &'static [&'static [&'static str]] = Agents::INDEXES;
    type Document = AgentDocument;

    fn ids(event: &Envelope) -> Vec<Uuid> {
        if let Event::Agent(AgentEvent::Resumed(_)) = event.event {
            panic!("no ids for this");
        }
        Agents::ids(event)
    }

    fn begin(id: Uuid, event: &Envelope) -> Option<AgentDocument> {
        Agents::begin(id, event)
    }

    fn apply(document: &mut AgentDocument, event: &Envelope) {
        document.description = "half changed".into();
        match &event.event {
            Event::Agent(AgentEvent::Changed(_)) => panic!("changes are too much"),
            Event::Agent(AgentEvent::Paused(_)) => panic!("{} cannot be paused", document.name.as_str()),
            _ => Agents::apply(document, event),
        }
    }

    fn keys(document: &AgentDocument) -> Vec<Key> {
        assert!(document.status != AgentStatus::Retired, "the retired have no keys");
        Agents::keys(document)
    }
}

fn created() -> AgentEvent {
    samples::agent().remove(0)
}

fn changed() -> AgentEvent {
    AgentChanged { name: None, description: None, config: None, limits: None }.into()
}

fn of_agents(events: impl IntoIterator<Item = (Uuid, AgentEvent)>) -> Vec<Arc<Envelope>> {
    log(events.into_iter().map(|(id, event)| (id, Event::Agent(event))))
}

/// What stops the projection after ADA and BOB were created, and what of them is stored then.
fn stopped_by(poison: AgentEvent) -> FoldError {
    let fold = fold_of::<Fragile>();
    let events = of_agents([(ADA, created()), (BOB, created()), (ADA, poison), (BOB, AgentRetired {}.into())]);
    let (mut store, mut expected) = (Store::default(), Store::default());
    expected.take(&fold, &events[..2]);
    let failure = Folding::new(&fold, 2, 1_000_000).take(&mut store, &events).unwrap_err();
    assert_eq!(store, expected, "all before the failure and nothing behind it");
    failure
}

#[test]
fn a_panic_anywhere_in_a_projection_is_told_with_the_position_of_its_event() {
    for (poison, message) in [
        (changed(), "changes are too much"),
        (AgentResumed {}.into(), "no ids for this"),
        (AgentRetired {}.into(), "the retired have no keys"),
    ] {
        let failure = stopped_by(poison);
        assert_eq!(failure.position(), FIRST + 2);
        assert_eq!(failure.to_string(), format!("the projection panicked at position 103: {message}"));
    }
}

#[test]
fn a_panic_that_may_quote_somebody_is_told_without_its_words() {
    let told = stopped_by(AgentPaused {}.into()).to_string();
    let expected = "the projection panicked at position 103: its message stands in the output of the process";
    assert_eq!(told, expected);
}

#[test]
fn the_first_of_several_failures_stops_the_projection_whichever_lane_meets_it() {
    for lanes in 1..5 {
        let poisoned = (0..8_u128).rev().flat_map(|number| [(Uuid::from_u128(number), changed())]);
        let begun = (0..8_u128).map(|number| (Uuid::from_u128(number), created()));
        let events = of_agents(begun.chain(poisoned));
        let mut store = Store::default();
        let failure = Folding::new(&fold_of::<Fragile>(), lanes, 0).take(&mut store, &events).unwrap_err();
        assert_eq!((failure.position(), store.0.len()), (FIRST + 8, 8), "{lanes} lanes");
    }
}

#[test]
fn after_a_failure_the_same_lanes_fold_on_as_if_it_had_not_been() {
    let fold = fold_of::<Fragile>();
    let events = of_agents([(ADA, created()), (BOB, created()), (ADA, changed()), (BOB, created()), (ADA, created())]);
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold, 2, 1_000_000));
    folding.take(&mut store, &events).unwrap_err();
    assert_eq!(folding.take(&mut store, &events[2..]).unwrap_err().position(), FIRST + 2, "it stays where it is");
    folding.skips.add(FIRST + 2, [ADA]);
    folding.take(&mut store, &events[2..]).unwrap();
    let mut expected = Folding::new(&fold, 1, 0);
    expected.skips.add(FIRST + 2, [ADA]);
    let mut replayed = Store::default();
    expected.take(&mut replayed, &events).unwrap();
    assert_eq!(store, replayed);
    assert_eq!(store.0[&ADA].position, FIRST + 4);
}

#[test]
fn a_skipped_event_is_passed_over_whatever_it_would_do() {
    for poison in [changed(), AgentResumed {}.into(), AgentRetired {}.into()] {
        let events = of_agents([(ADA, created()), (ADA, poison), (BOB, created())]);
        let (mut store, mut folding) = (Store::default(), Folding::new(&fold_of::<Fragile>(), 2, 0));
        folding.skips.add(FIRST + 1, []);
        assert_eq!(folding.take(&mut store, &events).unwrap(), 2);
        assert_eq!(store.0[&ADA].position, FIRST);
    }
}

#[test]
fn what_would_have_changed_a_document_whose_beginning_was_skipped_is_passed_over() {
    let retired = || AgentRetired {}.into();
    let events = of_agents([(ADA, created()), (ADA, retired()), (BOB, created()), (AGENT, retired())]);
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold_of::<Agents>(), 1, 0));
    folding.skips.add(FIRST, [ADA]);
    let failure = folding.take(&mut store, &events).unwrap_err();
    assert_eq!(store.0.keys().collect::<Vec<_>>(), [&BOB]);
    assert!(
        matches!(failure, FoldError::NothingToChange { position: 104, id: AGENT }),
        "a skip excuses only what follows from it"
    );
}

#[test]
fn skipping_an_event_that_changes_a_document_keeps_what_comes_later() {
    let events = of_agents([(ADA, created()), (ADA, AgentPaused {}.into()), (ADA, AgentRetired {}.into())]);
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold_of::<Agents>(), 1, 0));
    folding.skips.add(FIRST + 1, [ADA]);
    folding.take(&mut store, &events).unwrap();
    assert_eq!(store.0[&ADA].position, FIRST + 2);
}

#[test]
fn only_the_skipped_positions_are_held() {
    let mut skips = Skips::default();
    skips.add(7, [ADA]);
    assert!(skips.holds(7) && !skips.holds(8));
}

proptest! {
    /// A log in which any event may be a stream's first, so that most have one that changes what nothing began.
    #[test]
    fn a_failing_log_stores_what_its_prefix_does_and_fails_where_event_by_event_does(
        events in proptest::collection::vec((0..6_u128, any::<Index>()), 1..60), lanes in 1..5_usize,
    ) {
        let all_samples = samples::all();
        let events = log(events.iter().map(|(stream, which)| (Uuid::from_u128(*stream), which.get(&all_samples).clone())));
        for fold in all() {
            let (mut at_once, mut one_by_one) = (Store::default(), Store::default());
            let failure = Folding::new(&fold, lanes, 1_000).take(&mut at_once, &events).err();
            let mut folding = Folding::new(&fold, 1, 0);
            let first = events.iter().find_map(|event| folding.take(&mut one_by_one, std::slice::from_ref(event)).err());
            prop_assert_eq!(failure.map(|failure| failure.position()), first.map(|failure| failure.position()));
            prop_assert_eq!(at_once, one_by_one);
        }
    }
}
