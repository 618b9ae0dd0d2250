//! When a person is erased, their open tasks are cancelled.
use crate::{
    Directed, Envelope, Event,
    process::{Answer, ProcessManager, Question},
    task::{CancelReason, TaskCommand},
    user::UserEvent,
};

#[derive(Debug)]
pub struct CancelTasksOfErased;

impl ProcessManager for CancelTasksOfErased {
    fn name(&self) -> &'static str {
        "cancel_tasks_of_erased"
    }

    fn ask(&self, event: &Envelope) -> Option<Question> {
        matches!(event.event, Event::User(UserEvent::Erased(_))).then_some(Question::OpenTasksOf(event.stream.id))
    }

    fn react(&self, _event: &Envelope, answer: Answer) -> Vec<Directed> {
        let Answer::OpenTasks(tasks) = answer else { return Vec::new() };
        let cancel = || TaskCommand::Cancel { reason: CancelReason::RequesterErased };
        tasks.into_iter().map(|task| Directed::new(task, cancel())).collect()
    }
}
