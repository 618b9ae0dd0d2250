//! Deadlines of tasks that wait: whatever has not begun by then fails and is never started.
//!
//! The log decides. A task ends by a command whose id follows from where its stream stands, and is refused once the task has begun
//! or ended, so it makes no difference how many processes look, or how often one is stopped in between. One of them has the duty so
//! that the others need not try. What runs looks to its deadline itself. Owns no time: the clock is handed in.
use futures_util::{StreamExt, stream};
use marvin_domain::{
    Actor, AggregateKind, Directed, Position, StreamId, ids,
    task::{Task, TaskCommand},
};
use marvin_projections::tasks::Tasks;
use std::{sync::Arc, time::Duration};
use tracing::{debug, warn};
use uuid::Uuid;

use super::worker::correlation_of;
use crate::{
    dispatch::{CommandMeta, DispatchError, Dispatcher, Loaded},
    duty::holder::Holder,
    health::Health,
    log::EventLog,
    time::Clock,
    views::{Filter, Found, ListQuery, Order, PAGE_DOCUMENTS_MAX, ViewError, query::Views},
};

/// The duty, and its line in `/readyz`.
const NAME: &str = "deadlines";
/// Between two looks: a task fails at most this late. A look without anything to find reads the end of an index that holds only
/// tasks that wait and have a deadline.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Tasks that are ended at once: enough to fill the log's batches.
const ENDS_AT_ONCE: usize = 64;

/// Ends tasks that waited too long, wherever it runs.
#[derive(Clone)]
pub struct Deadlines {
    pub dispatcher: Dispatcher,
    pub views: Views,
    pub log: Arc<dyn EventLog>,
    pub clock: Clock,
}

impl Deadlines {
    /// Looks while this process has the duty, until it ends.
    pub async fn run(self, holder: Arc<Holder>, health: Health) {
        loop {
            let mut tenure = holder.take(NAME).await;
            tokio::select! {
                () = tenure.lost() => warn!("another process may look to the deadlines now"),
                () = self.look_again_and_again(&health) => {}
            }
            health.recover(NAME);
        }
    }

    async fn look_again_and_again(&self, health: &Health) {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.end_all().await {
                // A view that is being built says so itself.
                Ok(()) | Err(ViewError::Building { .. }) => health.recover(NAME),
                Err(error) => {
                    warn!(error = %error, "tasks behind their deadline could not be found");
                    health.degrade(NAME, error.to_string(), None);
                }
            }
        }
    }

    /// Ends what waits behind its deadline by now. What cannot be recorded is found again by the next look.
    ///
    /// # Errors
    /// When the view does not answer.
    pub async fn end_all(&self) -> Result<(), ViewError> {
        loop {
            let found = self.overdue().await?;
            let ends: Vec<_> = found.iter().map(|task| self.end(task.id)).collect();
            let ended: Vec<_> = stream::iter(ends).buffer_unordered(ENDS_AT_ONCE).collect().await;
            let is_last = found.len() < PAGE_DOCUMENTS_MAX as usize;
            // Those that cannot be ended now must not be asked for without a pause.
            let Some(position) = ended.into_iter().flatten().max().filter(|_| !is_last) else { return Ok(()) };
            // What has ended must be out of the way of what is overdue behind it.
            if let Err(behind) = self.views.wait::<Tasks>(position).await {
                warn!(error = %behind, "more tasks behind their deadline have to wait");
                return Ok(());
            }
        }
    }

    async fn overdue(&self) -> Result<Vec<Found>, ViewError> {
        let filters = vec![Filter::AtMost("waits_until", (self.clock)().timestamp_millis())];
        let order = Order::LowestThenNewest("waits_until");
        self.views.find::<Tasks>(ListQuery { filters, order, before: None, limit: PAGE_DOCUMENTS_MAX }).await
    }

    /// Ends one task; answers where its end stands, if it was recorded.
    async fn end(&self, task: Uuid) -> Option<Position> {
        match self.try_end(task).await {
            Ok(position) => position,
            // It has begun or ended meanwhile.
            Err(DispatchError::Refused(refusal)) => {
                debug!(task.id = %task, %refusal, "a task is not behind its deadline after all");
                None
            }
            Err(error) => {
                warn!(task.id = %task, error = %error, "a task behind its deadline could not be ended yet");
                None
            }
        }
    }

    async fn try_end(&self, task: Uuid) -> Result<Option<Position>, DispatchError> {
        let (stream, at) = (StreamId { kind: AggregateKind::Task, id: task }, (self.clock)());
        let is_overdue = |loaded: &Loaded| <&Task>::try_from(&loaded.state).is_ok_and(|task| task.waits_overdue(at));
        let mut loaded = self.dispatcher.load(stream).await?;
        if !is_overdue(&loaded) {
            // What is cached may be older than the view.
            loaded = self.dispatcher.refresh(stream).await?;
        }
        if !is_overdue(&loaded) {
            return Ok(None);
        }
        let mut meta = CommandMeta::new(Actor::System);
        // A task that is retried may wait too long once more, and its stream then stands elsewhere.
        meta.command_id = ids::derived(task, &format!("deadline passed {}", loaded.sequence));
        meta.correlation = correlation_of(&*self.log, task).await.unwrap_or(meta.command_id);
        let receipt = self.dispatcher.dispatch(&meta, &[Directed::new(task, TaskCommand::PassDeadline { at })]).await?;
        Ok(Some(receipt.position))
    }
}
