//! Schedules: made, changed, paused, resumed, triggered and removed by those who manage them.
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use marvin_domain::{
    Directed, Name,
    schedule::{NewWords, Passed, RemoveReason, Schedule, ScheduleCommand, ScheduleStatus, Words},
};
use marvin_projections::{
    Key,
    schedules::{ScheduleDocument, Schedules},
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    agents::under,
    api::{Api, created, done, id_filter, list as listed, precondition, resource},
    caller::Caller,
    json::Json,
    paging::{Cursor, Limit, Page},
    path::PathId,
    problem::Problem,
    query::{NoParameters, Query},
};
use crate::{
    error::FieldError,
    schedule::{Unfit, check_submission},
    views::Filter,
};

mod body;
use body::{ChangeSchedule, CreateSchedule, ScheduleBody};

const LIST: &str = "schedules";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListSchedules {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    agent_id: Option<String>,
    status: Option<Listed>,
}

/// What was removed is not listed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Listed {
    Active,
    Paused,
    Ended,
}

impl Listed {
    const ALL: [Self; 3] = [Self::Active, Self::Paused, Self::Ended];

    fn key(self) -> Key {
        let status = match self {
            Self::Active => ScheduleStatus::Active,
            Self::Paused => ScheduleStatus::Paused,
            Self::Ended => ScheduleStatus::Ended,
        };
        status.as_str().into()
    }
}

impl Api {
    /// The schedule as its stream has it.
    ///
    /// # Errors
    /// 404 when there is none, or it is removed.
    async fn schedule(&self, id: Uuid) -> Result<Schedule, Problem> {
        self.firing.load(id).await?.ok_or_else(Problem::not_found)
    }

    /// What is refused of an agent and an input that are to go together.
    async fn check_fit(&self, agent_id: Uuid, input: &Value) -> Result<Vec<FieldError>, Problem> {
        Ok(match check_submission(&self.dispatcher, &self.kinds, agent_id, input).await? {
            Ok(_) => Vec::new(),
            Err(Unfit::Absent) => vec![FieldError::new("/agent_id", "there is no such agent")],
            Err(Unfit::Retired) => vec![FieldError::new("/agent_id", "this agent is retired")],
            Err(Unfit::Input(errors)) => under("/input", errors),
        })
    }
}

fn refused(errors: Vec<FieldError>) -> Problem {
    Problem::unprocessable("Some values were refused.", errors)
}

fn parse_name(name: &str, errors: &mut Vec<FieldError>) -> Option<Name> {
    Name::parse(name).map_err(|error| errors.push(FieldError::new("/name", error.to_string()))).ok()
}

/// `POST /api/v1/schedules`
pub async fn create(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    body: Json<CreateSchedule>,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, body.raw()).await?;
    // A repeated key answers what it answered, though the moment may have passed since.
    if meta.digest.is_some()
        && let Some(receipt) = api.dispatcher.first_result(&meta).await?
    {
        return Ok(created(&receipt, LIST));
    }
    let (at, mut body) = (api.firing.now(), body.into_inner());
    let mut errors = Vec::new();
    let name = parse_name(&body.name, &mut errors);
    let timing = body.timing(at).map_err(|error| errors.push(error)).ok();
    errors.extend(api.check_fit(body.agent_id.0, &body.input).await?);
    let (Some(name), Some(timing), true) = (name, timing, errors.is_empty()) else { return Err(refused(errors)) };
    let policies = body.policies();
    let CreateSchedule { agent_id, input, .. } = body;
    let words = Words { name, input };
    let create = ScheduleCommand::Create { owner: caller.user_id, agent_id: agent_id.0, timing, policies, words, at };
    Ok(created(&api.dispatcher.dispatch(&meta, &[Directed::new(Uuid::now_v7(), create)]).await?, LIST))
}

/// `PATCH /api/v1/schedules/{id}`: the owner's words are the owner's to change.
pub async fn change(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Json<ChangeSchedule>,
) -> Result<HttpResponse, Problem> {
    let precondition = precondition(&request)?;
    let schedule = api.schedule(id.0).await?;
    let (at, mut body) = (api.firing.now(), body.into_inner());
    if (body.name.is_some() || body.input.is_some()) && caller.user_id != schedule.owner {
        return Err(Problem::forbidden("Only its owner may change what a schedule is called and what it gives."));
    }
    let mut errors = Vec::new();
    let name = body.name.take().and_then(|name| parse_name(&name, &mut errors));
    let timing = body.timing(&schedule.timing, at).map_err(|error| errors.push(error)).unwrap_or_default();
    let agent_id = body.agent_id.as_ref().map(|id| id.0);
    if agent_id.is_some() || body.input.is_some() {
        let input = match body.input.clone() {
            Some(input) => input,
            None => api.firing.input(id.0, &schedule).await?.ok_or_else(Problem::not_found)?,
        };
        errors.extend(api.check_fit(agent_id.unwrap_or(schedule.agent_id), &input).await?);
    }
    if !errors.is_empty() {
        return Err(refused(errors));
    }
    let policies = Some(body.policies(schedule.policies));
    let words = NewWords { name, input: body.input };
    let change = ScheduleCommand::Change { agent_id, timing, policies, words, at };
    let commands = [Directed::new(id.0, change)];
    Ok(done(&api.dispatcher.dispatch_when(&api.meta(&caller), &commands, &precondition).await?))
}

async fn simple(
    request: &HttpRequest,
    api: &Api,
    caller: &Caller,
    id: PathId,
    body: &Bytes,
    command: ScheduleCommand,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(request, caller, body).await?;
    Ok(done(&api.dispatcher.dispatch(&meta, &[Directed::new(id.0, command)]).await?))
}

/// `POST /api/v1/schedules/{id}/pause`: what was given to the agent goes on; what waits for its turn is given up.
pub async fn pause(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    simple(&request, &api, &caller, id, &body, ScheduleCommand::Pause).await
}

/// `POST /api/v1/schedules/{id}/resume`: what was planned meanwhile is not made up for.
pub async fn resume(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    let at = api.firing.now();
    simple(&request, &api, &caller, id, &body, ScheduleCommand::Resume { at }).await
}

/// `POST /api/v1/schedules/{id}/trigger`: fires now, whatever the plan says.
pub async fn trigger(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, &body).await?;
    if meta.digest.is_some()
        && let Some(receipt) = api.dispatcher.first_result(&meta).await?
    {
        return Ok(done(&receipt));
    }
    let schedule = api.schedule(id.0).await?;
    let (task_id, at) = (Uuid::now_v7(), api.firing.now());
    let (passed, task) = api.firing.submission(id.0, &schedule, task_id).await?;
    let why = match passed {
        None => None,
        Some(Passed::AgentAbsent) => Some("There is no such agent."),
        Some(Passed::AgentRetired) => Some("This agent is retired."),
        Some(_) => Some("The agent refuses the input."),
    };
    if let Some(why) = why {
        return Err(Problem::unprocessable(why, Vec::new()));
    }
    let trigger = Directed::new(id.0, ScheduleCommand::Trigger { task_id, at });
    let commands: Vec<_> = [trigger].into_iter().chain(task).collect();
    Ok(done(&api.dispatcher.dispatch(&meta, &commands).await?))
}

/// `DELETE /api/v1/schedules/{id}`: fires no more; what it gave to the agent goes on, and its history stays.
pub async fn remove(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
) -> Result<HttpResponse, Problem> {
    let precondition = precondition(&request)?;
    let commands = [Directed::new(id.0, ScheduleCommand::Remove { reason: RemoveReason::Requested })];
    Ok(done(&api.dispatcher.dispatch_when(&api.meta(&caller), &commands, &precondition).await?))
}

/// `GET /api/v1/schedules`
pub async fn list(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    query: Query<ListSchedules>,
) -> Result<HttpResponse, Problem> {
    let start = api.start_of(LIST, query.cursor.as_ref())?;
    let statuses = query.status.map_or(Listed::ALL.to_vec(), |status| vec![status]);
    let mut filters = vec![Filter::In("status", statuses.into_iter().map(Listed::key).collect())];
    filters.extend(id_filter("agent_id", query.agent_id.as_deref())?.map(|id| Filter::is("agent_id", id)));
    let position = api.reach::<Schedules>(&request).await?;
    let page = api.page_of::<Schedules>(start, filters, query.limit, |schedule| schedule.id, |_| true).await?;
    let items = page.items.iter().map(|schedule| ScheduleBody::of(schedule, &caller)).collect::<Vec<_>>();
    Ok(listed(position, &Page { items, next_cursor: page.next_cursor }))
}

/// `GET /api/v1/schedules/{id}`
pub async fn show(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    let position = api.reach::<Schedules>(&request).await?;
    let is_there = |document: &ScheduleDocument| document.schedule.status != ScheduleStatus::Removed;
    let schedule = api.views.get::<Schedules>(id.0, position).await?.filter(is_there);
    let schedule = schedule.ok_or_else(Problem::not_found)?;
    Ok(resource(position, schedule.sequence, &ScheduleBody::of(&schedule, &caller)))
}
