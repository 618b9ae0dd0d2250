//! Schedules that fire: finds what is due, and records for each planned instant, once, what came of it.
//!
//! The log decides. A firing and its task are one append, under a command id that follows from the schedule and the planned instant,
//! so it makes no difference how many processes fire, or how often one is stopped in between. One of them has the duty so that the
//! others need not try. Owns no time: the clock is handed in.
use futures_util::{StreamExt, stream};
use marvin_projections::schedules::Schedules;
use std::{sync::Arc, time::Duration};
use tracing::{error, warn};

mod ends;
mod firing;
mod submission;

pub use ends::Ends;
pub use firing::{Firing, schedule_stream};
pub use submission::{Unfit, check_submission};

use crate::{
    duty::holder::Holder,
    health::Health,
    log::{subscription::follow, tail::Tail},
    views::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, ViewError},
};

/// The duty, and its line in `/readyz`.
const NAME: &str = "schedules";
/// Between two looks for what is due: a firing is at most this late while nothing else is.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Schedules that fire at once: enough to fill the log's batches, few enough to bound what their inputs take.
const FIRINGS_AT_ONCE: usize = 128;

/// Fires the schedules of an instance, wherever it runs.
#[derive(Clone)]
pub struct Scheduler {
    pub firing: Firing,
}

impl Scheduler {
    /// Fires while this process has the duty, until it ends.
    pub async fn run(self, holder: Arc<Holder>, tail: Arc<Tail>, health: Health) {
        loop {
            let mut tenure = holder.take(NAME).await;
            let ends = follow(tail.clone(), Ends::new(self.firing.clone()), health.clone());
            let ends = async {
                let halted = ends.await;
                error!(position = halted.position, "schedules hear of no task that ends behind this event");
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = tenure.lost() => warn!("another process may fire the schedules now"),
                () = self.look_again_and_again(&health) => {}
                () = ends => {}
            }
            health.recover(NAME);
        }
    }

    async fn look_again_and_again(&self, health: &Health) {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_well = true;
        loop {
            tick.tick().await;
            match self.fire_all().await {
                Ok(()) if !is_well => {
                    health.recover(NAME);
                    is_well = true;
                }
                Ok(()) => {}
                // A view that is being built says so itself.
                Err(ViewError::Building { .. }) => {}
                Err(error) => {
                    warn!(error = %error, "the schedules that are due could not be found");
                    health.degrade(NAME, error.to_string(), None);
                    is_well = false;
                }
            }
        }
    }

    /// Fires what is due by now. What cannot be recorded is found again by the next look.
    ///
    /// # Errors
    /// When the view does not answer.
    pub async fn fire_all(&self) -> Result<(), ViewError> {
        loop {
            let due = Filter::AtMost("due_at", self.firing.now().timestamp_millis());
            let query = ListQuery {
                filters: vec![Filter::is("status", "active"), due],
                order: Order::LowestThenNewest("due_at"),
                before: None,
                limit: PAGE_DOCUMENTS_MAX,
            };
            let found = self.firing.views.find::<Schedules>(query).await?;
            let firings: Vec<_> = found.iter().map(|schedule| self.firing.advance(schedule.id)).collect();
            let reached: Vec<_> = stream::iter(firings).buffer_unordered(FIRINGS_AT_ONCE).collect().await;
            let is_last = found.len() < PAGE_DOCUMENTS_MAX as usize;
            // Those that cannot be fired now must not be asked for without a pause.
            let Some(position) = reached.into_iter().flatten().max().filter(|_| !is_last) else { return Ok(()) };
            // What has fired must be out of the way of what is due behind it.
            if let Err(behind) = self.firing.views.wait::<Schedules>(position).await {
                warn!(error = %behind, "the schedules that are due behind these have to wait");
                return Ok(());
            }
        }
    }
}
