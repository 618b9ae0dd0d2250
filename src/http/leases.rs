//! The work of workers outside: tasks leased, kept by heartbeats, completed or failed.
use actix_web::{HttpRequest, HttpResponse, http::header, web};
use chrono::{DateTime, Utc};
use garde::Validate;
use marvin_domain::{Actor, task::TaskError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

use super::{
    api::{Api, done, sentence},
    caller::Caller,
    conditional::IdempotencyKey,
    json::Json,
    line::Line,
    path::PathId,
    problem::{Problem, RETRY_AFTER_S},
};
use crate::{
    agent::lease::{Ask, Ending, HEARTBEAT_S, LEASES_MAX, LeaseError, Leased, Outcome, WAIT_S_MAX, token::Lease},
    error::FieldError,
    health::{Health, Phase},
    security::permissions::Permission::WorkerWork,
};

/// Longest code of a failure: it is for programs, and shown in lists.
const CODE_CHARS_MAX: usize = 64;
/// Longest message of a failure: a page of text for people, not a log.
const MESSAGE_CHARS_MAX: usize = 4_000;

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct LeaseTasks {
    #[garde(range(min = 1, max = LEASES_MAX))]
    max: u32,
    #[garde(range(max = WAIT_S_MAX))]
    wait_s: u64,
}

#[derive(Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Heartbeat {
    lease: String,
}

#[derive(Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Complete {
    lease: String,
    output: Value,
}

#[derive(Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Fail {
    lease: String,
    #[garde(custom(is_code))]
    code: String,
    #[garde(length(chars, max = MESSAGE_CHARS_MAX))]
    message: String,
    retry: bool,
}

fn is_code(code: &str, (): &()) -> garde::Result {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=CODE_CHARS_MAX).contains(&code.len()) && code.bytes().all(known) {
        return Ok(());
    }
    Err(garde::Error::new(format!("must have 1 to {CODE_CHARS_MAX} characters of a-z, 0-9 and _")))
}

#[derive(Serialize)]
struct TaskBody<'a> {
    id: Uuid,
    agent_id: Uuid,
    requested_by: Uuid,
    conversation_id: Option<Uuid>,
    input: &'a Value,
    attempt: u32,
    priority: u8,
    #[serde(serialize_with = "crate::time::optional")]
    deadline: Option<DateTime<Utc>>,
    #[serde(serialize_with = "crate::time::required")]
    created_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct LeasedBody<'a> {
    task: TaskBody<'a>,
    lease: String,
    expires_in_ms: u64,
}

impl<'a> LeasedBody<'a> {
    fn of(leased: &'a Leased) -> Self {
        Self {
            task: TaskBody {
                id: leased.task_id,
                agent_id: leased.agent_id,
                requested_by: leased.requested_by,
                conversation_id: leased.conversation_id,
                input: &leased.input,
                attempt: leased.attempt,
                priority: leased.priority,
                deadline: leased.deadline,
                created_at: leased.created_at,
            },
            lease: leased.lease.expose().to_string(),
            expires_in_ms: millis(leased.expires_in),
        }
    }
}

fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// Another form of text is no lease; which one it is, the log tells.
fn read(lease: &str) -> Result<Lease, Problem> {
    let refused = || vec![FieldError::new("/lease", "is not a lease: send it as it was told")];
    Lease::parse(lease).ok_or_else(|| Problem::unprocessable("Some values were refused.", refused()))
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        let words = sentence(&error.to_string());
        match error {
            LeaseError::Absent => Self::not_found(),
            LeaseError::NotLeased(_) => Self::unprocessable(words, Vec::new()),
            LeaseError::Crowded => Self::throttled(words, RETRY_AFTER_S),
            LeaseError::Late(TaskError::Cancelled) => Self::cancelled(words),
            LeaseError::Late(_) | LeaseError::TimeOver(_) => Self::late_result(words),
            LeaseError::TooLarge(reason) => {
                let refused = vec![FieldError::new("/output", reason)];
                Self::unprocessable("The output is too large, and nothing was recorded.", refused)
            }
            LeaseError::Dispatch(error) => error.into(),
            LeaseError::Views(error) => error.into(),
            LeaseError::Log(error) => error.into(),
            LeaseError::Slots(error) => Self::unavailable(words, RETRY_AFTER_S).because(error),
        }
    }
}

/// `POST /api/v1/agents/{id}/lease`: the agent's most urgent ready tasks, waited for where there are none.
pub async fn lease(
    request: HttpRequest,
    api: web::Data<Api>,
    health: web::Data<Health>,
    caller: Caller,
    id: PathId,
    body: Json<LeaseTasks>,
) -> Result<HttpResponse, Problem> {
    IdempotencyKey::refuse(request.headers())?;
    let line = request.conn_data::<Line>().cloned();
    // Looked at again and again while one waits. A stopping server would wait for those who wait.
    let is_wanted = async || {
        let is_there = health.phase() != Phase::Draining && !line.as_ref().is_some_and(Line::has_ended);
        is_there && api.identify(caller.token.clone()).await.is_ok_and(|now| now.is_some_and(|now| now.may(WorkerWork)))
    };
    let (actor, wait) = (Actor::User(caller.user_id), Duration::from_secs(body.wait_s));
    let ask = Ask { agent: id.0, actor, max: body.max, wait, is_wanted };
    let leased = api.leases.lease(ask).await?;
    let tasks: Vec<_> = leased.iter().map(LeasedBody::of).collect();
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "tasks": tasks, "heartbeat_s": HEARTBEAT_S })))
}

/// `POST /api/v1/tasks/{id}/heartbeat`: the lease stands on.
pub async fn heartbeat(api: web::Data<Api>, id: PathId, body: Json<Heartbeat>) -> Result<HttpResponse, Problem> {
    let left = api.leases.heartbeat(id.0, &read(&body.lease)?).await?;
    Ok(HttpResponse::Ok().json(json!({ "expires_in_ms": millis(left) })))
}

/// `POST /api/v1/tasks/{id}/complete`: its output is recorded, once for a lease.
pub async fn complete(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Json<Complete>,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, body.raw()).await?;
    let Complete { lease, output } = body.into_inner();
    let ending = Ending { task: id.0, lease: read(&lease)?, outcome: Outcome::Completed { output }, meta };
    Ok(done(&api.leases.end(ending).await?))
}

/// `POST /api/v1/tasks/{id}/fail`: another attempt follows where it may help and the task has one left.
pub async fn fail(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Json<Fail>,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, body.raw()).await?;
    let Fail { lease, code, message, retry } = body.into_inner();
    let ending = Ending { task: id.0, lease: read(&lease)?, outcome: Outcome::Failed { code, message, retry }, meta };
    Ok(done(&api.leases.end(ending).await?))
}
