//! What each event does to a task as people see it, from its submission to its end.
use marvin_domain::{
    Event, Personal,
    task::{
        CancelReason, FailureText, Input, Output, StepResult, TaskCancelled, TaskCompleted, TaskDeadLettered,
        TaskEvent, TaskFailed, TaskHeartbeatLost, TaskRetryScheduled, TaskStarted, TaskStepCompleted, TaskSubmitted,
    },
};
use marvin_projections::{
    Document, Field, Key, Projection,
    tasks::{TaskDocument, TaskStatus, TaskText, Tasks},
};
use serde_json::json;

use crate::{
    journal::document_after,
    samples::{ADA, AGENT, CONVERSATION, TASK, WORKER, at},
};

pub fn submitted(personal: Personal<Input>) -> TaskEvent {
    TaskSubmitted {
        agent_id: AGENT,
        requested_by: ADA,
        conversation_id: Some(CONVERSATION),
        priority: 7,
        deadline: Some(at(900)),
        max_attempts: 2,
        parent: None,
        chain_depth: 0,
        personal,
    }
    .into()
}

pub fn given_input() -> Personal<Input> {
    Personal::Known(Input { input: json!({ "n": 1 }) })
}

pub fn started(attempt: u32) -> TaskEvent {
    TaskStarted { attempt, worker: WORKER }.into()
}

pub fn text(message: &str) -> Personal<FailureText> {
    Personal::Known(FailureText { message: message.into() })
}

pub fn retry_scheduled(attempt: u32) -> TaskEvent {
    TaskRetryScheduled { attempt, retry_at: at(500), code: "busy".into(), personal: text("It is busy") }.into()
}

pub fn completed(personal: Personal<Output>) -> TaskEvent {
    TaskCompleted { attempt: 1, agent_id: AGENT, requested_by: ADA, personal }.into()
}

pub fn done() -> Personal<Output> {
    Personal::Known(Output { output: json!("done") })
}

pub fn failed() -> TaskEvent {
    let (code, personal) = ("broken".into(), text("It broke"));
    TaskFailed { attempt: 1, code, agent_id: AGENT, requested_by: ADA, personal }.into()
}

pub fn dead_lettered() -> TaskEvent {
    let (code, personal) = ("timeout".into(), text("It took too long"));
    TaskDeadLettered { attempt: 2, code, agent_id: AGENT, requested_by: ADA, personal }.into()
}

pub fn step(step: u32) -> TaskEvent {
    let personal = Personal::Known(StepResult { result: json!("kept in the journal") });
    let (kind, name) = ("tool".to_owned(), "look_up".to_owned());
    TaskStepCompleted { attempt: 1, step, kind, name, started_at: at(3), personal }.into()
}

/// The document after these events, recorded at 101, 102 and so on.
pub fn document(events: impl IntoIterator<Item = TaskEvent>) -> TaskDocument {
    document_after::<Tasks>(TASK, events.into_iter().map(Event::Task))
}

pub fn after(events: impl IntoIterator<Item = TaskEvent>) -> TaskDocument {
    document([submitted(given_input())].into_iter().chain(events))
}

pub fn words(output: Option<&str>, error_message: Option<&str>) -> Personal<TaskText> {
    let (output, error_message) = (output.map(|text| json!(text)), error_message.map(str::to_owned));
    Personal::Known(TaskText { input: json!({ "n": 1 }), output, error_message })
}

#[test]
fn only_a_task_that_waits_and_has_a_deadline_is_found_by_it() {
    let waits_until = |events: Vec<TaskEvent>| Tasks::keys(&after(events)).pop().unwrap();
    let deadline = Key::Integer(at(900).timestamp_millis());
    let lost = TaskHeartbeatLost { attempt: 1 }.into();
    for waits in [vec![], vec![started(1), retry_scheduled(1)], vec![started(1), lost]] {
        assert_eq!(waits_until(waits), deadline);
    }
    for end in [completed(done()), failed(), dead_lettered()] {
        assert_eq!(waits_until(vec![started(1), end]), Key::Null);
    }
    let without = TaskDocument { deadline: None, ..after([]) };
    assert_eq!(Tasks::keys(&without).pop(), Some(Key::Null));
}

/// A task whose first attempt runs: the state from which the endings below set out.
fn running() -> TaskDocument {
    after([started(1)])
}

#[test]
fn a_submitted_task_is_queued_and_ready_at_once() {
    let queued = TaskDocument {
        id: TASK,
        agent_id: AGENT,
        requested_by: ADA,
        conversation_id: Some(CONVERSATION),
        status: TaskStatus::Queued,
        priority: 7,
        deadline: Some(at(900)),
        attempt: 0,
        ready_at: Some(at(101)),
        error_code: None,
        steps: 0,
        created_at: at(101),
        started_at: None,
        finished_at: None,
        sequence: 1,
        position: 101,
        personal: words(None, None),
    };
    assert_eq!(after([]), queued);
}

#[test]
fn a_started_task_runs_and_is_no_longer_ready() {
    let (status, started_at) = (TaskStatus::Running, Some(at(102)));
    let expected =
        TaskDocument { status, attempt: 1, ready_at: None, started_at, sequence: 2, position: 102, ..after([]) };
    assert_eq!(running(), expected);
}

#[test]
fn a_step_is_counted() {
    let expected = TaskDocument { steps: 1, sequence: 3, position: 103, ..running() };
    assert_eq!(after([started(1), step(1)]), expected);
    assert_eq!(after([started(1), step(1), step(2)]).steps, 2);
}

#[test]
fn a_lost_heartbeat_makes_the_task_ready_again() {
    let (status, ready_at) = (TaskStatus::Queued, Some(at(103)));
    let expected = TaskDocument { status, ready_at, sequence: 3, position: 103, ..running() };
    assert_eq!(after([started(1), TaskHeartbeatLost { attempt: 1 }.into()]), expected);
}

#[test]
fn a_scheduled_retry_waits_until_it_is_due_and_says_what_went_wrong() {
    let expected = TaskDocument {
        status: TaskStatus::Retrying,
        ready_at: Some(at(500)),
        error_code: Some("busy".into()),
        sequence: 3,
        position: 103,
        personal: words(None, Some("It is busy")),
        ..running()
    };
    assert_eq!(after([started(1), retry_scheduled(1)]), expected);
}

#[test]
fn a_completed_task_holds_its_output() {
    let expected = TaskDocument {
        status: TaskStatus::Completed,
        finished_at: Some(at(103)),
        sequence: 3,
        position: 103,
        personal: words(Some("done"), None),
        ..running()
    };
    assert_eq!(after([started(1), completed(done())]), expected);
}

#[test]
fn a_failed_task_says_what_went_wrong() {
    let expected = TaskDocument {
        status: TaskStatus::Failed,
        error_code: Some("broken".into()),
        finished_at: Some(at(103)),
        sequence: 3,
        position: 103,
        personal: words(None, Some("It broke")),
        ..running()
    };
    assert_eq!(after([started(1), failed()]), expected);
}

#[test]
fn a_task_given_up_is_dead_and_says_what_went_wrong() {
    let expected = TaskDocument {
        status: TaskStatus::Dead,
        error_code: Some("timeout".into()),
        finished_at: Some(at(103)),
        sequence: 3,
        position: 103,
        personal: words(None, Some("It took too long")),
        ..running()
    };
    assert_eq!(after([started(1), dead_lettered()]), expected);
}

#[test]
fn a_cancelled_task_is_over_and_never_ready() {
    let cancelled = TaskCancelled { reason: CancelReason::Requested, agent_id: AGENT, requested_by: ADA };
    let (status, finished_at) = (TaskStatus::Cancelled, Some(at(102)));
    let expected = TaskDocument { status, ready_at: None, finished_at, sequence: 2, position: 102, ..after([]) };
    assert_eq!(after([cancelled.into()]), expected);
}

#[test]
fn a_task_belongs_to_its_requester() {
    assert_eq!(after([]).subject(), Some(ADA));
}

#[test]
fn tasks_are_found_by_agent_requester_conversation_status_priority_and_readiness() {
    assert_eq!(
        Tasks::FIELDS,
        [
            Field::id("agent_id"),
            Field::id("requested_by"),
            Field::id("conversation_id").rare(),
            Field::text("status"),
            Field::integer("priority"),
            Field::time("ready_at"),
            Field::time("waits_until").rare(),
        ]
    );
    let ids = [AGENT, ADA, CONVERSATION].map(Key::from);
    let time = |second| Key::Integer(at(second).timestamp_millis());
    let keys = |status: &str, times: [Key; 2]| [&ids[..], &[Key::from(status), Key::Integer(7)], &times].concat();
    assert_eq!(Tasks::keys(&after([])), keys("queued", [time(101), time(900)]));
    assert_eq!(Tasks::keys(&running()), keys("running", [Key::Null, Key::Null]));
    let alone = TaskDocument { conversation_id: None, ..running() };
    assert_eq!(Tasks::keys(&alone)[2], Key::Null);
}
