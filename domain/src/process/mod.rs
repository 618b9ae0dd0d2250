//! Process managers: pure reactions that turn one event into commands.
//!
//! A reaction may need to know something that the event does not say; it asks one question, and the runtime answers it from
//! streams or views. Commands get ids derived from the event, so a re-emission is the same command.
use uuid::Uuid;

use crate::{Directed, Envelope};

mod cancel_tasks_of_erased;
mod notify_requester;
mod notify_schedule_owner;
mod remove_schedules_of_erased;
pub use cancel_tasks_of_erased::CancelTasksOfErased;
pub use notify_requester::NotifyRequester;
pub use notify_schedule_owner::NotifyScheduleOwner;
pub use remove_schedules_of_erased::RemoveSchedulesOfErased;

/// What a process manager may ask before it reacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    AgentName(Uuid),
    /// Tasks of this requester that have not ended, as of the event's position at least.
    OpenTasksOf(Uuid),
    /// Schedules of this owner that are not removed, as of the event's position at least.
    SchedulesOf(Uuid),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    AgentName(String),
    OpenTasks(Vec<Uuid>),
    Schedules(Vec<Uuid>),
}

pub trait ProcessManager: Send + Sync {
    /// Stable: it names the checkpoint and is part of derived ids.
    fn name(&self) -> &'static str;
    /// What must be known to react, or none when the event is of no concern.
    fn ask(&self, event: &Envelope) -> Option<Question>;
    /// The commands that follow; each one is dispatched by itself, in order.
    fn react(&self, event: &Envelope, answer: Answer) -> Vec<Directed>;
}

/// The one registration of process managers.
pub fn all() -> Vec<Box<dyn ProcessManager>> {
    vec![
        Box::new(NotifyRequester),
        Box::new(CancelTasksOfErased),
        Box::new(NotifyScheduleOwner),
        Box::new(RemoveSchedulesOfErased),
    ]
}
