//! Given these events, when this command, then that: cqrs-es's test framework in the words of our rules.
use cqrs_es::{
    Aggregate, DomainEvent,
    test::{AggregateResultValidator, AggregateTestExecutor, TestFramework},
};
use marvin_domain::{
    agent::{Agent, AgentEvent},
    instance::{Instance, InstanceEvent},
    notification::{Notification, NotificationEvent},
    projection::{Projection, ProjectionEvent},
    schedule::{ScheduleEvent, ScheduleState},
    secret::{Secret, SecretEvent},
    task::{Task, TaskEvent},
    user::{User, UserEvent},
};
use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

/// Leads from an event back to its aggregate, so that the given events alone name what is under test.
pub trait EventOf: DomainEvent {
    type Aggregate: Aggregate<Event = Self, Services = ()>;
}

impl EventOf for InstanceEvent {
    type Aggregate = Instance;
}
impl EventOf for UserEvent {
    type Aggregate = User;
}
impl EventOf for AgentEvent {
    type Aggregate = Agent;
}
impl EventOf for TaskEvent {
    type Aggregate = Task;
}
impl EventOf for NotificationEvent {
    type Aggregate = Notification;
}
impl EventOf for ProjectionEvent {
    type Aggregate = Projection;
}
impl EventOf for ScheduleEvent {
    type Aggregate = ScheduleState;
}
impl EventOf for SecretEvent {
    type Aggregate = Secret;
}

pub struct Given<A: Aggregate>(AggregateTestExecutor<A>);
pub struct When<A: Aggregate>(AggregateResultValidator<A>);

pub fn given<E: EventOf>(events: impl IntoIterator<Item = E>) -> Given<E::Aggregate> {
    Given(TestFramework::with(()).given(events.into_iter().collect()))
}

pub fn given_nothing<A: Aggregate<Services = ()>>() -> Given<A> {
    Given(TestFramework::with(()).given_no_previous_events())
}

impl<A: Aggregate> Given<A> {
    pub fn when(self, command: A::Command) -> When<A> {
        When(self.0.when(command))
    }
}

impl<A: Aggregate<Error: PartialEq>> When<A> {
    pub fn then(self, events: impl IntoIterator<Item: Into<A::Event>>) {
        self.0.then_expect_events(events.into_iter().map(Into::into).collect());
    }

    pub fn then_nothing(self) {
        self.0.then_expect_events(Vec::new());
    }

    pub fn then_error(self, error: A::Error) {
        self.0.then_expect_error(error);
    }

    pub fn result(self) -> Result<Vec<A::Event>, A::Error> {
        self.0.inspect_result()
    }
}

/// The state after these events.
pub fn state_after<E: EventOf>(events: impl IntoIterator<Item = E>) -> E::Aggregate {
    events.into_iter().fold(E::Aggregate::default(), |mut state, event| {
        state.apply(event);
        state
    })
}

/// The answer of a decision, polled once: a decision waits for nothing.
pub fn decided<T>(decision: impl Future<Output = T>) -> T {
    match pin!(decision).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a decision waited for something"),
    }
}
