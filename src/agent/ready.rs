//! Which tasks of an agent are ready, as the view has them. It may lag: only a claim tells whether a task was.
use marvin_projections::tasks::Tasks;
use uuid::Uuid;

use crate::views::{Filter, Found, ListQuery, Order, ViewError, query::Views};

/// The agent's most urgent ready tasks: by priority, then age.
///
/// What is queued is ready at once, whatever the clock says; only a retry waits for its time.
///
/// # Errors
/// As [`Views::find`].
pub(super) async fn find(views: &Views, agent: Uuid, limit: u32) -> Result<Vec<Found>, ViewError> {
    let due = Filter::AtMost("ready_at", chrono::Utc::now().timestamp_millis());
    let mut ready = list(views, agent, vec![Filter::is("status", "queued")], limit).await?;
    ready.extend(list(views, agent, vec![Filter::is("status", "retrying"), due], limit).await?);
    ready.sort_by_key(|task| (std::cmp::Reverse(task.sorted_by), task.id));
    ready.truncate(limit as usize);
    Ok(ready)
}

async fn list(views: &Views, agent: Uuid, mut filters: Vec<Filter>, limit: u32) -> Result<Vec<Found>, ViewError> {
    filters.push(Filter::is("agent_id", agent));
    let order = Order::HighestThenOldest("priority");
    views.find::<Tasks>(ListQuery { filters, order, before: None, limit }).await
}
