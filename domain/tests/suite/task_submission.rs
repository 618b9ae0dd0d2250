//! What may be submitted, and what a submitted task remembers.
use marvin_domain::{
    Personal, RefusalKind, Refuse, Rooted,
    task::{CHAIN_DEPTH_MAX, Input, Phase, Submission, Task, TaskCommand, TaskError, TaskSubmitted},
};
use serde_json::json;

use crate::{
    given::{given, given_nothing, state_after},
    samples::{ADA, AGENT, BOB, CONVERSATION, TASK, at},
    task_journal::{cancelled, submission, submitted},
};

#[test]
fn a_submission_is_recorded_with_all_it_says() {
    let submission = Submission {
        agent_id: AGENT,
        requested_by: ADA,
        input: json!({ "n": 2 }),
        conversation_id: Some(CONVERSATION),
        priority: 9,
        deadline: Some(at(9)),
        max_attempts: 2,
        parent: Some(TASK),
        chain_depth: 3,
    };
    given_nothing::<Task>().when(TaskCommand::Submit(submission)).then([TaskSubmitted {
        agent_id: AGENT,
        requested_by: ADA,
        conversation_id: Some(CONVERSATION),
        priority: 9,
        deadline: Some(at(9)),
        max_attempts: 2,
        parent: Some(TASK),
        chain_depth: 3,
        personal: Personal::Known(Input { input: json!({ "n": 2 }) }),
    }]);
}

#[test]
fn a_task_is_submitted_once() {
    for end in [None, Some(cancelled())] {
        given([submitted(1)].into_iter().chain(end))
            .when(TaskCommand::Submit(submission(1)))
            .then_error(TaskError::AlreadySubmitted);
    }
}

#[test]
fn a_priority_is_0_to_9() {
    let submit =
        |priority| given_nothing::<Task>().when(TaskCommand::Submit(Submission { priority, ..submission(1) })).result();
    assert!(submit(0).is_ok() && submit(9).is_ok());
    assert_eq!(submit(10), Err(TaskError::Priority));
}

#[test]
fn tasks_chain_at_most_16_deep() {
    assert_eq!(CHAIN_DEPTH_MAX, 16);
    let submit = |chain_depth| {
        given_nothing::<Task>().when(TaskCommand::Submit(Submission { chain_depth, ..submission(1) })).result()
    };
    assert!(submit(16).is_ok());
    assert_eq!(submit(17), Err(TaskError::ChainTooDeep));
}

#[test]
fn a_submitted_task_waits_for_its_first_attempt() {
    let task = state_after([submitted(3)]);
    assert_eq!((task.phase, task.attempt, task.attempt_max, task.steps), (Phase::Queued, 0, 3, 0));
    assert_eq!((task.agent_id, task.requested_by, task.chain_depth), (AGENT, ADA, 0));
}

#[test]
fn a_task_is_sealed_under_its_requesters_key() {
    assert_eq!(Task::default().subject(BOB), None);
    assert_eq!(state_after([submitted(1)]).subject(BOB), Some(ADA));
}

#[test]
fn each_refusal_says_what_the_caller_can_do() {
    use TaskError::{
        Absent, AlreadySubmitted, ChainTooDeep, Ended, LateResult, NotReady, NotRetryable, Priority, StepOutOfOrder,
        TooManySteps,
    };
    assert_eq!(Absent.kind(), RefusalKind::Absent);
    for error in [AlreadySubmitted, NotReady, LateResult, Ended] {
        assert_eq!(error.kind(), RefusalKind::Late, "{error}");
    }
    for error in [Priority, ChainTooDeep, TooManySteps, StepOutOfOrder { expected: 1 }, NotRetryable] {
        assert_eq!(error.kind(), RefusalKind::Rule, "{error}");
    }
}
