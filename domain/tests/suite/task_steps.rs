//! Steps: recorded in order, once, and never run again by a later attempt.
use marvin_domain::task::{STEPS_MAX, TaskError, TaskEvent};

use crate::{
    given::{given, state_after},
    task_journal::{
        complete_step, completed, failed, heartbeat_lost, retried, start, started, step_completed, submitted,
    },
};

fn running() -> Vec<TaskEvent> {
    vec![submitted(3), started(1)]
}

fn running_with(events: impl IntoIterator<Item = TaskEvent>) -> Vec<TaskEvent> {
    running().into_iter().chain(events).collect()
}

#[test]
fn a_step_is_recorded_with_its_result() {
    given(running()).when(complete_step(1, 1)).then([step_completed(1, 1)]);
    given(running_with([step_completed(1, 1)])).when(complete_step(1, 2)).then([step_completed(1, 2)]);
}

#[test]
fn repeating_a_recorded_step_changes_nothing() {
    let two_steps = || running_with([step_completed(1, 1), step_completed(1, 2)]);
    given(two_steps()).when(complete_step(1, 1)).then_nothing();
    given(two_steps()).when(complete_step(1, 2)).then_nothing();
}

#[test]
fn a_step_ahead_of_the_next_is_refused() {
    given(running()).when(complete_step(1, 2)).then_error(TaskError::StepOutOfOrder { expected: 1 });
    given(running_with([step_completed(1, 1)]))
        .when(complete_step(1, 3))
        .then_error(TaskError::StepOutOfOrder { expected: 2 });
}

#[test]
fn steps_count_from_one() {
    given(running()).when(complete_step(1, 0)).then_error(TaskError::StepOutOfOrder { expected: 1 });
    given(running_with([step_completed(1, 1)]))
        .when(complete_step(1, 0))
        .then_error(TaskError::StepOutOfOrder { expected: 2 });
}

#[test]
fn a_task_has_at_most_1000_steps() {
    assert_eq!(STEPS_MAX, 1_000);
    let with_steps = |steps| running_with((1..=steps).map(|step| step_completed(1, step)));
    given(with_steps(999)).when(complete_step(1, 1_000)).then([step_completed(1, 1_000)]);
    given(with_steps(1_000)).when(complete_step(1, 1_001)).then_error(TaskError::TooManySteps);
    given(with_steps(1_000)).when(complete_step(1, 1_000)).then_nothing();
}

#[test]
fn the_next_attempt_goes_on_behind_the_last_recorded_step() {
    let second_attempt = || running_with([step_completed(1, 1), heartbeat_lost(1), started(2)]);
    given(second_attempt()).when(complete_step(2, 1)).then_nothing();
    given(second_attempt()).when(complete_step(2, 2)).then([step_completed(2, 2)]);
}

#[test]
fn a_retried_task_keeps_its_steps() {
    let retried_task = running_with([step_completed(1, 1), failed(1), retried(3), started(2)]);
    assert_eq!(state_after(retried_task.clone()).steps, 1);
    given(retried_task).when(complete_step(2, 2)).then([step_completed(2, 2)]);
}

#[test]
fn a_step_of_an_attempt_that_no_longer_runs_is_refused_even_when_it_is_a_repeat() {
    let second_attempt = || running_with([step_completed(1, 1), heartbeat_lost(1), started(2)]);
    given(second_attempt()).when(complete_step(1, 1)).then_error(TaskError::LateResult);
    given(second_attempt()).when(complete_step(1, 2)).then_error(TaskError::LateResult);
    given(running_with([completed(1)])).when(complete_step(1, 1)).then_error(TaskError::LateResult);
}

#[test]
fn recorded_steps_do_not_start_an_attempt() {
    given(running_with([step_completed(1, 1)])).when(start()).then_error(TaskError::NotReady);
}
