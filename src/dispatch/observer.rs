//! Follows the log's tail, so that aggregates cached here hear of what other nodes append.
use async_trait::async_trait;
use marvin_domain::{Envelope, Position};
use std::sync::Arc;

use super::Dispatcher;
use crate::log::subscription::{FollowError, Follower};

/// Its checkpoint lives in memory: what is cached after a start was read from the log after it.
pub struct Observer {
    dispatcher: Dispatcher,
    seen: Position,
}

impl Observer {
    /// Observes what comes after `seen`, where the log ended when the dispatcher began.
    pub fn new(dispatcher: Dispatcher, seen: Position) -> Self {
        Self { dispatcher, seen }
    }
}

#[async_trait]
impl Follower for Observer {
    fn name(&self) -> String {
        "aggregates".to_owned()
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        Ok(self.seen)
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        for event in events {
            self.dispatcher.observe(event);
            self.seen = event.position;
        }
        Ok(())
    }
}
