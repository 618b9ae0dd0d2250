//! Commands that wait to be written, and what of them makes a batch.
use marvin_domain::StreamId;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use super::{super::batch::Outcome, QUEUE_COMMANDS_MAX};
use crate::log::Append;

/// Commands per batch: enough to amortise the sync of a commit, few enough that nobody waits long for strangers.
const BATCH_COMMANDS_MAX: usize = 256;
/// Bytes per batch: far below what one statement may hold (1 GiB). A larger command makes a batch of its own.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) struct Waiting {
    pub append: Append,
    pub reply: oneshot::Sender<Outcome>,
}

/// What waits, oldest first.
pub(super) struct Gathering {
    queue: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
}

impl Gathering {
    pub fn new(queue: mpsc::Receiver<Waiting>) -> Self {
        Self { queue, waiting: VecDeque::new() }
    }

    /// Waits for one more command. False when there will be none. Must not be asked for while [`is_full`](Self::is_full).
    pub async fn one_more(&mut self) -> bool {
        let next = self.queue.recv().await;
        let came = next.is_some();
        self.waiting.extend(next);
        came
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= QUEUE_COMMANDS_MAX
    }

    /// How many commands wait by now.
    pub fn count(&mut self) -> usize {
        while !self.is_full()
            && let Ok(next) = self.queue.try_recv()
        {
            self.waiting.push_back(next);
        }
        self.waiting.len()
    }

    pub fn next_batch(&mut self) -> Batch {
        Batch::of(gather(&mut self.waiting))
    }
}

/// Commands that are written together, and who waits for them.
pub(super) struct Batch {
    pub appends: Arc<[Append]>,
    /// When it was gathered: how long it is sent again counts from there.
    pub begun: Instant,
    replies: Vec<oneshot::Sender<Outcome>>,
}

impl Batch {
    fn of(commands: Vec<Waiting>) -> Self {
        let (appends, replies): (Vec<_>, Vec<_>) =
            commands.into_iter().map(|waiting| (waiting.append, waiting.reply)).unzip();
        Self { appends: appends.into(), begun: Instant::now(), replies }
    }

    pub fn commands(&self) -> Vec<&Append> {
        self.appends.iter().collect()
    }

    pub fn answer(self, outcomes: Vec<Outcome>) {
        for (reply, outcome) in self.replies.into_iter().zip(outcomes) {
            // A caller that went away is no reason to undo what it asked for.
            reply.send(outcome).ok();
        }
    }
}

/// Takes the next batch: one command a stream and one a command id, oldest first. The others wait for the next one.
fn gather(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut batch, mut left) = (Vec::new(), VecDeque::new());
    let (mut streams, mut ids) = (HashSet::<StreamId>::new(), HashSet::<Uuid>::new());
    let mut bytes = 0;
    while let Some(next) = waiting.pop_front() {
        let append = &next.append;
        let is_full = batch.len() >= BATCH_COMMANDS_MAX || (bytes > 0 && bytes + append.bytes() > BATCH_BYTES_MAX);
        let is_free =
            !ids.contains(&append.command_id) && append.streams.iter().all(|append| !streams.contains(&append.stream));
        // Also of who waits: what comes behind it on the same stream must not overtake it.
        ids.insert(append.command_id);
        streams.extend(append.streams.iter().map(|append| append.stream));
        if is_free && !is_full {
            bytes += append.bytes();
            batch.push(next);
        } else {
            left.push_back(next);
        }
    }
    *waiting = left;
    batch
}

#[cfg(test)]
mod tests;
