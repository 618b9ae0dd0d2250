//! A channel of the broker: who was told the keys that its messages are sealed under, and which.
//!
//! One stream for each channel. It decides nothing: whoever may have keys is asked before the command.
use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use uuid::Uuid;

use crate::{AggregateKind, Directed, RefusalKind, Refuse, Rooted, StreamId, events, ids, instance};

/// The stream of a channel, the same on every node.
pub fn stream(channel: &str) -> StreamId {
    StreamId { kind: AggregateKind::Channel, id: ids::derived(instance::STREAM.id, &format!("channel/{channel}")) }
}

#[derive(Debug, Clone, PartialEq)]
pub enum ChannelCommand {
    /// Somebody is told the keys of these epochs. Recorded each time.
    Disclose { channel: String, reader: Uuid, first_epoch: u64, last_epoch: u64 },
}

impl ChannelCommand {
    /// This command to the stream that it is for.
    pub fn directed(self) -> Directed {
        let Self::Disclose { channel, .. } = &self;
        Directed::new(stream(channel).id, self)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelKeysDisclosed {
    pub channel: String,
    pub reader: Uuid,
    pub first_epoch: u64,
    pub last_epoch: u64,
}

events! {
    ChannelEvent of Channel {
        KeysDisclosed(ChannelKeysDisclosed) = "keys_disclosed" v 1;
    }
}

/// Nothing is refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ChannelError(Infallible);

impl Refuse for ChannelError {
    fn kind(&self) -> RefusalKind {
        match self.0 {}
    }

    fn code(&self) -> &'static str {
        match self.0 {}
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Channel {}

impl Rooted for Channel {
    fn subject(&self, _id: Uuid) -> Option<Uuid> {
        None
    }
}

impl Aggregate for Channel {
    const TYPE: &'static str = "channel";
    type Command = ChannelCommand;
    type Event = ChannelEvent;
    type Error = ChannelError;
    type Services = ();

    async fn handle(&mut self, command: ChannelCommand, (): &(), sink: &EventSink<Self>) -> Result<(), ChannelError> {
        let ChannelCommand::Disclose { channel, reader, first_epoch, last_epoch } = command;
        sink.write(ChannelKeysDisclosed { channel, reader, first_epoch, last_epoch }.into(), self).await;
        Ok(())
    }

    fn apply(&mut self, _: ChannelEvent) {}
}
