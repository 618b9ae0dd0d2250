//! This process's duties: takes them, prolongs them each second, and says at once when one is lost.
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::Interval};
use tracing::warn;
use uuid::Uuid;

use super::Duties;

/// How long a lease lasts unless it is prolonged: a holder that died gives way within this.
const TTL: Duration = Duration::from_secs(4);
/// Between two prolongations, and between two looks whether a duty is free.
const INTERVAL: Duration = Duration::from_secs(1);
/// Without a prolongation for this long the duties are given up: a second before somebody else may have them.
const PATIENCE: Duration = Duration::from_secs(3);

/// The duties that are held, with the tokens they were taken under, and how often they were prolonged.
#[derive(Debug, Clone, Default)]
struct Leases {
    tokens: HashMap<String, u64>,
    renewals: u64,
}

/// One a process.
pub struct Holder {
    /// Drawn at the start: a process that comes back is another holder.
    id: Uuid,
    duties: Arc<dyn Duties>,
    leases: watch::Sender<Leases>,
}

impl Holder {
    pub fn new(duties: Arc<dyn Duties>) -> Arc<Self> {
        Arc::new(Self { id: Uuid::now_v7(), duties, leases: watch::Sender::default() })
    }

    /// Prolongs what is held, until the process ends. Runs once per process.
    pub async fn run(self: Arc<Self>) {
        let mut tick = tokio::time::interval(INTERVAL);
        let mut proven = Instant::now();
        loop {
            // Not only at a tick: the lease runs out between two of them as well.
            match tokio::time::timeout_at((proven + PATIENCE).into(), self.prolong(&mut tick)).await {
                Ok(asked) => proven = asked,
                Err(_) => {
                    self.leases.send_if_modified(|leases| {
                        let is_lost = !leases.tokens.is_empty();
                        if is_lost {
                            warn!("duties could not be prolonged, and are given up");
                            leases.tokens.clear();
                        }
                        is_lost
                    });
                    // What is taken from now on is newer.
                    proven = Instant::now();
                }
            }
        }
    }

    /// Asks at each tick until an answer comes, and says when that was asked for.
    async fn prolong(&self, tick: &mut Interval) -> Instant {
        loop {
            tick.tick().await;
            let before = self.leases.borrow().tokens.clone();
            let asked = Instant::now();
            if before.is_empty() {
                return asked;
            }
            match self.duties.renew(self.id, TTL).await {
                Ok(held) => {
                    let held: HashMap<String, u64> = held.into_iter().collect();
                    self.leases.send_modify(|leases| {
                        // What was taken meanwhile is not in the answer, and is held all the same.
                        leases
                            .tokens
                            .retain(|duty, token| before.get(duty) != Some(token) || held.get(duty) == Some(token));
                        leases.renewals += 1;
                    });
                    return asked;
                }
                Err(error) => warn!(error = %error, "duties could not be prolonged yet"),
            }
        }
    }

    /// Waits until the duty is this process's.
    pub async fn take(&self, duty: &str) -> Tenure {
        loop {
            match self.duties.take(duty, self.id, TTL).await {
                Ok(Some(token)) => {
                    self.leases.send_modify(|leases| {
                        leases.tokens.insert(duty.to_owned(), token);
                    });
                    return Tenure { token, duty: duty.to_owned(), leases: self.leases.subscribe() };
                }
                Ok(None) => {}
                Err(error) => warn!(duty, error = %error, "a duty could not be asked for"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Gives up everything, so that nobody has to wait for it. Call it once nothing of it runs any more.
    pub async fn release_all(&self) {
        let held = self.leases.send_replace(Leases::default()).tokens;
        for duty in held.keys() {
            if let Err(error) = self.duties.release(duty, self.id).await {
                warn!(duty, error = %error, "a duty could not be given up, and lapses by itself");
            }
        }
    }
}

/// A duty that was taken, until it is lost.
#[derive(Clone)]
pub struct Tenure {
    /// What its writes are made under.
    pub token: u64,
    duty: String,
    leases: watch::Receiver<Leases>,
}

impl Tenure {
    /// Waits until the duty is lost.
    pub async fn lost(&mut self) {
        // The sender lives as long as the process.
        self.leases.wait_for(|leases| leases.tokens.get(&self.duty) != Some(&self.token)).await.ok();
    }

    /// Waits until the duty was prolonged once more; for ever once it is lost.
    pub async fn renewed(&mut self) {
        let known = self.leases.borrow_and_update().renewals;
        let held = |leases: &Leases| leases.tokens.get(&self.duty) == Some(&self.token);
        self.leases.wait_for(|leases| leases.renewals > known && held(leases)).await.ok();
    }
}
