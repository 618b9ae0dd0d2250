//! One call: what is told, how it is signed, and which statuses take it on.
use bytes::Bytes;
use chrono::Utc;
use marvin_domain::event::to_json;
use marvin_projections::steps::step_id;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

use super::{Outside, WebhookConfig, judge, signature};
use crate::{
    agent::{Run, TaskFailure, run::RESULT_BYTES_MAX},
    egress::{Answer, Request},
};

/// How long a call may take that is only to be taken on.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one may take whose answer is the output: the longest that an attempt may have, which the agent's own limit cuts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The body of a call.
#[derive(Serialize)]
struct Body<'a> {
    task_id: Uuid,
    agent_id: Uuid,
    conversation_id: Option<Uuid>,
    /// 1, 2, 3 …: of the attempts, of which each may make the same call.
    attempt: u32,
    input: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_url: Option<String>,
}

/// Makes the call of the next step, and answers what took it on.
///
/// # Errors
/// Every way in which it was not, by a stable code.
pub async fn send(
    outside: &Outside,
    config: &WebhookConfig,
    run: &Run,
    callback_url: Option<String>,
) -> Result<Answer, TaskFailure> {
    let key = match &config.secret_name {
        Some(name) => Some(signature::key(&outside.secrets, name).await?),
        None => None,
    };
    let timeout = if callback_url.is_some() { ACCEPT_TIMEOUT } else { ANSWER_TIMEOUT };
    let assignment = &run.assignment;
    let body = to_json(&Body {
        task_id: assignment.task_id,
        agent_id: assignment.agent_id,
        conversation_id: assignment.conversation_id,
        attempt: assignment.attempt,
        input: &assignment.input,
        callback_url,
    });
    let id = step_id(assignment.task_id, run.next_step());
    let headers = signature::headers(id, Utc::now().timestamp(), &body, key.as_ref());
    let url = config.url.clone();
    let request = Request { url, headers, body: Bytes::from(body), timeout, answer_bytes_max: RESULT_BYTES_MAX };
    let answer = outside.egress.post(request).await.map_err(judge::failure)?;
    judge::accepted(answer)
}
