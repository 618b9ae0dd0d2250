//! Tells the broker what the log holds: each event under its topic, and of each task that may be ready that there is work.
//!
//! A batch may be told twice, and after a takeover out of order; positions tell. A person's words are never told: what a broker
//! keeps, no erasure reaches.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use marvin_domain::{
    AggregateKind, Envelope, Event, Position, StreamId,
    agent::Agent,
    ids,
    task::{Task, TaskEvent},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};
use tracing::{error, warn};
use uuid::Uuid;

use crate::{
    agent::Kinds,
    broker::{
        Broker, BrokerError, Message,
        sealed::{self, CLOUD_EVENTS_PREFIX},
        work::{Hint, Line, Work},
    },
    cloudevent::{attributes, short_type},
    dispatch::Dispatcher,
    duty::holder::Holder,
    health::Health,
    log::{
        checkpoint::{Checkpoints, keep_checkpoint},
        subscription::{FollowError, Follower, follow},
        tail::Tail,
    },
    security::channels::{ChannelKeys, KeyName},
    store::chain,
};

/// The channel of the topic exchange.
pub const EVENTS_CHANNEL: &str = "events";
/// As a follower, a duty and a part of the process.
const NAME: &str = "relay";

/// What a relay works with.
#[derive(Clone)]
pub struct Relay {
    pub broker: Arc<dyn Broker>,
    pub keys: ChannelKeys,
    pub dispatcher: Dispatcher,
    pub kinds: Kinds,
    pub instance: String,
    /// `/marvin/<instance>`
    pub source: String,
}

impl Relay {
    /// For a broker within this process, where nobody else listens: tells of work that comes from now on, until the process ends.
    /// What was ready before, the workers' sweep finds.
    pub async fn run_within(self, tail: Arc<Tail>, health: Health) {
        let start = Start::Here(*tail.head().borrow());
        follow(tail, Telling { relay: self, start, stored: 0 }, health).await;
    }

    /// For a broker that many processes share: one of them at a time tells, each behind where the one before was.
    pub async fn run_shared(
        self,
        tail: Arc<Tail>,
        holder: Arc<Holder>,
        checkpoints: Arc<dyn Checkpoints>,
        health: Health,
    ) {
        loop {
            let mut tenure = holder.take(NAME).await;
            let start = Start::Kept { checkpoints: checkpoints.clone(), tail: tail.clone() };
            let telling = follow(tail.clone(), Telling { relay: self.clone(), start, stored: 0 }, health.clone());
            let stopped = async {
                let halted = telling.await;
                error!(position = halted.position, "the broker is told of nothing behind this event");
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = tenure.lost() => warn!("another process may tell the broker now"),
                () = stopped => {}
            }
            // How the relay is, whoever has the duty says from now on.
            health.recover(NAME);
        }
    }

    fn event(&self, envelope: &Envelope) -> (String, Message) {
        let headers = attributes(envelope, &self.source);
        let headers = headers.into_iter().map(|(name, value)| (format!("{CLOUD_EVENTS_PREFIX}{name}"), value));
        let facts: serde_json::Value = serde_json::from_slice(&envelope.event.facts()).unwrap_or_default();
        let clear = Message {
            id: envelope.event_id,
            headers: headers.collect(),
            content_type: "application/json".into(),
            body: marvin_domain::event::to_json(&json!({ "facts": facts })).into(),
        };
        let epoch = ChannelKeys::epoch_at(Utc::now().timestamp());
        let key = KeyName { channel: EVENTS_CHANNEL.to_owned(), epoch };
        let topic = format!("{}.{}", short_type(envelope), envelope.stream.id);
        (topic, sealed::seal(&self.keys, &key, clear))
    }

    /// What this event makes ready: at once or, for programs outside, later. A retry of what runs here waits for the sweep.
    async fn work(&self, envelope: &Envelope, with_outside: bool) -> Result<Option<(Line, Message)>, FollowError> {
        let id = ids::derived(envelope.event_id, "work");
        let Some((agent, task, ready_at)) = self.concerned(envelope).await? else { return Ok(None) };
        let kind = |state: &_| <&Agent>::try_from(state).ok().and_then(Agent::profile).map(|agent| agent.kind.clone());
        let Some(kind) = self.load(AggregateKind::Agent, agent, kind).await? else { return Ok(None) };
        if self.kinds.is_leased(&kind) && with_outside {
            return Ok(Some(Hint { agent, task, ready_at }.message(id, &self.keys)));
        }
        let is_work = self.kinds.run_here(&kind) && ready_at.is_none();
        Ok(task.filter(|_| is_work).map(|task| Work { task, agent }.message(id, &self.keys, kind)))
    }

    /// Whose work this event is about, which, and from when on. None where it makes nothing ready.
    async fn concerned(
        &self,
        envelope: &Envelope,
    ) -> Result<Option<(Uuid, Option<Uuid>, Option<DateTime<Utc>>)>, FollowError> {
        let task = envelope.stream.id;
        let ready_at = match &envelope.event {
            Event::Task(TaskEvent::Submitted(submitted)) => return Ok(Some((submitted.agent_id, Some(task), None))),
            // It may be resumed, or do more at once. Created, it has its queue.
            Event::Agent(_) => return Ok(Some((envelope.stream.id, None, None))),
            Event::Task(TaskEvent::Retried(_) | TaskEvent::HeartbeatLost(_)) => None,
            Event::Task(TaskEvent::RetryScheduled(scheduled)) => Some(scheduled.retry_at),
            _ => return Ok(None),
        };
        let agent = |state: &_| <&Task>::try_from(state).ok().map(|task| task.agent_id);
        let agent = self.load(AggregateKind::Task, task, agent).await?;
        Ok(agent.map(|agent| (agent, Some(task), ready_at)))
    }

    async fn load<T>(
        &self,
        kind: AggregateKind,
        id: Uuid,
        read: impl FnOnce(&marvin_domain::State) -> Option<T>,
    ) -> Result<Option<T>, FollowError> {
        let loaded = self.dispatcher.load(StreamId { kind, id }).await.map_err(again)?;
        Ok(read(&loaded.state))
    }

    async fn tell_events(&self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        let published: Vec<_> = events.iter().map(|event| self.event(event)).collect();
        passed_over("a queue that is bound to topics", self.broker.publish(&published).await)
    }

    /// `with_outside`: also to those who listen from outside, who reach only a broker that is shared.
    async fn tell_work(&self, events: &[Arc<Envelope>], with_outside: bool) -> Result<(), FollowError> {
        let mut lines: BTreeMap<Line, Vec<Message>> = BTreeMap::new();
        for event in events {
            if let Some((line, message)) = self.work(event, with_outside).await? {
                lines.entry(line).or_default().push(message);
            }
        }
        for (line, messages) in lines {
            let put = self.broker.put(&line.queue(&self.instance), &messages).await;
            passed_over(&line.channel(), put)?;
        }
        Ok(())
    }
}

/// A full queue does not hold up the others: the sweep finds the tasks, and who reads topics has the log.
fn passed_over(queue: &str, told: Result<(), BrokerError>) -> Result<(), FollowError> {
    match told {
        Ok(()) => Ok(()),
        Err(error @ (BrokerError::Full | BrokerError::TooLarge { .. })) => {
            warn!(queue, error = %error, "the broker refused messages");
            Ok(())
        }
        Err(error @ BrokerError::Unavailable(_)) => Err(FollowError::Again(chain(&error))),
    }
}

fn again(error: impl std::error::Error) -> FollowError {
    FollowError::Again(chain(&error))
}

/// Where a relay begins.
enum Start {
    Here(Position),
    Kept { checkpoints: Arc<dyn Checkpoints>, tail: Arc<Tail> },
}

struct Telling {
    relay: Relay,
    start: Start,
    stored: Position,
}

impl Telling {
    /// What stood in the log before there was a broker, nobody could have bound a queue for.
    async fn resume_kept(checkpoints: &dyn Checkpoints, tail: &Tail) -> Result<Position, FollowError> {
        if let Some(checkpoint) = checkpoints.load(NAME).await.map_err(again)? {
            return Ok(checkpoint.position);
        }
        let end = tail.end().await.map_err(again)?;
        checkpoints.store(NAME, end).await.map_err(again)?;
        Ok(end.position)
    }
}

#[async_trait]
impl Follower for Telling {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    async fn resume(&mut self) -> Result<Position, FollowError> {
        self.stored = match &self.start {
            Start::Here(position) => *position,
            Start::Kept { checkpoints, tail } => Self::resume_kept(&**checkpoints, tail).await?,
        };
        Ok(self.stored)
    }

    async fn take(&mut self, events: &[Arc<Envelope>]) -> Result<(), FollowError> {
        self.relay.tell_work(events, matches!(self.start, Start::Kept { .. })).await?;
        match &mut self.start {
            Start::Here(position) => *position = events.last().map_or(*position, |last| last.position),
            Start::Kept { checkpoints, .. } => {
                self.relay.tell_events(events).await?;
                let kept = keep_checkpoint(&**checkpoints, NAME, events, true, self.stored).await;
                self.stored = kept.map_err(again)?;
            }
        }
        Ok(())
    }
}
