//! When a task ends its requester is told, in words that say how.
use marvin_domain::{
    Command, Directed, Event, Personal,
    ids::derived,
    notification::{Link, NotificationCommand, Severity},
    process::{Answer, NotifyRequester, ProcessManager, Question},
    task::{CancelReason, FailureText, Output, TaskCancelled, TaskCompleted, TaskDeadLettered, TaskEvent, TaskFailed},
};
use serde_json::{Value, json};

use crate::{
    process::{EVENT_ID, recorded},
    samples::{self, ADA, AGENT, BOB, TASK},
};

fn completed(output: Value) -> TaskEvent {
    TaskCompleted { attempt: 1, agent_id: AGENT, requested_by: ADA, personal: Personal::Known(Output { output }) }
        .into()
}

fn failed(personal: Personal<FailureText>) -> TaskEvent {
    TaskFailed { attempt: 1, code: "broken".into(), agent_id: AGENT, requested_by: ADA, personal }.into()
}

fn dead_lettered(personal: Personal<FailureText>) -> TaskEvent {
    TaskDeadLettered { attempt: 5, code: "broken".into(), agent_id: AGENT, requested_by: ADA, personal }.into()
}

fn cancelled(reason: CancelReason) -> TaskEvent {
    TaskCancelled { reason, agent_id: AGENT, requested_by: ADA }.into()
}

fn saying(message: &str) -> Personal<FailureText> {
    Personal::Known(FailureText { message: message.into() })
}

fn react(event: TaskEvent) -> Vec<Directed> {
    NotifyRequester.react(&recorded(TASK, Event::Task(event)), Answer::AgentName("Scribe".into()))
}

/// The severity, title and body of the one notification that follows.
fn told(event: TaskEvent) -> (Severity, String, String) {
    let commands = react(event);
    let [
        Directed {
            command: Command::Notification(NotificationCommand::Raise { recipient, severity, link, message }),
            ..
        },
    ] = commands.as_slice()
    else {
        panic!("{commands:?}")
    };
    assert_eq!((*recipient, link), (ADA, &Link { kind: "task".into(), id: TASK }));
    (*severity, message.title.clone(), message.body.clone())
}

fn words(severity: Severity, title: &str, body: &str) -> (Severity, String, String) {
    (severity, title.to_owned(), body.to_owned())
}

#[test]
fn a_completed_task_is_told_with_its_summary() {
    let expected = words(Severity::Success, "Scribe finished your task", "All is well");
    assert_eq!(told(completed(json!({ "summary": "All is well", "more": 1 }))), expected);
}

#[test]
fn a_completed_task_without_a_summary_is_told_without_a_body() {
    for output in [json!({ "n": 1 }), json!({ "summary": 7 }), json!("summary"), Value::Null] {
        assert_eq!(told(completed(output)), words(Severity::Success, "Scribe finished your task", ""));
    }
}

#[test]
fn a_failed_task_is_told_with_its_message() {
    let expected = words(Severity::Warning, "Scribe could not do your task", "It broke");
    assert_eq!(told(failed(saying("It broke"))), expected);
}

#[test]
fn a_task_given_up_is_told_as_critical() {
    let expected = words(Severity::Critical, "Scribe gave up your task after several attempts", "It broke");
    assert_eq!(told(dead_lettered(saying("It broke"))), expected);
}

#[test]
fn a_cancelled_task_is_told_without_a_body() {
    let expected = words(Severity::Info, "Scribe will not do your task: it was cancelled", "");
    assert_eq!(told(cancelled(CancelReason::Requested)), expected);
}

#[test]
fn an_erased_requester_is_told_nothing() {
    let event = cancelled(CancelReason::RequesterErased);
    assert_eq!(NotifyRequester.ask(&recorded(TASK, Event::Task(event.clone()))), None);
    assert_eq!(react(event), []);
}

#[test]
fn an_event_that_ends_no_task_tells_nobody() {
    for event in samples::all().into_iter().map(|event| recorded(TASK, event)) {
        if NotifyRequester.ask(&event).is_none() {
            assert_eq!(NotifyRequester.react(&event, Answer::AgentName("Scribe".into())), [], "{event:?}");
        }
    }
}

#[test]
fn what_can_no_longer_be_read_is_not_quoted() {
    let erased = TaskCompleted { attempt: 1, agent_id: AGENT, requested_by: ADA, personal: Personal::Erased };
    assert_eq!(told(erased.into()).2, "");
    assert_eq!(told(failed(Personal::Erased)).2, "");
    assert_eq!(told(dead_lettered(Personal::Erased)).2, "");
}

#[test]
fn a_body_is_cut_at_500_characters() {
    let message = "ä".repeat(501);
    assert_eq!(told(failed(saying(&message))).2, "ä".repeat(500));
    assert_eq!(told(completed(json!({ "summary": message }))).2, "ä".repeat(500));
    assert_eq!(told(failed(saying(&"ä".repeat(500)))).2, "ä".repeat(500));
}

#[test]
fn the_agents_name_is_asked_for() {
    for event in
        [completed(Value::Null), failed(saying("")), dead_lettered(saying("")), cancelled(CancelReason::Requested)]
    {
        assert_eq!(NotifyRequester.ask(&recorded(TASK, Event::Task(event))), Some(Question::AgentName(AGENT)));
    }
}

#[test]
fn a_reemitted_end_raises_the_same_notification() {
    let first = react(completed(Value::Null));
    assert_eq!(first, react(completed(Value::Null)));
    assert_eq!(first[0].stream.id, derived(EVENT_ID, "notify_requester"));
}

#[test]
fn another_end_raises_another_notification() {
    let mut later = recorded(TASK, Event::Task(completed(Value::Null)));
    later.event_id = BOB;
    let again = NotifyRequester.react(&later, Answer::AgentName("Scribe".into()));
    assert_ne!(again[0].stream, react(completed(Value::Null))[0].stream);
}

#[test]
fn an_answer_to_another_question_leads_to_no_command() {
    let event = recorded(TASK, Event::Task(completed(Value::Null)));
    assert_eq!(NotifyRequester.react(&event, Answer::OpenTasks(vec![TASK])), []);
}
