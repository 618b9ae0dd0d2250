//! Tasks: given to agents, followed, cancelled, retried.
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use garde::Validate;
use marvin_domain::{
    AggregateKind, Directed, StreamId,
    agent::AgentStatus,
    task::{CancelReason, Phase, Submission, Task, TaskCommand},
};
use marvin_projections::{
    agents::Agents,
    steps::{StepDocument, Steps, step_id},
    tasks::{TaskDocument, TaskStatus, Tasks},
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    agents::under,
    api::{Api, accepted, done, id_filter, list as listed, resource},
    caller::Caller,
    json::TaskJson,
    paging::{Cursor, Limit, Page},
    path::PathId,
    problem::Problem,
    query::{NoParameters, Query},
};
use crate::{
    agent::waiting,
    error::FieldError,
    security::permissions::Permission,
    views::{Filter, PAGE_DOCUMENTS_MAX},
};

mod body;

use body::{Reasons, TaskBody, TaskSteps};

const LIST: &str = "tasks";
/// Steps that a page of tasks shows: as many as two tasks may have, or ten each of its largest page. A page ends before a task with
/// more, unless it is the first.
const PAGE_STEPS_MAX: u32 = 2_000;
const PRIORITY_DEFAULT: u8 = 5;
const PRIORITY_MAX: u8 = 9;
/// Steps that are looked for before it is known how many a task has.
const STEPS_GUESSED: usize = 4;

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct SubmitTask {
    input: Value,
    conversation_id: Option<PathId>,
    #[garde(range(max = PRIORITY_MAX))]
    priority: Option<u8>,
    deadline: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListTasks {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    agent_id: Option<String>,
    status: Option<TaskStatus>,
    conversation_id: Option<String>,
}

pub(super) fn task_stream(id: Uuid) -> StreamId {
    StreamId { kind: AggregateKind::Task, id }
}

impl Api {
    /// # Errors
    /// 404 when there is no such task, or it is another's and `all` is not the caller's to use.
    pub(super) async fn check_task(&self, id: Uuid, caller: &Caller, all: Permission) -> Result<(), Problem> {
        let loaded = self.dispatcher.load(task_stream(id)).await?;
        let task = <&Task>::try_from(&loaded.state).ok().filter(|task| task.phase != Phase::Unknown);
        match task {
            Some(task) if caller.reaches(task.requested_by, all) => Ok(()),
            _ => Err(Problem::not_found()),
        }
    }

    /// As [`reach`](Self::reach), for answers about tasks with their steps: both views have got there.
    async fn reach_tasks(&self, request: &HttpRequest) -> Result<u64, Problem> {
        let (tasks, steps) = tokio::try_join!(self.reach::<Tasks>(request), self.reach::<Steps>(request))?;
        Ok(tasks.min(steps))
    }

    /// Why those of these tasks wait that wait. The others cost nothing.
    async fn reasons_of(&self, request: &HttpRequest, tasks: &[TaskDocument]) -> Result<Reasons, Problem> {
        if !tasks.iter().any(TaskDocument::waits) {
            return Ok(Reasons::new());
        }
        let position = self.reach::<Agents>(request).await?;
        Ok(waiting::reasons(&self.views, &self.kinds, tasks, position).await?)
    }

    /// The steps of these tasks, by their ids, which follow from the tasks'. Those at hand need not be asked for.
    async fn steps_of(
        &self,
        tasks: &[TaskDocument],
        at_hand: Vec<StepDocument>,
        position: u64,
    ) -> Result<TaskSteps, Problem> {
        let mut ids = Vec::new();
        let mut steps = TaskSteps::new();
        for task in tasks {
            for number in 1..=task.steps {
                match at_hand.iter().find(|step| (step.task_id, step.step) == (task.id, number)) {
                    Some(step) => steps.entry(task.id).or_default().push(step.clone()),
                    None => ids.push(step_id(task.id, number)),
                }
            }
        }
        // At once: each waits for the cache by itself.
        let pages = ids.chunks(PAGE_DOCUMENTS_MAX as usize).map(|ids| self.views.get_all::<Steps>(ids, position));
        for step in try_join_all(pages).await?.into_iter().flatten() {
            steps.entry(step.task_id).or_default().push(step);
        }
        steps.values_mut().for_each(|of_task| of_task.sort_unstable_by_key(|step| step.step));
        Ok(steps)
    }
}

/// `POST /api/v1/agents/{id}/tasks`: queued, also for a paused agent.
pub async fn submit(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    agent_id: PathId,
    body: TaskJson<SubmitTask>,
) -> Result<HttpResponse, Problem> {
    let meta = api.keyed_meta(&request, &caller, body.raw()).await?;
    // A repeated key answers what it answered, whatever became of the agent since.
    if meta.digest.is_some()
        && let Some(receipt) = api.dispatcher.first_result(&meta).await?
    {
        return Ok(accepted(&receipt, LIST));
    }
    let agent = api.agent(agent_id.0).await?;
    if agent.status == AgentStatus::Retired {
        return Err(Problem::unprocessable("This agent is retired.", Vec::new()));
    }
    let handler = api.kinds.get(&agent.kind).ok_or_else(Problem::not_found)?;
    let SubmitTask { input, conversation_id, priority, deadline } = body.into_inner();
    let mut errors = under("/input", handler.check_input(&agent.config, &input).err().unwrap_or_default());
    if deadline.is_some_and(|deadline| deadline <= meta.at) {
        errors.push(FieldError::new("/deadline", "must be in the future"));
    }
    if !errors.is_empty() {
        return Err(Problem::unprocessable("Some values were refused.", errors));
    }
    let submission = Submission {
        agent_id: agent_id.0,
        requested_by: caller.user_id,
        input,
        conversation_id: conversation_id.map(|id| id.0),
        priority: priority.unwrap_or(PRIORITY_DEFAULT),
        deadline,
        max_attempts: agent.limits.max_attempts,
        parent: None,
        chain_depth: 0,
    };
    let commands = [Directed::new(Uuid::now_v7(), TaskCommand::Submit(submission))];
    Ok(accepted(&api.dispatcher.dispatch(&meta, &commands).await?, LIST))
}

/// `GET /api/v1/tasks`: one's own, or everyone's for who may read them.
pub async fn list(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    query: Query<ListTasks>,
) -> Result<HttpResponse, Problem> {
    let start = api.start_of(LIST, query.cursor.as_ref())?;
    let mut filters = Vec::new();
    filters.extend(id_filter("agent_id", query.agent_id.as_deref())?.map(|id| Filter::is("agent_id", id)));
    filters.extend(query.status.map(|status| Filter::is("status", status.as_str())));
    filters.extend(
        id_filter("conversation_id", query.conversation_id.as_deref())?.map(|id| Filter::is("conversation_id", id)),
    );
    if !caller.may(Permission::TasksReadAll) {
        filters.push(Filter::is("requested_by", caller.user_id));
    }
    let position = api.reach_tasks(&request).await?;
    let mut steps = 0;
    let fits = |task: &TaskDocument| {
        steps += task.steps;
        steps <= PAGE_STEPS_MAX
    };
    let page = api.page_of::<Tasks>(start, filters, query.limit, |task| task.id, fits).await?;
    let steps = api.steps_of(&page.items, Vec::new(), position).await?;
    let reasons = api.reasons_of(&request, &page.items).await?;
    let items = page.items.iter().map(|task| TaskBody::of(task, &steps, &reasons, &caller)).collect::<Vec<_>>();
    Ok(listed(position, &Page { items, next_cursor: page.next_cursor }))
}

/// `GET /api/v1/tasks/{id}`
pub async fn show(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    _: Query<NoParameters>,
) -> Result<HttpResponse, Problem> {
    let position = api.reach_tasks(&request).await?;
    // Most tasks have few steps, and what is asked for with the task takes no way of its own.
    let first: [_; STEPS_GUESSED] = std::array::from_fn(|step| step_id(id.0, step as u32 + 1));
    let (task, at_hand) =
        tokio::join!(api.views.get::<Tasks>(id.0, position), api.views.at_hand::<Steps>(&first, position));
    let task = task?.filter(|task| caller.reaches(task.requested_by, Permission::TasksReadAll));
    let task = task.ok_or_else(Problem::not_found)?;
    let tasks = std::slice::from_ref(&task);
    let steps = api.steps_of(tasks, at_hand, position).await?;
    let reasons = api.reasons_of(&request, tasks).await?;
    Ok(resource(position, task.sequence, &TaskBody::of(&task, &steps, &reasons, &caller)))
}

async fn simple(
    request: &HttpRequest,
    api: &Api,
    caller: &Caller,
    id: PathId,
    body: &Bytes,
    command: TaskCommand,
) -> Result<HttpResponse, Problem> {
    api.check_task(id.0, caller, Permission::TasksManageAll).await?;
    let meta = api.keyed_meta(request, caller, body).await?;
    Ok(done(&api.dispatcher.dispatch(&meta, &[Directed::new(id.0, command)]).await?))
}

/// `POST /api/v1/tasks/{id}/cancel`: results that come later are refused.
pub async fn cancel(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    simple(&request, &api, &caller, id, &body, TaskCommand::Cancel { reason: CancelReason::Requested }).await
}

/// `POST /api/v1/tasks/{id}/retry`: gives a failed or dead task a fresh set of attempts.
pub async fn retry(
    request: HttpRequest,
    api: web::Data<Api>,
    caller: Caller,
    id: PathId,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    simple(&request, &api, &caller, id, &body, TaskCommand::Retry).await
}
