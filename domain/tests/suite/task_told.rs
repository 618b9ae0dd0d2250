//! A step that somebody outside tells of: recorded once, in order, whether or not an attempt runs.
use marvin_domain::{
    Personal,
    task::{StepResult, TaskError, TaskEvent, TaskStepCompleted},
};
use serde_json::json;

use crate::{
    given::{given, given_nothing},
    samples::at,
    task_journal::{
        cancelled, completed, failed, heartbeat_lost, retried, retry_scheduled, started, step_completed, submitted,
        tell_step,
    },
};

fn told(attempt: u32, step: u32) -> TaskEvent {
    let personal = Personal::Known(StepResult { result: json!(step) });
    let (kind, name) = ("callback".into(), "answer".into());
    TaskStepCompleted { attempt, step, kind, name, started_at: at(1), personal }.into()
}

fn accepted() -> Vec<TaskEvent> {
    vec![submitted(3), started(1), step_completed(1, 1)]
}

#[test]
fn a_step_is_told_in_every_open_phase() {
    for since in [vec![], vec![heartbeat_lost(1)], vec![retry_scheduled(1)], vec![failed(1), retried(3)]] {
        given(accepted().into_iter().chain(since)).when(tell_step(2)).then([told(1, 2)]);
    }
}

#[test]
fn a_step_is_told_once() {
    given(accepted().into_iter().chain([told(1, 2)])).when(tell_step(2)).then_error(TaskError::ToldTwice);
    given(accepted()).when(tell_step(1)).then_error(TaskError::ToldTwice);
}

#[test]
fn a_step_is_not_told_before_the_one_ahead_of_it_is_recorded() {
    given([submitted(3), started(1)]).when(tell_step(2)).then_error(TaskError::StepOutOfOrder { expected: 1 });
    given(accepted()).when(tell_step(0)).then_error(TaskError::StepOutOfOrder { expected: 2 });
    given(accepted()).when(tell_step(3)).then_error(TaskError::StepOutOfOrder { expected: 2 });
}

#[test]
fn nothing_is_told_of_a_task_that_has_ended() {
    for end in [completed(1), failed(1), cancelled()] {
        given(accepted().into_iter().chain([end])).when(tell_step(2)).then_error(TaskError::Ended);
    }
}

#[test]
fn nothing_is_told_of_a_task_that_never_was() {
    given_nothing::<marvin_domain::task::Task>().when(tell_step(1)).then_error(TaskError::Absent);
}
