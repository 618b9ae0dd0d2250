//! One example of every event: a new event type does not compile until it has one here.
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Event, Name, Personal,
    agent::{AgentChanged, AgentCreated, AgentEvent, AgentPaused, AgentResumed, AgentRetired, Limits},
    channel::{ChannelEvent, ChannelKeysDisclosed},
    instance::{AdministratorAdded, AdministratorRemoved, InstanceEvent, InstanceSetUp},
    notification::{Link, Message, NotificationEvent, NotificationRaised, NotificationRead, Severity},
    projection::{ProjectionEvent, ProjectionSkipped, Reason},
    schedule::{
        Failing, Missed, NewWords, Outcome, Overlap, Passed, PauseReason, Policies, RemoveReason, ScheduleChanged,
        ScheduleCreated, ScheduleEvent, ScheduleFired, SchedulePaused, ScheduleReleased, ScheduleRemoved,
        ScheduleResumed, ScheduleTaskEnded, TaskEnd, Timing, When, Words,
    },
    secret::{SecretEvent, SecretName, SecretRemoved, SecretSet},
    task::{
        CancelReason, FailureText, Input, Output, StepResult, TaskCancelled, TaskCompleted, TaskDeadLettered,
        TaskEvent, TaskFailed, TaskHeartbeatLost, TaskRetried, TaskRetryScheduled, TaskStarted, TaskStepCompleted,
        TaskSubmitted,
    },
    user::{Profile, Role, UserErased, UserEvent, UserRegistered},
};
use serde_json::json;
use uuid::Uuid;

/// Stands in every personal field of every example, and must be found nowhere else.
pub const MARKER: &str = "planted 7f3a";

pub const ADA: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_00a1);
pub const BOB: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_00b2);
pub const AGENT: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0a9e);
pub const TASK: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_7a5c);
pub const WORKER: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_3042);
pub const CONVERSATION: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_c044);
pub const CREDENTIAL: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_c4ed);

/// A moment of the examples' day.
pub fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + second, 250_000_000).unwrap()
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn planted(field: &str) -> String {
    format!("{field} {MARKER}")
}

/// Lists an aggregate's examples. The match is what makes the list complete.
macro_rules! samples {
    ($list:ident of $event:ident { $($variant:ident => $sample:expr,)+ }) => {
        pub fn $list() -> Vec<$event> {
            let complete = |event: &$event| match event { $($event::$variant(_) => ()),+ };
            let events = vec![$($event::$variant($sample)),+];
            events.iter().for_each(complete);
            events
        }
    };
}

samples! {
    instance of InstanceEvent {
        SetUp => InstanceSetUp { administrator: ADA },
        AdministratorAdded => AdministratorAdded { user: BOB },
        AdministratorRemoved => AdministratorRemoved { user: ADA },
    }
}

samples! {
    user of UserEvent {
        Registered => UserRegistered {
            roles: [Role::Operator, Role::Admin].into(),
            credential: CREDENTIAL,
            personal: Personal::Known(Profile { email: planted("email"), display_name: name(&planted("name")) }),
        },
        Erased => UserErased {},
    }
}

samples! {
    agent of AgentEvent {
        Created => AgentCreated {
            name: name("Scribe"),
            description: "Writes things down".into(),
            kind: "rules".into(),
            config: json!({ "level": 0.95, "rules": [] }).into(),
            limits: Limits::default(),
        },
        Changed => AgentChanged {
            name: Some(name("Oracle")),
            description: Some("Tells what comes".into()),
            config: Some(json!({ "horizon": 12 }).into()),
            limits: Some(Limits { max_attempts: 2, ..Limits::default() }),
        },
        Paused => AgentPaused {},
        Resumed => AgentResumed {},
        Retired => AgentRetired {},
    }
}

fn failure_text() -> Personal<FailureText> {
    Personal::Known(FailureText { message: planted("message") })
}

samples! {
    task of TaskEvent {
        Submitted => TaskSubmitted {
            agent_id: AGENT,
            requested_by: ADA,
            conversation_id: Some(CONVERSATION),
            priority: 7,
            deadline: Some(at(3_600)),
            max_attempts: 3,
            parent: Some(TASK),
            chain_depth: 1,
            personal: Personal::Known(Input { input: json!({ "message": planted("input") }) }),
        },
        Started => TaskStarted { attempt: 1, worker: WORKER },
        StepCompleted => TaskStepCompleted {
            attempt: 1,
            step: 1,
            kind: "tool".into(),
            name: "look_up".into(),
            started_at: at(2),
            personal: Personal::Known(StepResult { result: json!([planted("result")]) }),
        },
        HeartbeatLost => TaskHeartbeatLost { attempt: 1 },
        RetryScheduled => TaskRetryScheduled {
            attempt: 2,
            retry_at: at(30),
            code: "unreachable".into(),
            personal: failure_text(),
        },
        Completed => TaskCompleted {
            attempt: 3,
            agent_id: AGENT,
            requested_by: ADA,
            personal: Personal::Known(Output { output: json!({ "summary": planted("output") }) }),
        },
        Failed => TaskFailed {
            attempt: 3,
            code: "refused".into(),
            agent_id: AGENT,
            requested_by: ADA,
            personal: failure_text(),
        },
        DeadLettered => TaskDeadLettered {
            attempt: 3,
            code: "timeout".into(),
            agent_id: AGENT,
            requested_by: ADA,
            personal: failure_text(),
        },
        Cancelled => TaskCancelled { reason: CancelReason::RequesterErased, agent_id: AGENT, requested_by: ADA },
        Retried => TaskRetried { attempts: Some(3) },
    }
}

samples! {
    notification of NotificationEvent {
        Raised => NotificationRaised {
            recipient: ADA,
            severity: Severity::Warning,
            link: Link { kind: "task".into(), id: TASK },
            personal: Personal::Known(Message { title: planted("title"), body: planted("body") }),
        },
        Read => NotificationRead { recipient: ADA },
    }
}

samples! {
    projection of ProjectionEvent {
        Skipped => ProjectionSkipped {
            name: "tasks".into(),
            version: 2,
            position: 1_042,
            administrator: ADA,
            personal: Personal::Known(Reason { reason: planted("reason") }),
        },
    }
}

samples! {
    channel of ChannelEvent {
        KeysDisclosed => ChannelKeysDisclosed {
            channel: "events".into(),
            reader: BOB,
            first_epoch: 497_054,
            last_epoch: 497_222,
        },
    }
}

samples! {
    schedule of ScheduleEvent {
        Created => ScheduleCreated {
            owner: ADA,
            agent_id: AGENT,
            timing: Timing { when: When::Cron("0 9 * * MON".into()), timezone: "Europe/Zurich".into() },
            policies: Policies { jitter_s: 60, overlap: Overlap::Queue, missed: Missed::One },
            next_at: at(3_600),
            personal: Personal::Known(Words { name: name(&planted("name")), input: json!([planted("input")]) }),
        },
        Changed => ScheduleChanged {
            agent_id: Some(WORKER),
            timing: Some(Timing { when: When::At(at(7_200)), timezone: "UTC".into() }),
            policies: Some(Policies { jitter_s: 0, overlap: Overlap::Allow, missed: Missed::All }),
            has_input: true,
            next_at: Some(at(7_200)),
            personal: Personal::Known(NewWords { name: Some(name(&planted("name"))), input: Some(json!(planted("input"))) }),
        },
        Paused => SchedulePaused {
            reason: PauseReason::RepeatedFailure,
            owner: ADA,
            agent_id: AGENT,
            failure: Some(Failing::AgentRetired),
        },
        Resumed => ScheduleResumed { next_at: Some(at(7_200)) },
        Fired => ScheduleFired {
            planned_at: at(7_200),
            is_manual: false,
            outcome: Outcome::Submitted { task_id: TASK },
            missed_since: Some(at(3_600)),
            next_at: Some(at(9_000)),
        },
        Released => ScheduleReleased {
            planned_at: at(3_600),
            outcome: Outcome::PassedOver { reason: Passed::InputRefused },
        },
        TaskEnded => ScheduleTaskEnded { task_id: TASK, end: TaskEnd::Failed },
        Removed => ScheduleRemoved { reason: RemoveReason::OwnerErased },
    }
}

samples! {
    secret of SecretEvent {
        Set => SecretSet { name: SecretName::parse("receiver-key").unwrap(), value: CREDENTIAL },
        Removed => SecretRemoved { name: SecretName::parse("receiver-key").unwrap() },
    }
}

/// The examples of one aggregate.
pub fn of(kind: AggregateKind) -> Vec<Event> {
    match kind {
        AggregateKind::Instance => instance().into_iter().map(Event::Instance).collect(),
        AggregateKind::User => user().into_iter().map(Event::User).collect(),
        AggregateKind::Agent => agent().into_iter().map(Event::Agent).collect(),
        AggregateKind::Task => task().into_iter().map(Event::Task).collect(),
        AggregateKind::Notification => notification().into_iter().map(Event::Notification).collect(),
        AggregateKind::Projection => projection().into_iter().map(Event::Projection).collect(),
        AggregateKind::Channel => channel().into_iter().map(Event::Channel).collect(),
        AggregateKind::Schedule => schedule().into_iter().map(Event::Schedule).collect(),
        AggregateKind::Secret => secret().into_iter().map(Event::Secret).collect(),
    }
}

pub fn all() -> Vec<Event> {
    AggregateKind::ALL.iter().copied().flat_map(of).collect()
}
