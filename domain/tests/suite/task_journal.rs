//! The events and commands from which the task tests tell their stories.
use chrono::{DateTime, Utc};
use marvin_domain::{
    Personal,
    task::{
        CancelReason, Failure, FailureText, Input, Output, StepResult, Submission, TaskCancelled, TaskCommand,
        TaskCompleted, TaskDeadLettered, TaskEvent, TaskFailed, TaskHeartbeatLost, TaskRetried, TaskRetryScheduled,
        TaskStarted, TaskStepCompleted, TaskSubmitted,
    },
};
use serde_json::{Value, json};

use crate::samples::{ADA, AGENT, WORKER, at};

/// When a scheduled retry of these stories is due.
pub fn due() -> DateTime<Utc> {
    at(60)
}

pub fn submission(max_attempts: u32) -> Submission {
    Submission {
        agent_id: AGENT,
        requested_by: ADA,
        input: json!({ "n": 1 }),
        conversation_id: None,
        priority: 5,
        deadline: None,
        max_attempts,
        parent: None,
        chain_depth: 0,
    }
}

pub fn submitted(max_attempts: u32) -> TaskEvent {
    TaskSubmitted {
        agent_id: AGENT,
        requested_by: ADA,
        conversation_id: None,
        priority: 5,
        deadline: None,
        max_attempts,
        parent: None,
        chain_depth: 0,
        personal: Personal::Known(Input { input: json!({ "n": 1 }) }),
    }
    .into()
}

pub fn started(attempt: u32) -> TaskEvent {
    TaskStarted { attempt, worker: WORKER }.into()
}

pub fn step_completed(attempt: u32, step: u32) -> TaskEvent {
    let personal = Personal::Known(StepResult { result: json!(step) });
    let (kind, name) = ("tool".into(), "look_up".into());
    TaskStepCompleted { attempt, step, kind, name, started_at: at(1), personal }.into()
}

pub fn heartbeat_lost(attempt: u32) -> TaskEvent {
    TaskHeartbeatLost { attempt }.into()
}

fn text(message: &str) -> Personal<FailureText> {
    Personal::Known(FailureText { message: message.into() })
}

pub fn retry_scheduled(attempt: u32) -> TaskEvent {
    TaskRetryScheduled { attempt, retry_at: due(), code: "broken".into(), personal: text("It broke") }.into()
}

pub fn completed(attempt: u32) -> TaskEvent {
    let personal = Personal::Known(Output { output: json!("done") });
    TaskCompleted { attempt, agent_id: AGENT, requested_by: ADA, personal }.into()
}

pub fn failed(attempt: u32) -> TaskEvent {
    let (code, personal) = ("broken".into(), text("It broke"));
    TaskFailed { attempt, code, agent_id: AGENT, requested_by: ADA, personal }.into()
}

pub fn dead_lettered(attempt: u32) -> TaskEvent {
    let (code, personal) = ("broken".into(), text("It broke"));
    TaskDeadLettered { attempt, code, agent_id: AGENT, requested_by: ADA, personal }.into()
}

pub fn given_up_for_lost(attempt: u32) -> TaskEvent {
    let (code, personal) = ("heartbeat_lost".into(), text("the worker vanished during the last attempt"));
    TaskDeadLettered { attempt, code, agent_id: AGENT, requested_by: ADA, personal }.into()
}

pub fn cancelled() -> TaskEvent {
    TaskCancelled { reason: CancelReason::Requested, agent_id: AGENT, requested_by: ADA }.into()
}

/// Gives `attempts` more.
pub fn retried(attempts: u32) -> TaskEvent {
    TaskRetried { attempts: Some(attempts) }.into()
}

pub fn start() -> TaskCommand {
    TaskCommand::Start { worker: WORKER, at: due() }
}

pub fn complete_step(attempt: u32, step: u32) -> TaskCommand {
    let (kind, name, result) = ("tool".into(), "look_up".into(), Value::from(step));
    TaskCommand::CompleteStep { attempt, step, kind, name, started_at: at(1), result }
}

pub fn tell_step(step: u32) -> TaskCommand {
    TaskCommand::TellStep { step, kind: "callback".into(), name: "answer".into(), at: at(1), result: json!(step) }
}

pub fn complete(attempt: u32) -> TaskCommand {
    TaskCommand::Complete { attempt, output: json!("done") }
}

/// An attempt fails; another one may help.
pub fn fail(attempt: u32) -> TaskCommand {
    TaskCommand::Fail { attempt, failure: Failure::new("broken", "It broke"), retry_at: Some(due()) }
}

/// An attempt fails, and no other one would help.
pub fn fail_for_good(attempt: u32) -> TaskCommand {
    TaskCommand::Fail { attempt, failure: Failure::new("broken", "It broke"), retry_at: None }
}

pub fn lose_heartbeat(attempt: u32) -> TaskCommand {
    TaskCommand::LoseHeartbeat { attempt }
}

pub fn cancel() -> TaskCommand {
    TaskCommand::Cancel { reason: CancelReason::Requested }
}

/// These stories have no deadline.
pub fn pass_deadline() -> TaskCommand {
    TaskCommand::PassDeadline { at: due() }
}
