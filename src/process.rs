//! Runs the process managers: follows the log, answers their questions, dispatches their commands.
//!
//! Command ids follow from the event, so a batch that a crash repeats is the same commands and appends nothing twice.
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use marvin_domain::{
    Actor, AggregateKind, Envelope, Position, StreamId,
    agent::Agent,
    ids,
    process::{Answer, ProcessManager, Question},
};
use marvin_projections::{Key, Projection, schedules::Schedules, tasks::Tasks};
use std::sync::Arc;
use tracing::debug;
use uuid::Uuid;

use crate::{
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    log::{
        checkpoint::{Checkpoints, keep_checkpoint},
        subscription::{FollowError, Follower},
    },
    views::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, query::Views},
};

/// Events of a batch that are worked on at once: enough to share commits, few enough to bound memory.
const REACTIONS_AT_ONCE: usize = 64;
pub struct Process {
    manager: Box<dyn ProcessManager>,
    dispatcher: Dispatcher,
    views: Views,
    checkpoints: Arc<dyn Checkpoints>,
    stored: Position,
}

impl Process {
    pub fn new(
        manager: Box<dyn ProcessManager>,
        dispatcher: Dispatcher,
        views: Views,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> Self {
        Self { manager, dispatcher, views, checkpoints, stored: 0 }
    }

    async fn react(&self, event: &Envelope) -> Result<bool, FollowError> {
        let Some(question) = self.manager.ask(event) else { return Ok(false) };
        let answer = self.answer(question, event.position).await?;
        for (index, directed) in self.manager.react(event, answer).into_iter().enumerate() {
            let mut meta = CommandMeta::new(Actor::System);
            let label = format!("{}/{index}/{}", self.manager.name(), directed.stream);
            meta.command_id = ids::derived(event.event_id, &label);
            (meta.correlation, meta.causation) = (event.metadata.correlation, Some(event.event_id));
            match self.dispatcher.dispatch(&meta, &[directed]).await {
                Ok(_) => {}
                // Events went on since: what was to be done is done, or no longer to be done.
                Err(DispatchError::Refused(refusal)) => debug!(%refusal, "a process manager's command was refused"),
                Err(error) => return Err(unfinished(&error, event.position)),
            }
        }
        Ok(true)
    }

    async fn answer(&self, question: Question, position: Position) -> Result<Answer, FollowError> {
        match question {
            Question::AgentName(id) => {
                let stream = StreamId { kind: AggregateKind::Agent, id };
                let loaded = self.dispatcher.load(stream).await.map_err(|error| unfinished(&error, position))?;
                let agent = <&Agent>::try_from(&loaded.state).ok().and_then(Agent::profile);
                Ok(Answer::AgentName(
                    agent.map_or_else(|| "An agent".to_owned(), |agent| agent.name.as_str().to_owned()),
                ))
            }
            Question::OpenTasksOf(user) => {
                self.views.wait::<Tasks>(position).await.map_err(again)?;
                Ok(Answer::OpenTasks(self.open_tasks(user).await?))
            }
            Question::SchedulesOf(user) => {
                self.views.wait::<Schedules>(position).await.map_err(again)?;
                let standing = ["active", "paused", "ended"].map(Key::from).to_vec();
                let filters = vec![Filter::is("owner", user), Filter::In("status", standing)];
                Ok(Answer::Schedules(self.all::<Schedules>(filters).await?))
            }
        }
    }

    async fn open_tasks(&self, user: Uuid) -> Result<Vec<Uuid>, FollowError> {
        let open = ["queued", "running", "retrying"].map(Key::from).to_vec();
        self.all::<Tasks>(vec![Filter::is("requested_by", user), Filter::In("status", open)]).await
    }

    /// The ids of all documents that pass the filters.
    async fn all<P: Projection>(&self, filters: Vec<Filter>) -> Result<Vec<Uuid>, FollowError> {
        let mut ids = Vec::new();
        loop {
            let (filters, before) = (filters.clone(), ids.last().copied());
            let query = ListQuery { filters, order: Order::Newest, before, limit: PAGE_DOCUMENTS_MAX };
            let page = self.views.find::<P>(query).await.map_err(again)?;
            if page.is_empty() {
                return Ok(ids);
            }
            ids.extend(page.into_iter().map(|found| found.id));
        }
    }
}

/// What passes is tried again; what cannot be read or written will not be by itself.
fn unfinished(error: &DispatchError, position: Position) -> FollowError {
    match error {
        DispatchError::Contended | DispatchError::TimedOut | DispatchError::Unavailable(_) | DispatchError::Keys(_) => {
            again(error)
        }
        _ => FollowError::Stop { position, reason: error.to_string() },
    }
}

fn again(error: impl std::fmt::Display) -> FollowError {
    FollowError::Again(error.to_string())
}

#[async_trait]
impl Follower for Process {
    fn name(&self) -> String {
        format!("process:{}", self.manager.name())
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        let checkpoint = self.checkpoints.load(self.manager.name()).await.map_err(again)?;
        self.stored = checkpoint.map_or(0, |checkpoint| checkpoint.position);
        Ok(self.stored)
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let reactions: Vec<_> = events.iter().map(|event| self.react(event)).collect();
        let acted: Vec<bool> = stream::iter(reactions).buffered(REACTIONS_AT_ONCE).try_collect().await?;
        let acted = acted.contains(&true);
        let kept = keep_checkpoint(&*self.checkpoints, self.manager.name(), events, acted, self.stored).await;
        self.stored = kept.map_err(|error| FollowError::Again(error.to_string()))?;
        Ok(())
    }
}
