//! A task that is tried again, and one whose words are erased.
use marvin_domain::{
    Personal,
    task::{TaskEvent, TaskRetried},
};
use marvin_projections::tasks::{TaskDocument, TaskStatus};

use crate::{
    samples::at,
    tasks::{
        after, completed, dead_lettered, document, done, failed, given_input, retry_scheduled, started, submitted,
        words,
    },
};

fn retried() -> TaskEvent {
    TaskRetried { attempts: Some(3) }.into()
}

#[test]
fn a_second_attempt_keeps_when_the_first_one_started_and_what_went_wrong() {
    let document = after([started(1), retry_scheduled(1), started(2)]);
    assert_eq!((document.attempt, document.status, document.ready_at), (2, TaskStatus::Running, None));
    assert_eq!((document.started_at, document.error_code.as_deref()), (Some(at(102)), Some("busy")));
    assert_eq!(document.personal, words(None, Some("It is busy")));
}

#[test]
fn a_task_that_succeeds_after_a_failure_shows_no_error() {
    let document = after([started(1), retry_scheduled(1), started(2), completed(done())]);
    assert_eq!((document.error_code, document.personal), (None, words(Some("done"), None)));
}

#[test]
fn a_retried_task_is_queued_as_if_it_had_not_ended() {
    for end in [failed(), dead_lettered()] {
        let expected = TaskDocument {
            status: TaskStatus::Queued,
            ready_at: Some(at(104)),
            sequence: 4,
            position: 104,
            ..after([started(1)])
        };
        assert_eq!(after([started(1), end, retried()]), expected);
    }
}

#[test]
fn a_task_erased_from_its_submission_on_stays_so_whatever_later_events_still_hold() {
    for end in [completed(done()), failed(), dead_lettered(), retry_scheduled(1)] {
        let task = document([submitted(Personal::Erased), started(1), end, retried()]);
        assert_eq!(task.personal, Personal::Erased);
    }
}

#[test]
fn an_output_that_can_no_longer_be_read_is_none() {
    let task = document([submitted(given_input()), started(1), completed(Personal::Erased)]);
    assert_eq!((task.status, task.personal), (TaskStatus::Completed, words(None, None)));
}

#[test]
fn a_status_is_called_the_same_everywhere() {
    for status in TaskStatus::ALL {
        let listed = match status {
            TaskStatus::Queued
            | TaskStatus::Running
            | TaskStatus::Retrying
            | TaskStatus::Completed
            | TaskStatus::Failed
            | TaskStatus::Cancelled
            | TaskStatus::Dead => TaskStatus::ALL.iter().filter(|other| other.as_str() == status.as_str()).count(),
        };
        assert_eq!((listed, serde_json::to_value(status).unwrap()), (1, status.as_str().into()));
    }
}
