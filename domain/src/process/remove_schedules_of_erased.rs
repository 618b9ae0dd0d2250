//! When a person is erased, their schedules end.
use crate::{
    Directed, Envelope, Event,
    process::{Answer, ProcessManager, Question},
    schedule::{RemoveReason, ScheduleCommand},
    user::UserEvent,
};

#[derive(Debug)]
pub struct RemoveSchedulesOfErased;

impl ProcessManager for RemoveSchedulesOfErased {
    fn name(&self) -> &'static str {
        "remove_schedules_of_erased"
    }

    fn ask(&self, event: &Envelope) -> Option<Question> {
        matches!(event.event, Event::User(UserEvent::Erased(_))).then_some(Question::SchedulesOf(event.stream.id))
    }

    fn react(&self, _event: &Envelope, answer: Answer) -> Vec<Directed> {
        let Answer::Schedules(schedules) = answer else { return Vec::new() };
        let remove = || ScheduleCommand::Remove { reason: RemoveReason::OwnerErased };
        schedules.into_iter().map(|schedule| Directed::new(schedule, remove())).collect()
    }
}
