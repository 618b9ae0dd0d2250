//! Lanes share the documents of a batch, and keep no more in memory than they may, nor anything that was not stored.
use marvin_domain::{
    Envelope, Event,
    agent::{AgentEvent, AgentPaused, AgentResumed},
};
use marvin_projections::{Fold, Skips, agents::Agents, all, fold_of, tasks::Tasks};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

use crate::{
    journal::{Folding, Store, log},
    samples::{self, ADA},
};

/// Room for every document of these tests.
const AMPLE: usize = 1_000_000;

fn id(number: u128) -> Uuid {
    // Not random at all, and alike in the bits that a remainder would look at.
    Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + 16 * number)
}

/// Each of the first `count` agents is created; then, `rounds` times, each is paused and resumed.
fn agents(count: u128, rounds: usize) -> Vec<Arc<Envelope>> {
    let created = (1..=count).map(|number| (id(number), Event::Agent(samples::agent().remove(0))));
    let round: [AgentEvent; 2] = [AgentPaused {}.into(), AgentResumed {}.into()];
    let changed = std::iter::repeat_n(round, rounds).flatten().map(Event::Agent);
    let changed = changed.flat_map(|event| (1..=count).map(move |number| (id(number), event.clone())));
    log(created.chain(changed))
}

#[test]
fn a_document_is_dealt_to_the_same_one_lane_in_every_batch_and_no_lane_is_left_out() {
    let (fold, mut dealt) = (fold_of::<Agents>(), HashMap::new());
    for batch in agents(200, 2).chunks(70) {
        let plan = fold.plan(batch, &Skips::default(), 4);
        assert_eq!(plan.lanes.iter().map(Vec::len).sum::<usize>(), batch.len());
        for (lane, touches) in plan.lanes.iter().enumerate() {
            for touch in touches {
                assert_eq!(*dealt.entry(touch.id).or_insert(lane), lane);
            }
        }
    }
    for lane in 0..4 {
        let share = dealt.values().filter(|other| **other == lane).count();
        assert!((30..=70).contains(&share), "lane {lane} has {share} of 200 documents");
    }
}

#[test]
fn a_kept_document_is_not_asked_of_the_store_again() {
    let fold = fold_of::<Agents>();
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold, 2, AMPLE));
    for batch in agents(10, 3).chunks(10) {
        folding.take(&mut store, batch).unwrap();
    }
    assert_eq!(folding.loaded, 10, "each was looked for once, when it was created");
}

#[test]
fn a_lane_without_room_asks_for_each_document_of_each_batch_once() {
    let fold = fold_of::<Agents>();
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold, 2, 0));
    for batch in agents(10, 3).chunks(20) {
        folding.take(&mut store, batch).unwrap();
    }
    assert_eq!(folding.loaded, 4 * 10);
}

#[test]
fn a_full_lane_drops_what_was_not_touched_for_longest() {
    let fold = fold_of::<Agents>();
    let events = agents(100, 0);
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold, 1, 10_000));
    let busy = log([(id(1), Event::Agent(samples::agent().remove(0)))]);
    for event in &events {
        folding.take(&mut store, std::slice::from_ref(event)).unwrap();
        folding.take(&mut store, &busy).unwrap();
    }
    let missing = |event| {
        let plan = fold.plan(std::slice::from_ref(event), &Skips::default(), 1);
        folding.lanes[0].missing(&plan.lanes[0]).len()
    };
    assert_eq!(missing(&events[0]), 0, "what each batch touches stays");
    let kept: Vec<usize> = events[1..].iter().map(missing).collect();
    let dropped = kept.iter().sum::<usize>();
    let bytes = store.0[&id(2)].facts.len();
    assert!((10_000 / 2 / bytes..=10_000 / bytes).contains(&(99 - dropped)), "{dropped} of 99 were dropped");
    assert!(kept.is_sorted_by(|a, b| a >= b), "the oldest go first");
}

#[test]
fn what_was_folded_and_not_kept_is_read_from_the_store_again() {
    let fold = fold_of::<Agents>();
    let events = agents(3, 1);
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold, 1, AMPLE));
    folding.take(&mut store, &events[..3]).unwrap();
    let touches = &fold.plan(&events[3..5], &Skips::default(), 1).lanes[0];
    assert_eq!(folding.lanes[0].fold(Vec::new(), touches).unwrap().len(), 2, "and then the store refused them");
    assert_eq!(folding.lanes[0].missing(touches).len(), 2);
    assert_eq!(folding.take(&mut store, &events[3..]).unwrap(), 3);
    let mut expected = Store::default();
    expected.take(&fold, &events);
    assert_eq!(store, expected);
}

#[test]
fn changed_documents_come_in_the_order_of_their_ids() {
    let fold = fold_of::<Agents>();
    let mut events = agents(50, 0);
    events.reverse();
    let touches = &fold.plan(&events, &Skips::default(), 1).lanes[0];
    assert!(fold.lane(0).fold(Vec::new(), touches).unwrap().is_sorted_by_key(|document| document.id));
}

/// The example task of the person ADA, at every stage.
fn task_of_ada(fold: &dyn Fold) -> Vec<Arc<Envelope>> {
    let events = log(samples::task().into_iter().map(|event| (id(7), Event::Task(event))));
    assert!(events.iter().all(|event| fold.ids(event).unwrap() == [id(7)]));
    events
}

#[test]
fn the_words_of_an_erased_person_leave_the_memory_and_do_not_come_back() {
    let fold = fold_of::<Tasks>();
    let events = task_of_ada(&*fold);
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold, 1, AMPLE));
    folding.take(&mut store, &events[..2]).unwrap();
    assert!(store.0[&id(7)].personal.is_some());
    folding.lanes[0].forget(ADA);
    // As a view store answers once the key is gone.
    store.0.get_mut(&id(7)).unwrap().personal = None;
    folding.take(&mut store, &events[3..4]).unwrap();
    assert_eq!(store.0[&id(7)].personal, None);
    let loaded = folding.loaded;
    folding.take(&mut store, &events[4..5]).unwrap();
    assert_eq!(folding.loaded, loaded + 1, "it may have been read just before its key was gone, so it is not kept");
}

#[test]
fn erasing_one_person_keeps_the_documents_of_others() {
    let fold = fold_of::<Tasks>();
    let events = task_of_ada(&*fold);
    let (mut store, mut folding) = (Store::default(), Folding::new(&fold, 1, AMPLE));
    folding.take(&mut store, &events[..1]).unwrap();
    folding.lanes[0].forget(id(99));
    folding.take(&mut store, &events[1..2]).unwrap();
    assert_eq!(folding.loaded, 1);
}

#[test]
fn a_batch_of_no_concern_asks_for_nothing() {
    for fold in all() {
        let others = samples::all().into_iter().filter(|event| !fold.kinds().contains(&event.kind()));
        let mut folding = Folding::new(&fold, 2, 0);
        folding.take(&mut Store::default(), &log(others.map(|event| (ADA, event)))).unwrap();
        assert_eq!(folding.loaded, 0, "{}", fold.name());
    }
}
