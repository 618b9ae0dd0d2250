//! Why a task that waits has not been started: a word that programs can tell apart, a colon, and a sentence for people.
//!
//! Told from the views at the moment of asking, and kept nowhere: a place in line changes without any event of the task.
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use marvin_domain::{Position, agent::AgentStatus};
use marvin_projections::{
    agents::{AgentDocument, Agents},
    tasks::{TaskDocument, TaskStatus, Tasks},
};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

use super::{Kinds, ready};
use crate::views::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, ViewError, query::Views};

/// Agents that are looked after at once when a page shows tasks of many: a few, so that one list leaves connections to others.
const AGENTS_AT_ONCE: usize = 4;
/// Places in line that are counted: beyond them nobody waits by looking, and a line costs as much to read for a page as for a task.
const PLACES_MAX: u32 = 100;

/// What is told of each line: who stands before a task, and how many are being run.
struct Line {
    running: usize,
    /// The first in line, at most [`PLACES_MAX`].
    ready: Vec<Uuid>,
}

/// The reason of each of these tasks that waits, by task.
///
/// `at_least`: how far the view of agents was found to be.
///
/// # Errors
/// As [`Views::get_all`] and [`Views::find`].
pub async fn reasons(
    views: &Views,
    kinds: &Kinds,
    tasks: &[TaskDocument],
    at_least: Position,
) -> Result<HashMap<Uuid, String>, ViewError> {
    let now = Utc::now();
    let waiting: Vec<_> = tasks.iter().filter(|task| task.waits()).collect();
    let ids: BTreeSet<_> = waiting.iter().map(|task| task.agent_id).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let agents = views.get_all::<Agents>(&ids, at_least).await?;
    let in_line = |agent: &&AgentDocument| {
        let mut of_agent = waiting.iter().filter(|task| task.agent_id == agent.id);
        before_the_line(agent, kinds).is_none() && of_agent.any(|task| backoff(task, now).is_none())
    };
    let lines: Vec<_> = agents.iter().filter(in_line).map(|agent| line_of(views, agent)).collect();
    let lines: HashMap<Uuid, Line> = stream::iter(lines).buffer_unordered(AGENTS_AT_ONCE).try_collect().await?;
    let mut reasons = HashMap::new();
    for task in waiting {
        // A view that is behind the tasks' knows nothing of the newest agents; the next answer does.
        let Some(agent) = agents.iter().find(|agent| agent.id == task.agent_id) else { continue };
        let held_up = before_the_line(agent, kinds).or_else(|| backoff(task, now));
        let reason = held_up.or_else(|| Some(lines.get(&agent.id)?.words(agent, kinds, task.id)));
        reasons.extend(reason.map(|reason| (task.id, reason)));
    }
    Ok(reasons)
}

/// What keeps every task of the agent from being started.
fn before_the_line(agent: &AgentDocument, kinds: &Kinds) -> Option<String> {
    if agent.status == AgentStatus::Paused {
        return Some("agent_paused: The agent is paused. Its tasks keep their places until it is resumed.".to_owned());
    }
    kinds
        .get(&agent.kind)
        .is_none()
        .then(|| format!("unknown_kind: This server runs no agents of kind {}.", agent.kind))
}

fn backoff(task: &TaskDocument, now: DateTime<Utc>) -> Option<String> {
    let ready_at = task.ready_at.filter(|ready_at| task.status == TaskStatus::Retrying && *ready_at > now)?;
    let ready_at = ready_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    Some(format!("backoff: Attempt {} is made at {ready_at} or soon after.", task.attempt + 1))
}

async fn line_of(views: &Views, agent: &AgentDocument) -> Result<(Uuid, Line), ViewError> {
    let query = ListQuery {
        filters: vec![Filter::is("agent_id", agent.id), Filter::is("status", TaskStatus::Running.as_str())],
        // By the index that the line itself is read from.
        order: Order::HighestThenOldest("priority"),
        before: None,
        limit: agent.limits.max_concurrency.min(PAGE_DOCUMENTS_MAX),
    };
    let running = views.find::<Tasks>(query).await?.len();
    let ready = ready::find(views, agent.id, PLACES_MAX).await?;
    Ok((agent.id, Line { running, ready: ready.into_iter().map(|task| task.id).collect() }))
}

impl Line {
    fn words(&self, agent: &AgentDocument, kinds: &Kinds, task: Uuid) -> String {
        let limit = agent.limits.max_concurrency;
        let reason = if self.running >= limit as usize {
            format!("limit_reached: The agent runs {limit} of at most {limit} tasks at once.")
        } else if kinds.run_here(&agent.kind) {
            "in_line: The task is started as soon as a server or worker takes it.".to_owned()
        } else {
            "waiting_for_worker: The task is started as soon as a worker of the agent asks for it.".to_owned()
        };
        format!("{reason} {}", self.place(task))
    }

    fn place(&self, task: Uuid) -> String {
        match self.ready.iter().position(|ready| *ready == task) {
            Some(0) => "It is the next in line.".to_owned(),
            Some(before) => format!("It is number {} in line.", before + 1),
            None if self.ready.len() < PLACES_MAX as usize => "It is about to be started.".to_owned(),
            None => format!("At least {PLACES_MAX} tasks are before it in line."),
        }
    }
}
