//! Attempts: who runs, what a failure leads to, and when a task is given up.
use marvin_domain::task::{CancelReason, Phase, TaskCancelled, TaskCommand, TaskError, TaskEvent, TaskRetried};

use crate::{
    given::{given, state_after},
    samples::{ADA, AGENT, WORKER, at},
    task_journal::{
        cancel, cancelled, complete, completed, dead_lettered, due, fail, fail_for_good, failed, given_up_for_lost,
        heartbeat_lost, lose_heartbeat, retried, retry_scheduled, start, started, submitted,
    },
};

fn start_at(second: i64) -> TaskCommand {
    TaskCommand::Start { worker: WORKER, at: at(second) }
}

#[test]
fn a_queued_task_starts_its_first_attempt() {
    given([submitted(3)]).when(start()).then([started(1)]);
}

#[test]
fn a_second_claim_of_an_attempt_is_refused() {
    given([submitted(3), started(1)]).when(start()).then_error(TaskError::NotReady);
}

#[test]
fn an_attempt_is_completed_with_its_output() {
    given([submitted(3), started(1)]).when(complete(1)).then([completed(1)]);
}

#[test]
fn a_result_of_an_attempt_that_no_longer_runs_is_refused() {
    let second_runs = || [submitted(3), started(1), heartbeat_lost(1), started(2)];
    for late in [complete(1), fail(1), fail_for_good(1), lose_heartbeat(1), complete(3)] {
        given(second_runs()).when(late).then_error(TaskError::LateResult);
    }
}

#[test]
fn a_result_after_the_cancelling_is_refused() {
    for late in [complete(1), fail(1), fail_for_good(1), lose_heartbeat(1)] {
        given([submitted(3), started(1), cancelled()]).when(late).then_error(TaskError::LateResult);
    }
}

#[test]
fn a_passing_failure_schedules_another_attempt() {
    given([submitted(2), started(1)]).when(fail(1)).then([retry_scheduled(1)]);
}

#[test]
fn a_scheduled_retry_starts_when_it_is_due_and_not_before() {
    let waiting = || [submitted(2), started(1), retry_scheduled(1)];
    given(waiting()).when(start_at(59)).then_error(TaskError::NotReady);
    given(waiting()).when(start_at(60)).then([started(2)]);
}

#[test]
fn a_passing_failure_of_the_last_attempt_gives_the_task_up() {
    given([submitted(1), started(1)]).when(fail(1)).then([dead_lettered(1)]);
    given([submitted(2), started(1), retry_scheduled(1), started(2)]).when(fail(2)).then([dead_lettered(2)]);
}

#[test]
fn a_lasting_failure_fails_the_task_whatever_attempts_are_left() {
    given([submitted(3), started(1)]).when(fail_for_good(1)).then([failed(1)]);
    given([submitted(1), started(1)]).when(fail_for_good(1)).then([failed(1)]);
}

#[test]
fn a_lost_heartbeat_queues_the_task_again() {
    given([submitted(2), started(1)]).when(lose_heartbeat(1)).then([heartbeat_lost(1)]);
    given([submitted(2), started(1), heartbeat_lost(1)]).when(start()).then([started(2)]);
}

#[test]
fn a_heartbeat_lost_during_the_last_attempt_gives_the_task_up() {
    given([submitted(1), started(1)]).when(lose_heartbeat(1)).then([heartbeat_lost(1), given_up_for_lost(1)]);
    given([submitted(2), started(1), heartbeat_lost(1), started(2)])
        .when(lose_heartbeat(2))
        .then([heartbeat_lost(2), given_up_for_lost(2)]);
}

#[test]
fn a_lost_heartbeat_is_recorded_once() {
    given([submitted(2), started(1), heartbeat_lost(1)]).when(lose_heartbeat(1)).then_error(TaskError::LateResult);
}

#[test]
fn an_open_task_can_be_cancelled_and_says_why() {
    for reason in [CancelReason::Requested, CancelReason::RequesterErased] {
        let why = TaskCancelled { reason, agent_id: AGENT, requested_by: ADA };
        given([submitted(2), started(1)]).when(TaskCommand::Cancel { reason }).then([why]);
    }
}

#[test]
fn a_task_that_ended_cannot_be_cancelled() {
    for end in [completed(1), failed(1), dead_lettered(1), cancelled()] {
        given([submitted(2), started(1), end]).when(cancel()).then_error(TaskError::Ended);
    }
}

fn given_up() -> Vec<TaskEvent> {
    vec![submitted(2), started(1), retry_scheduled(1), started(2), dead_lettered(2)]
}

#[test]
fn a_failed_or_dead_task_can_be_retried() {
    given([submitted(2), started(1), failed(1)]).when(TaskCommand::Retry).then([retried(2)]);
    given(given_up()).when(TaskCommand::Retry).then([retried(2)]);
}

/// As `upcast` reads it.
fn retried_before_version_2() -> TaskEvent {
    TaskRetried { attempts: None }.into()
}

#[test]
fn a_retry_gives_as_many_attempts_as_it_says_and_an_old_one_as_many_as_there_were_at_first() {
    let attempt_max = |retry| state_after(given_up().into_iter().chain([retry])).attempt_max;
    assert_eq!(attempt_max(retried(2)), 4);
    assert_eq!(attempt_max(retried(7)), 9);
    assert_eq!(attempt_max(retried_before_version_2()), 4);
}

#[test]
fn a_completed_or_cancelled_task_cannot_be_retried() {
    for end in [completed(1), cancelled()] {
        given([submitted(2), started(1), end]).when(TaskCommand::Retry).then_error(TaskError::NotRetryable);
    }
}

#[test]
fn a_retried_task_has_a_fresh_set_of_attempts_and_counts_on() {
    let again = |events: &[TaskEvent]| given(given_up().into_iter().chain([retried(2)]).chain(events.iter().cloned()));
    again(&[]).when(start()).then([started(3)]);
    again(&[started(3)]).when(fail(3)).then([retry_scheduled(3)]);
    again(&[started(3), retry_scheduled(3), started(4)]).when(fail(4)).then([dead_lettered(4)]);
    again(&[started(3), heartbeat_lost(3), started(4)])
        .when(lose_heartbeat(4))
        .then([heartbeat_lost(4), given_up_for_lost(4)]);
}

#[test]
fn the_state_follows_the_attempts() {
    let after = |events: Vec<TaskEvent>| {
        let task = state_after(events);
        (task.phase, task.attempt, task.attempt_max)
    };
    assert_eq!(after(vec![submitted(2), started(1)]), (Phase::Running, 1, 2));
    assert_eq!(after(vec![submitted(2), started(1), heartbeat_lost(1)]), (Phase::Queued, 1, 2));
    assert_eq!(after(vec![submitted(2), started(1), retry_scheduled(1)]), (Phase::Retrying { at: due() }, 1, 2));
    assert_eq!(after(vec![submitted(2), started(1), failed(1)]), (Phase::Failed, 1, 2));
    assert_eq!(after(given_up()), (Phase::Failed, 2, 2));
    assert_eq!(after(given_up().into_iter().chain([retried(2)]).collect()), (Phase::Queued, 2, 4));
    assert_eq!(after(vec![submitted(2), started(1), completed(1)]), (Phase::Final, 1, 2));
    assert_eq!(after(vec![submitted(2), cancelled()]), (Phase::Cancelled, 0, 2));
}

#[test]
fn a_running_attempt_is_its_workers_alone_and_others_are_told_why_theirs_does_not_count() {
    let check = |events: Vec<TaskEvent>, worker| state_after(events).check_worker(worker);
    let running = || vec![submitted(2), started(1)];
    assert_eq!(check(running(), WORKER), Ok(1));
    assert_eq!(check(running(), ADA), Err(TaskError::LateResult));
    assert_eq!(check(vec![], WORKER), Err(TaskError::Absent));
    assert_eq!(check(vec![submitted(2)], uuid::Uuid::nil()), Err(TaskError::LateResult), "nobody has started it");
    for end in [heartbeat_lost(1), retry_scheduled(1), completed(1), failed(1), dead_lettered(1)] {
        let ended = running().into_iter().chain([end]).collect();
        assert_eq!(check(ended, WORKER), Err(TaskError::LateResult));
    }
    let is_cancelled = || running().into_iter().chain([cancelled()]).collect();
    assert_eq!(check(is_cancelled(), WORKER), Err(TaskError::Cancelled));
    assert_eq!(check(is_cancelled(), ADA), Err(TaskError::LateResult));
}

#[test]
fn attempts_beyond_all_counting_do_not_break_the_state() {
    for retry in [retried(2), retried(u32::MAX), retried_before_version_2()] {
        let task = state_after([submitted(u32::MAX), started(u32::MAX), failed(u32::MAX), retry]);
        assert_eq!(task.attempt_max, u32::MAX);
    }
}
