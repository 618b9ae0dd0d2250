//! Tells schedules of the ends of their tasks, so that what waits for its turn is released, and what fails again and again is paused.
//!
//! Which tasks are whose is remembered from the firings. Behind a restart it is asked of the view, and each task is looked at once:
//! what ended while nobody followed the log is not missed, and there is no checkpoint to keep.
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use marvin_domain::{
    AggregateKind, Envelope, Event, Position,
    schedule::{Outcome, ScheduleEvent, TaskEnd},
    task::TaskEvent,
};
use marvin_projections::schedules::Schedules;
use std::{collections::HashMap, sync::Arc};
use tracing::debug;
use uuid::Uuid;

use super::{Firing, LOOK_INTERVAL};
use crate::{
    dispatch::DispatchError,
    log::{
        subscription::{FollowError, Follower},
        tail::Wanted,
    },
    views::{Filter, Found, ListQuery, Order, PAGE_DOCUMENTS_MAX, ViewError},
};

/// Ends that are recorded at once: enough to share commits.
const ENDS_AT_ONCE: usize = 64;

pub struct Ends {
    firing: Firing,
    /// The schedule of each open task that has one.
    schedules: HashMap<Uuid, Uuid>,
}

impl Ends {
    pub fn new(firing: Firing) -> Self {
        Self { firing, schedules: HashMap::new() }
    }

    /// Remembers the open tasks of these schedules, and records the ends of those that have ended.
    async fn remember(&mut self, schedules: Vec<Uuid>) -> Result<(), FollowError> {
        for id in schedules {
            let Some(schedule) = self.firing.load(id).await.map_err(|error| unfinished(&error))? else { continue };
            for task in schedule.open {
                match self.firing.end_of(task).await.map_err(|error| unfinished(&error))? {
                    Some(end) => self.end(id, task, end).await?,
                    None => drop(self.schedules.insert(task, id)),
                }
            }
        }
        Ok(())
    }

    /// A page of the schedules that watch tasks, as soon as the view can tell. A view that is being built says so itself.
    async fn watching(&self, query: ListQuery) -> Result<Vec<Found>, FollowError> {
        loop {
            match self.firing.views.find::<Schedules>(query.clone()).await {
                Err(ViewError::Building { .. }) => tokio::time::sleep(LOOK_INTERVAL).await,
                found => return found.map_err(|error| FollowError::Again(error.to_string())),
            }
        }
    }

    async fn end(&self, schedule: Uuid, task: Uuid, end: TaskEnd) -> Result<(), FollowError> {
        match self.firing.end_task(schedule, task, end).await {
            Ok(_) => {}
            Err(DispatchError::Refused(refusal)) => debug!(%refusal, "an end is of no concern any more"),
            Err(error) => return Err(unfinished(&error)),
        }
        self.firing.advance(schedule).await;
        Ok(())
    }
}

/// How this event ends a task, if it does.
fn end_in(event: &Event) -> Option<TaskEnd> {
    match event {
        Event::Task(TaskEvent::Completed(_)) => Some(TaskEnd::Completed),
        Event::Task(TaskEvent::Failed(_) | TaskEvent::DeadLettered(_)) => Some(TaskEnd::Failed),
        Event::Task(TaskEvent::Cancelled(_)) => Some(TaskEnd::Cancelled),
        _ => None,
    }
}

/// The task that this event began for its schedule, if it did.
fn task_in(event: &Event) -> Option<Uuid> {
    let outcome = match event {
        Event::Schedule(ScheduleEvent::Fired(fired)) => fired.outcome,
        Event::Schedule(ScheduleEvent::Released(released)) => released.outcome,
        _ => return None,
    };
    match outcome {
        Outcome::Submitted { task_id } => Some(task_id),
        Outcome::Queued | Outcome::PassedOver { .. } => None,
    }
}

/// Nothing is so wrong with the end of one task that the others should not be heard of.
fn unfinished(error: &DispatchError) -> FollowError {
    FollowError::Again(error.to_string())
}

#[async_trait]
impl Follower for Ends {
    fn name(&self) -> String {
        "schedules:ends".to_owned()
    }

    fn wanted(&self) -> Wanted {
        Wanted::Of(&[AggregateKind::Schedule, AggregateKind::Task])
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        self.schedules.clear();
        let position = self.firing.views.reached::<Schedules>();
        let mut before = None;
        loop {
            let filters = vec![Filter::is("is_watching", true)];
            let query = ListQuery { filters, order: Order::Newest, before, limit: PAGE_DOCUMENTS_MAX };
            let page = self.watching(query).await?;
            let Some(last) = page.last() else { return Ok(position) };
            before = Some(last.id);
            self.remember(page.into_iter().map(|found| found.id).collect()).await?;
        }
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let mut ended = Vec::new();
        for event in events {
            if let Some(task) = task_in(&event.event) {
                self.schedules.insert(task, event.stream.id);
            }
            if let Some(end) = end_in(&event.event)
                && let Some(schedule) = self.schedules.get(&event.stream.id)
            {
                ended.push((*schedule, event.stream.id, end));
            }
        }
        let recorded: Vec<_> = ended.iter().map(|(schedule, task, end)| self.end(*schedule, *task, *end)).collect();
        stream::iter(recorded).buffer_unordered(ENDS_AT_ONCE).try_collect::<Vec<()>>().await?;
        // Only now: a batch that fails comes again.
        for (_, task, _) in ended {
            self.schedules.remove(&task);
        }
        Ok(())
    }
}
