//! Takes what the broker says of work: for each message the task is claimed, and whatever came of that, the message is done. Which
//! task is ready, and who has it, the log decides; the sweep finds what no message tells of.
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

use super::worker::Worker;
use crate::{
    broker::{
        Broker, BrokerError, Delivery,
        work::{Line, Work},
    },
    health::Health,
    security::channels::ChannelKeys,
    store::chain,
};

/// Messages of one queue that are being claimed at once: enough to share commits of the log.
const CLAIMS_AT_ONCE: u16 = 32;
/// Between two attempts to reach the broker. The sweep goes on meanwhile.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// In `/readyz`.
const NAME: &str = "broker";

/// Where a worker hears of work.
pub struct Queues {
    pub broker: Arc<dyn Broker>,
    pub keys: ChannelKeys,
    pub instance: String,
}

impl Queues {
    /// Has tasks claimed as the broker tells of them, of each of these kinds, until the process ends.
    pub async fn consume_all(self, worker: Arc<Worker>, kinds: Vec<&'static str>, health: Health) {
        join_all(kinds.into_iter().map(|kind| self.consume(worker.clone(), kind, &health))).await;
    }

    /// Consumes the queue of a kind until the process ends.
    async fn consume(&self, worker: Arc<Worker>, kind: &str, health: &Health) {
        let line = Line::Kind(kind.to_owned());
        let mut is_away = false;
        loop {
            let Err(error) = self.take_all(&worker, &line, health, &mut is_away).await;
            if !is_away {
                warn!(kind, error = chain(&error), "the broker cannot be reached: tasks are found by the sweep");
            }
            is_away = true;
            health.degrade(NAME, chain(&error), None);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn take_all(
        &self,
        worker: &Arc<Worker>,
        line: &Line,
        health: &Health,
        is_away: &mut bool,
    ) -> Result<std::convert::Infallible, BrokerError> {
        let mut consumer = self.broker.consume(&line.queue(&self.instance), CLAIMS_AT_ONCE).await?;
        health.recover(NAME);
        if std::mem::take(is_away) {
            info!("the broker can be reached again");
        }
        loop {
            // What cannot be run here is for somebody who has room.
            worker.has_room().await;
            let delivery = consumer.next().await?;
            let read = Work::read(&delivery.message, &self.keys, line);
            let outcome = if read.is_ok() { "taken" } else { "unreadable" };
            metrics::counter!("marvin_work_messages_total", "outcome" => outcome).increment(1);
            match read {
                Ok(work) => {
                    let worker = worker.clone();
                    tokio::spawn(async move { claim(&worker, work, delivery).await });
                }
                Err(error) => {
                    warn!(
                        channel = line.channel(),
                        error = chain(&error),
                        "a message that nobody can read was laid aside"
                    );
                    delivery.lay_aside().await;
                }
            }
        }
    }
}

/// Whoever was faster, or however long the task runs: behind the claim the message has said what it had to say.
async fn claim(worker: &Arc<Worker>, work: Work, delivery: Delivery) {
    worker.claim(work.task, work.agent).await;
    delivery.acknowledge().await;
}
