//! What holds for all process managers, and the cancelling of an erased person's tasks.
use chrono::{DateTime, Utc};
use marvin_domain::{
    Actor, AggregateKind, Directed, Envelope, Event, Metadata, StreamId,
    process::{Answer, CancelTasksOfErased, ProcessManager, Question, all},
    task::{CancelReason, TaskCommand},
};
use uuid::Uuid;

use crate::samples::{self, ADA, AGENT, BOB, CONVERSATION, TASK, at};

pub const EVENT_ID: Uuid = Uuid::from_u128(0x0199_1111_2222_7000_8000_0000_0000_0e1d);

/// The event as the log would hand it on, of the stream `id`.
pub fn recorded(id: Uuid, event: Event) -> Envelope {
    let recorded_at: DateTime<Utc> = at(5);
    Envelope {
        position: 40,
        stream: StreamId { kind: event.kind(), id },
        sequence: 4,
        event_id: EVENT_ID,
        command_id: CONVERSATION,
        recorded_at,
        metadata: Metadata {
            actor: Actor::System,
            subject: None,
            correlation: CONVERSATION,
            causation: None,
            digest: None,
        },
        event,
    }
}

fn erased() -> Envelope {
    let erasure = samples::of(AggregateKind::User).into_iter().find(|event| event.event_type() == "erased");
    recorded(ADA, erasure.unwrap())
}

#[test]
fn the_names_under_which_process_managers_keep_their_place_stay() {
    let names: Vec<&str> = all().iter().map(|manager| manager.name()).collect();
    assert_eq!(
        names,
        ["notify_requester", "cancel_tasks_of_erased", "notify_schedule_owner", "remove_schedules_of_erased"]
    );
}

#[test]
fn each_event_concerns_only_the_process_managers_named_here() {
    let mut concerns = String::new();
    for event in samples::all() {
        let event = recorded(TASK, event);
        for manager in all().iter().filter(|manager| manager.ask(&event).is_some()) {
            let (kind, event_type) = (event.stream.kind.as_str(), event.event.event_type());
            concerns.push_str(&format!("{kind}.{event_type} -> {}\n", manager.name()));
        }
    }
    insta::assert_snapshot!(concerns, @r#"
    user.erased -> cancel_tasks_of_erased
    user.erased -> remove_schedules_of_erased
    task.completed -> notify_requester
    task.failed -> notify_requester
    task.dead_lettered -> notify_requester
    schedule.paused -> notify_schedule_owner
    "#);
}

#[test]
fn an_erased_persons_open_tasks_are_asked_for() {
    assert_eq!(CancelTasksOfErased.ask(&erased()), Some(Question::OpenTasksOf(ADA)));
}

#[test]
fn every_open_task_of_an_erased_person_is_cancelled() {
    let cancel = |task| Directed::new(task, TaskCommand::Cancel { reason: CancelReason::RequesterErased });
    let commands = CancelTasksOfErased.react(&erased(), Answer::OpenTasks(vec![TASK, BOB]));
    assert_eq!(commands, [cancel(TASK), cancel(BOB)]);
    assert_eq!(CancelTasksOfErased.react(&erased(), Answer::OpenTasks(Vec::new())), []);
}

#[test]
fn a_reemitted_erasure_leads_to_the_same_commands() {
    let react = || CancelTasksOfErased.react(&erased(), Answer::OpenTasks(vec![TASK]));
    assert_eq!(react(), react());
}

#[test]
fn an_answer_to_another_question_leads_to_no_command() {
    assert_eq!(CancelTasksOfErased.react(&erased(), Answer::AgentName(AGENT.to_string())), []);
}
