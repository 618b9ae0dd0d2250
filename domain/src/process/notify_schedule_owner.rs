//! When a schedule is paused because its firings fail, its owner is told.
use crate::{
    Directed, Envelope, Event, ids,
    notification::{Link, Message, NotificationCommand, Severity},
    process::{Answer, ProcessManager, Question},
    schedule::{FAILURES_MAX, Failing, PauseReason, ScheduleEvent, SchedulePaused},
};

#[derive(Debug)]
pub struct NotifyScheduleOwner;

fn given_up(event: &Event) -> Option<&SchedulePaused> {
    match event {
        Event::Schedule(ScheduleEvent::Paused(paused)) if paused.reason == PauseReason::RepeatedFailure => Some(paused),
        _ => None,
    }
}

fn why(failure: Option<Failing>) -> &'static str {
    match failure {
        Some(Failing::AgentAbsent) => "the agent does not exist",
        Some(Failing::AgentRetired) => "the agent is retired",
        Some(Failing::InputRefused) => "the agent refuses the input",
        Some(Failing::TaskFailed) | None => "the task could not be done",
    }
}

impl ProcessManager for NotifyScheduleOwner {
    fn name(&self) -> &'static str {
        "notify_schedule_owner"
    }

    fn ask(&self, event: &Envelope) -> Option<Question> {
        given_up(&event.event).map(|paused| Question::AgentName(paused.agent_id))
    }

    fn react(&self, event: &Envelope, answer: Answer) -> Vec<Directed> {
        let (Some(paused), Answer::AgentName(agent)) = (given_up(&event.event), answer) else { return Vec::new() };
        let why = why(paused.failure);
        let message = Message {
            title: format!("Your schedule for {agent} was paused"),
            body: format!(
                "It failed {FAILURES_MAX} times in a row; the last time, {why}. Mend what is wrong, then resume it."
            ),
        };
        let raise = NotificationCommand::Raise {
            recipient: paused.owner,
            severity: Severity::Critical,
            link: Link { kind: "schedule".into(), id: event.stream.id },
            message,
        };
        vec![Directed::new(ids::derived(event.event_id, self.name()), raise)]
    }
}
