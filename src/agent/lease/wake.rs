//! Waits until there may be a task to lease. What it wakes for is a guess: only a look tells.
use marvin_domain::{Envelope, Event, task::TaskEvent};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::warn;
use uuid::Uuid;

use super::Leases;
use crate::log::subscription::Subscription;

/// The slow look behind the wake-ups: finds retries that are due, and slots that were freed elsewhere or ran out.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How late it is noticed that nobody waits for the answer any more.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Wake {
    agent: Uuid,
    events: Subscription,
    freed: watch::Receiver<()>,
}

impl Wake {
    /// Hears of everything from now on.
    pub fn of(leases: &Leases, agent: Uuid) -> Self {
        let after = *leases.tail.head().borrow();
        let events = Subscription::page_by_page(leases.tail.clone(), after);
        Self { agent, events, freed: leases.freed.subscribe() }
    }

    /// Returns when there may be something, at the next slow look, at `until`, or when nobody wants to know any more.
    pub async fn next(&mut self, until: Instant, is_wanted: &impl AsyncFn() -> bool) {
        let look_at = until.min(Instant::now() + LOOK_INTERVAL);
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = sleep_until(look_at) => return,
                _ = self.freed.changed() => return,
                _ = check.tick() => if !is_wanted().await { return },
                events = self.events.next() => match events {
                    Ok(events) if events.iter().any(|event| concerns(event, self.agent)) => return,
                    Ok(_) => {}
                    Err(error) => {
                        warn!(error = %error, "who waits for tasks cannot read the log");
                        return sleep_until(look_at).await;
                    }
                },
            }
        }
    }
}

/// Whether a task of this agent may be ready by this event, or the agent gives more.
fn concerns(event: &Arc<Envelope>, agent: Uuid) -> bool {
    match &event.event {
        Event::Task(TaskEvent::Submitted(submitted)) => submitted.agent_id == agent,
        // Whose task it is these do not say.
        Event::Task(TaskEvent::Retried(_) | TaskEvent::HeartbeatLost(_)) => true,
        Event::Agent(_) => event.stream.id == agent,
        _ => false,
    }
}
