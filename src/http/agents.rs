//! Agents: made, changed, paused, resumed and retired; their kinds; and trying one without recording anything.
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chrono::Utc;
use garde::Validate;
use marvin_domain::{
    AggregateKind, Directed, Name, StreamId,
    agent::{Agent, AgentCommand, AgentError, AgentStatus, Config, Limits, Profile},
};
use marvin_projections::{
    Key,
    agents::{AgentDocument, Agents},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    api::{Api, created, done, list as listed, precondition, resource, sentence},
    caller::Caller,
    json::Json,
    paging::{Cursor, Limit, Page},
    path::PathId,
    problem::{Problem, RETRY_AFTER_S},
    query::{NoParameters, Query},
};
use crate::{
    agent::{ReferenceError, Trial, Tried},
    error::FieldError,
    views::Filter,
};

const LIST: &str = "agents";
/// Longest description, in characters: a page of text.
const DESCRIPTION_CHARS_MAX: usize = 4_000;

#[derive(Debug, Serialize)]
pub struct AgentBody<'a> {
    id: Uuid,
    name: &'a str,
    description: &'a str,
    kind: &'a str,
    config: &'a Value,
    limits: Limits,
    status: AgentStatus,
    #[serde(serialize_with = "crate::time::required")]
    created_at: chrono::DateTime<Utc>,
    sequence: u64,
    position: u64,
}

impl<'a> AgentBody<'a> {
    fn of(agent: &'a AgentDocument) -> Self {
        Self {
            id: agent.id,
            name: agent.name.as_str(),
            description: &agent.description,
            kind: &agent.kind,
            config: &agent.config,
            limits: agent.limits,
            status: agent.status,
            created_at: agent.created_at,
            sequence: agent.sequence,
            position: agent.position,
        }
    }
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct CreateAgent {
    name: String,
    #[serde(default)]
    #[garde(length(chars, max = DESCRIPTION_CHARS_MAX))]
    description: String,
    kind: String,
    config: Value,
    #[serde(default)]
    limits: Limits,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct ChangeAgent {
    name: Option<String>,
    #[garde(length(chars, max = DESCRIPTION_CHARS_MAX))]
    description: Option<String>,
    config: Option<Value>,
    limits: Option<ChangeLimits>,
}

/// What is absent stays as it is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeLimits {
    max_attempts: Option<u32>,
    timeout_ms: Option<u64>,
    backoff_initial_ms: Option<u64>,
    backoff_max_ms: Option<u64>,
    max_concurrency: Option<u32>,
}

impl ChangeLimits {
    fn of(self, limits: Limits) -> Limits {
        Limits {
            max_attempts: self.max_attempts.unwrap_or(limits.max_attempts),
            timeout_ms: self.timeout_ms.unwrap_or(limits.timeout_ms),
            backoff_initial_ms: self.backoff_initial_ms.unwrap_or(limits.backoff_initial_ms),
            backoff_max_ms: self.backoff_max_ms.unwrap_or(limits.backoff_max_ms),
            max_concurrency: self.max_concurrency.unwrap_or(limits.max_concurrency),
        }
    }
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct TryAgent {
    input: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListAgents {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    kind: Option<String>,
    status: Option<AgentStatus>,
}

fn agent_stream(id: Uuid) -> StreamId {
    StreamId { kind: AggregateKind::Agent, id }
}

impl Api {
    /// The agent as its stream has it.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(super) async fn agent(&self, id: Uuid) -> Result<Profile, Problem> {
        let loaded = self.dispatcher.load(agent_stream(id)).await?;
        let agent = <&Agent>::try_from(&loaded.state).ok().and_then(Agent::profile);
        agent.cloned().ok_or_else(Problem::not_found)
    }

    /// Every refused value of what an agent is made or changed with, with pointers into the request.
    fn check_config(&self, kind: &str, config: Option<&Value>) -> Vec<FieldError> {
        let Some(handler) = self.kinds.get(kind) else {
            let known: Vec<_> = self.kinds.describe().into_iter().map(|kind| kind.kind).collect();
            return vec![FieldError::new("/kind", format!("must be one of: {}", known.join(", ")))];
        };
        let errors = config.and_then(|config| handler.check_config(config).err()).unwrap_or_default();
        under("/config", errors)
    }

    /// Whether what the configuration names can be used.
    ///
    /// # Errors
    /// 422 with pointers into the request, 503 when that cannot be told.
    async fn check_references(&self, kind: &str, config: Option<&Value>) -> Result<(), Problem> {
        let (Some(handler), Some(config)) = (self.kinds.get(kind), config) else { return Ok(()) };
        handler.check_references(config).await.map_err(|error| match error {
            ReferenceError::Refused(errors) => {
                Problem::unprocessable("Some values were refused.", under("/config", errors))
            }
            ReferenceError::Unavailable(reason) => Problem::unavailable(sentence(&reason), RETRY_AFTER_S),
        })
    }
}

/// Moves pointers into one field of the request.
pub(super) fn under(field: &str, errors: Vec<FieldError>) -> Vec<FieldError> {
    errors.into_iter().map(|error| FieldError::new(format!("{field}{}", error.pointer), error.detail)).collect()
}

/// Fields of both calls that need more than their shape.
fn check_shared(
    name: Option<&str>,
    description: Option<&str>,
    limits: Option<&Limits>,
) -> (Option<Name>, Vec<FieldError>) {
    let mut errors = Vec::new();
    let name = name.and_then(|name| {
        Name::parse(name).map_err(|error| errors.push(FieldError::new("/name", error.to_string()))).ok()
    });
    if description.is_some_and(|text| text.contains('\0')) {
        errors.push(FieldError::new("/description", "must not hold NUL characters"));
    }
    if let Some(Err(error @ AgentError::LimitOutOfBounds { field, .. })) = limits.map(Limits::check) {
        errors.push(FieldError::new(format!("/limits/{field}"), error.to_string()));
    }
    (name, errors)
}

/// `POST /api/v1/agents`
pub async fn create(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    body: Json<CreateAgent>,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, body.raw()).await?;
    // A repeated key answers what it answered, whatever became of what the configuration names.
    if meta.digest.is_some()
        && let Some(receipt) = api.dispatcher.first_result(&meta).await?
    {
        return Ok(created(&receipt, LIST));
    }
    let CreateAgent { name, description, kind, config, limits } = body.into_inner();
    let (name, mut errors) = check_shared(Some(&name), Some(&description), Some(&limits));
    errors.extend(api.check_config(&kind, Some(&config)));
    let Some(name) = name.filter(|_| errors.is_empty()) else {
        return Err(Problem::unprocessable("Some values were refused.", errors));
    };
    api.check_references(&kind, Some(&config)).await?;
    let create = AgentCommand::Create { name, description, kind, config: config.into(), limits };
    Ok(created(&api.dispatcher.dispatch(&meta, &[Directed::new(Uuid::now_v7(), create)]).await?, LIST))
}

/// `PATCH /api/v1/agents/{id}`
pub async fn change(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Json<ChangeAgent>,
) -> Result<HttpResponse, Problem> {
    let precondition = precondition(&request)?;
    let agent = api.agent(id.0).await?;
    let ChangeAgent { name, description, config, limits } = body.into_inner();
    let limits = limits.map(|limits| limits.of(agent.limits));
    let (parsed, mut errors) = check_shared(name.as_deref(), description.as_deref(), limits.as_ref());
    errors.extend(api.check_config(&agent.kind, config.as_ref()));
    if !errors.is_empty() {
        return Err(Problem::unprocessable("Some values were refused.", errors));
    }
    api.check_references(&agent.kind, config.as_ref()).await?;
    let change = AgentCommand::Change { name: parsed, description, config: config.map(Config::from), limits };
    let commands = [Directed::new(id.0, change)];
    Ok(done(&api.dispatcher.dispatch_when(&api.meta(&caller), &commands, &precondition).await?))
}

async fn simple(
    request: &HttpRequest,
    api: &Api,
    caller: &Caller,
    id: PathId,
    body: &Bytes,
    command: AgentCommand,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(request, caller, body).await?;
    Ok(done(&api.dispatcher.dispatch(&meta, &[Directed::new(id.0, command)]).await?))
}

/// `POST /api/v1/agents/{id}/pause`: what is queued waits; what runs goes on.
pub async fn pause(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    simple(&request, &api, &caller, id, &body, AgentCommand::Pause).await
}

/// `POST /api/v1/agents/{id}/resume`
pub async fn resume(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    simple(&request, &api, &caller, id, &body, AgentCommand::Resume).await
}

/// `DELETE /api/v1/agents/{id}`: takes no new tasks; history stays.
pub async fn retire(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
) -> Result<HttpResponse, Problem> {
    let precondition = precondition(&request)?;
    let commands = [Directed::new(id.0, AgentCommand::Retire)];
    Ok(done(&api.dispatcher.dispatch_when(&api.meta(&caller), &commands, &precondition).await?))
}

/// `GET /api/v1/agents`
pub async fn list(
    request: HttpRequest,
    api: web::Data<Api>,
    query: Query<ListAgents>,
) -> Result<HttpResponse, Problem> {
    let start = api.start_of(LIST, query.cursor.as_ref())?;
    let mut filters = Vec::new();
    filters.extend(query.kind.as_deref().map(|kind| Filter::is("kind", kind)));
    filters.extend(query.status.map(|status| Filter::is("status", Key::from(status.as_str()))));
    let position = api.reach::<Agents>(&request).await?;
    let page = api.page_of::<Agents>(start, filters, query.limit, |agent| agent.id, |_| true).await?;
    let items = page.items.iter().map(AgentBody::of).collect::<Vec<_>>();
    Ok(listed(position, &Page { items, next_cursor: page.next_cursor }))
}

/// `GET /api/v1/agents/{id}`
pub async fn show(
    request: HttpRequest,
    api: web::Data<Api>,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    let position = api.reach::<Agents>(&request).await?;
    let agent = api.views.get::<Agents>(id.0, position).await?.ok_or_else(Problem::not_found)?;
    Ok(resource(position, agent.sequence, &AgentBody::of(&agent)))
}

/// `GET /api/v1/agent-kinds`
pub async fn kinds(api: web::Data<Api>, _: Query<NoParameters>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "items": api.kinds.describe(), "next_cursor": null }))
}

/// `POST /api/v1/agents/{id}/try`: the output at once, nothing recorded.
pub async fn attempt(
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Json<TryAgent>,
) -> Result<HttpResponse, Problem> {
    let agent = api.agent(id.0).await?;
    let handler = api.kinds.get(&agent.kind).ok_or_else(Problem::not_found)?;
    let input = body.into_inner().input;
    let refused = |errors| Problem::unprocessable("The input was refused.", under("/input", errors));
    handler.check_input(&agent.config, &input).map_err(refused)?;
    let trial = Trial {
        agent_id: id.0,
        agent_name: agent.name.as_str(),
        config: &agent.config,
        input: &input,
        requested_by: caller.user_id,
        now: Utc::now(),
    };
    match handler.attempt(&trial).await {
        Some(Ok(Tried { output, explanation: None })) => Ok(HttpResponse::Ok().json(json!({ "output": output }))),
        Some(Ok(Tried { output, explanation })) => {
            Ok(HttpResponse::Ok().json(json!({ "output": output, "explanation": explanation })))
        }
        Some(Err(failure)) => {
            Err(Problem::unprocessable(failure.message, vec![FieldError::new("/input", failure.code.into_owned())]))
        }
        None => Err(Problem::unprocessable("This kind of agent cannot be tried.", Vec::new())),
    }
}
