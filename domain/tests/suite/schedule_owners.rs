//! What owners of schedules are told, and what becomes of the schedules of an erased one.
use marvin_domain::{
    Command, Directed, Event,
    notification::{NotificationCommand, Severity},
    process::{Answer, NotifyScheduleOwner, ProcessManager, Question, RemoveSchedulesOfErased},
    schedule::{Failing, PauseReason, RemoveReason, ScheduleCommand, SchedulePaused},
    user::{UserErased, UserEvent},
};

use crate::{
    process::recorded,
    samples::{self, ADA, AGENT, BOB, TASK},
};

fn paused(reason: PauseReason, failure: Option<Failing>) -> Event {
    Event::Schedule(SchedulePaused { reason, owner: ADA, agent_id: AGENT, failure }.into())
}

#[test]
fn an_owner_is_told_when_failures_pause_a_schedule() {
    let event = recorded(TASK, paused(PauseReason::RepeatedFailure, Some(Failing::AgentRetired)));
    assert_eq!(NotifyScheduleOwner.ask(&event), Some(Question::AgentName(AGENT)));
    let told = NotifyScheduleOwner.react(&event, Answer::AgentName("Scribe".into()));
    let [
        Directed {
            command: Command::Notification(NotificationCommand::Raise { recipient, severity, link, message }),
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((*recipient, *severity, &*link.kind, link.id), (ADA, Severity::Critical, "schedule", TASK));
    assert_eq!(message.title, "Your schedule for Scribe was paused");
    assert!(message.body.contains("5 times") && message.body.contains("retired"), "{}", message.body);
    assert_eq!(
        told,
        NotifyScheduleOwner.react(&event, Answer::AgentName("Scribe".into())),
        "the same notification again"
    );
}

#[test]
fn who_pauses_a_schedule_is_not_told_of_it() {
    assert_eq!(NotifyScheduleOwner.ask(&recorded(TASK, paused(PauseReason::Requested, None))), None);
    let others = samples::all().into_iter().filter(|event| event.event_type() != "paused");
    assert!(others.into_iter().all(|event| NotifyScheduleOwner.ask(&recorded(TASK, event)).is_none()));
}

#[test]
fn the_schedules_of_an_erased_person_are_removed() {
    let erased = recorded(ADA, Event::User(UserEvent::Erased(UserErased {})));
    assert_eq!(RemoveSchedulesOfErased.ask(&erased), Some(Question::SchedulesOf(ADA)));
    let remove = |id| Directed::new(id, ScheduleCommand::Remove { reason: RemoveReason::OwnerErased });
    assert_eq!(RemoveSchedulesOfErased.react(&erased, Answer::Schedules(vec![TASK, BOB])), [remove(TASK), remove(BOB)]);
    let others = samples::all().into_iter().filter(|event| event.event_type() != "erased");
    assert!(others.into_iter().all(|event| RemoveSchedulesOfErased.ask(&recorded(ADA, event)).is_none()));
}
