//! Deadlines of tasks that wait: from then on nothing is started.
use marvin_domain::task::{DEADLINE_PASSED, FailureText, Submission, TaskCommand, TaskError, TaskEvent, TaskFailed};
use marvin_domain::{Personal, task::Phase};

use crate::{
    given::{given, state_after},
    samples::{ADA, AGENT, WORKER, at},
    task_journal::{cancelled, completed, failed, heartbeat_lost, retried, retry_scheduled, started, submitted},
};

/// A task with a deadline at second 100; a scheduled retry of these stories is due before it.
fn with_deadline() -> TaskEvent {
    let TaskEvent::Submitted(submitted) = submitted(3) else { unreachable!("it is a submission") };
    marvin_domain::task::TaskSubmitted { deadline: Some(at(100)), ..submitted }.into()
}

fn after(events: impl IntoIterator<Item = TaskEvent>) -> Vec<TaskEvent> {
    [with_deadline()].into_iter().chain(events).collect()
}

fn pass(second: i64) -> TaskCommand {
    TaskCommand::PassDeadline { at: at(second) }
}

fn passed(attempt: u32) -> TaskEvent {
    let message = "the deadline had passed before the task could start".to_owned();
    let personal = Personal::Known(FailureText { message });
    TaskFailed { attempt, code: DEADLINE_PASSED.into(), agent_id: AGENT, requested_by: ADA, personal }.into()
}

#[test]
fn a_task_that_waits_behind_its_deadline_fails_and_no_attempt_was_made() {
    given(after([])).when(pass(100)).then([passed(0)]);
    given(after([started(1), heartbeat_lost(1)])).when(pass(101)).then([passed(1)]);
    given(after([started(1), retry_scheduled(1)])).when(pass(100)).then([passed(1)]);
}

#[test]
fn a_task_may_wait_until_its_deadline_and_without_one_for_ever() {
    given(after([])).when(pass(99)).then_error(TaskError::NotOverdue);
    given([submitted(3)]).when(pass(1_000_000)).then_error(TaskError::NotOverdue);
}

#[test]
fn the_deadline_of_a_task_that_runs_or_has_ended_is_not_passed_by_waiting() {
    for events in [vec![started(1)], vec![started(1), completed(1)], vec![cancelled()], vec![passed(0)]] {
        given(after(events)).when(pass(100)).then_error(TaskError::NotOverdue);
    }
}

#[test]
fn nothing_is_started_from_the_deadline_on() {
    let start = |second| TaskCommand::Start { worker: WORKER, at: at(second) };
    for events in [vec![], vec![started(1), heartbeat_lost(1)], vec![started(1), retry_scheduled(1)]] {
        given(after(events.clone())).when(start(100)).then_error(TaskError::DeadlinePassed);
        let attempt = state_after(after(events.clone())).attempt + 1;
        given(after(events)).when(start(99)).then([started(attempt)]);
    }
}

#[test]
fn a_task_that_is_retried_behind_its_deadline_waits_too_long_again() {
    let again = || after([started(1), failed(1), retried(3)]);
    assert_eq!(state_after(again()).phase, Phase::Queued);
    given(again()).when(pass(100)).then([passed(1)]);
}

#[test]
fn a_submission_keeps_its_deadline() {
    let submission = Submission { deadline: Some(at(100)), ..crate::task_journal::submission(3) };
    given::<TaskEvent>([]).when(TaskCommand::Submit(submission)).then([with_deadline()]);
}
