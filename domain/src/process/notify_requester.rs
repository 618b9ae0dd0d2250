//! When a task ends, its requester is told.
use crate::{
    Directed, Envelope, Event, ids,
    notification::{Link, Message, NotificationCommand, Severity},
    process::{Answer, ProcessManager, Question},
    task::{CancelReason, TaskEvent},
};
use serde_json::Value;
use uuid::Uuid;

/// Longest body, in characters: an inbox shows the gist, the task the rest.
const BODY_CHARS_MAX: usize = 500;

#[derive(Debug)]
pub struct NotifyRequester;

struct End<'a> {
    agent_id: Uuid,
    requested_by: Uuid,
    severity: Severity,
    verb: &'a str,
    body: &'a str,
}

/// How a task ended, or none when the event does not end one or nobody is left to tell.
fn end(event: &Event) -> Option<End<'_>> {
    let Event::Task(event) = event else { return None };
    let (agent_id, requested_by, severity, verb, body) = match event {
        TaskEvent::Completed(e) => {
            let summary = e.personal.known().and_then(|p| p.output.get("summary")).and_then(Value::as_str);
            (e.agent_id, e.requested_by, Severity::Success, "finished your task", summary.unwrap_or_default())
        }
        TaskEvent::Failed(e) => {
            let message = e.personal.known().map_or("", |p| &p.message);
            (e.agent_id, e.requested_by, Severity::Warning, "could not do your task", message)
        }
        TaskEvent::DeadLettered(e) => {
            let message = e.personal.known().map_or("", |p| &p.message);
            (e.agent_id, e.requested_by, Severity::Critical, "gave up your task after several attempts", message)
        }
        TaskEvent::Cancelled(e) if e.reason != CancelReason::RequesterErased => {
            (e.agent_id, e.requested_by, Severity::Info, "will not do your task: it was cancelled", "")
        }
        _ => return None,
    };
    Some(End { agent_id, requested_by, severity, verb, body })
}

impl ProcessManager for NotifyRequester {
    fn name(&self) -> &'static str {
        "notify_requester"
    }

    fn ask(&self, event: &Envelope) -> Option<Question> {
        end(&event.event).map(|end| Question::AgentName(end.agent_id))
    }

    fn react(&self, event: &Envelope, answer: Answer) -> Vec<Directed> {
        let (Some(end), Answer::AgentName(agent)) = (end(&event.event), answer) else { return Vec::new() };
        let message =
            Message { title: format!("{agent} {}", end.verb), body: end.body.chars().take(BODY_CHARS_MAX).collect() };
        let raise = NotificationCommand::Raise {
            recipient: end.requested_by,
            severity: end.severity,
            link: Link { kind: "task".into(), id: event.stream.id },
            message,
        };
        vec![Directed::new(ids::derived(event.event_id, self.name()), raise)]
    }
}
