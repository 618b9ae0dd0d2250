//! What a recorded step of a task looks like, and how the steps of a task stand together.
use marvin_domain::{Event, task::STEPS_MAX};
use marvin_projections::{
    Document, Field, Fold, Key, Projection, fold_of,
    steps::{StepDocument, Steps, step_id},
};
use std::sync::Arc;
use uuid::Uuid;

use crate::{
    journal::{Folding, Store, log},
    samples::{TASK, at},
    tasks::{completed, done, given_input, started, step, submitted},
};

/// A task of the same millisecond as TASK.
const NEIGHBOUR: Uuid = Uuid::from_u128(TASK.as_u128() + (1 << 40));

/// The steps of these tasks, in the order of their ids.
fn documents(tasks: &[(Uuid, u32)]) -> Vec<StepDocument> {
    let of_task = |&(task, steps): &(Uuid, u32)| {
        let events = [submitted(given_input()), started(1)].into_iter().chain((1..=steps).map(step));
        events.chain([completed(done())]).map(move |event| (task, Event::Task(event))).collect::<Vec<_>>()
    };
    let (fold, mut store): (Arc<dyn Fold>, _) = (fold_of::<Steps>(), Store::default());
    store.take(&fold, &log(tasks.iter().flat_map(of_task)));
    store.0.values().map(|raw| raw.open().unwrap()).collect()
}

#[test]
fn a_step_is_a_document_of_its_own_without_its_result() {
    let expected = StepDocument {
        id: step_id(TASK, 1),
        task_id: TASK,
        step: 1,
        kind: "tool".into(),
        name: "look_up".into(),
        started_at: at(3),
        finished_at: at(103),
        sequence: 3,
        position: 103,
    };
    assert_eq!((expected.personal(), expected.subject()), (None, None));
    assert_eq!(documents(&[(TASK, 1)]), [expected]);
}

#[test]
fn a_task_without_steps_has_no_documents_here() {
    assert_eq!(documents(&[(TASK, 0)]), []);
}

#[test]
fn the_steps_of_each_task_stand_together_and_in_order() {
    let found = documents(&[(NEIGHBOUR, 3), (TASK, STEPS_MAX)]);
    let numbers: Vec<(Uuid, u32)> = found.iter().map(|step| (step.task_id, step.step)).collect();
    let expected = (1..=STEPS_MAX).map(|step| (TASK, step)).chain((1..=3).map(|step| (NEIGHBOUR, step)));
    assert_eq!(numbers, expected.collect::<Vec<_>>());
}

#[test]
fn the_id_of_a_step_keeps_the_time_of_its_task() {
    let id = step_id(TASK, 7);
    assert_eq!((id.get_version_num(), &id.as_bytes()[..14]), (7, &TASK.as_bytes()[..14]));
    assert_eq!(id, step_id(TASK, 7));
}

#[test]
fn a_step_that_no_task_can_have_stops_the_view_rather_than_overwrite_another() {
    let (mut store, fold) = (Store::default(), fold_of::<Steps>());
    let events = log([(TASK, Event::Task(step(STEPS_MAX))), (TASK, Event::Task(step(STEPS_MAX + 1)))]);
    let failure = Folding::new(&fold, 1, 0).take(&mut store, &events).unwrap_err();
    assert_eq!(failure.to_string(), "the projection panicked at position 102: no task has that many steps");
    assert_eq!(store.0.len(), 1);
}

#[test]
fn steps_are_found_by_task() {
    assert_eq!(Steps::FIELDS, [Field::id("task_id")]);
    assert_eq!(Steps::keys(&documents(&[(TASK, 1)])[0]), [Key::from(TASK)]);
}
