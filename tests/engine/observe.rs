//! Cached aggregates of streams that other nodes append to: fresh without an append of one's own, dropped after a gap.
use crate::stack::{Stack, meta};
use marvin::{
    dispatch::{Dispatcher, observer::Observer},
    log::subscription::Follower,
};
use marvin_domain::{
    AggregateKind, Directed, Envelope, StreamId,
    agent::{Agent, AgentCommand, AgentStatus},
};
use std::sync::Arc;
use uuid::Uuid;

struct Nodes {
    stack: Stack,
    /// Over the same log, with a cache of its own.
    other: Dispatcher,
    stream: StreamId,
}

async fn two_nodes() -> Nodes {
    let stack = Stack::new().await;
    let other = Dispatcher::new(stack.stores.log.clone(), stack.codec().clone());
    let agent = stack.agent("scribe").await;
    // So that what is asked later is a guess of the cache.
    assert_eq!(stack.dispatcher.cached_count(), 1);
    Nodes { stack, other, stream: StreamId { kind: AggregateKind::Agent, id: agent } }
}

impl Nodes {
    async fn elsewhere(&self, command: AgentCommand) -> Arc<Envelope> {
        self.other.dispatch(&meta(), &[Directed::new(self.stream.id, command)]).await.unwrap();
        Arc::new(self.stack.events().await.pop().unwrap())
    }

    async fn here(&self) -> (u64, u64, AgentStatus) {
        let loaded = self.stack.dispatcher.load(self.stream).await.unwrap();
        let status = <&Agent>::try_from(&loaded.state).unwrap().profile().unwrap().status;
        (loaded.sequence, loaded.position, status)
    }
}

#[tokio::test]
async fn what_another_node_appends_is_known_here_without_an_append() {
    let nodes = two_nodes().await;
    let mut observer = Observer::new(nodes.stack.dispatcher.clone(), 1);
    let paused = nodes.elsewhere(AgentCommand::Pause).await;
    assert_eq!(nodes.here().await, (1, 1, AgentStatus::Active), "the cache was asked, and had not heard of it");
    observer.take(std::slice::from_ref(&paused)).await.unwrap();
    assert_eq!(nodes.here().await, (2, 2, AgentStatus::Paused));
    let resumed = nodes.elsewhere(AgentCommand::Resume).await;
    // A batch that is given twice, and events that come late, take nothing back.
    observer.take(&[paused.clone(), resumed.clone()]).await.unwrap();
    observer.take(&[paused, resumed]).await.unwrap();
    assert_eq!(nodes.here().await, (3, 3, AgentStatus::Active));
    assert_eq!(observer.resume().await.unwrap(), 3);
}

#[tokio::test]
async fn a_gap_drops_what_is_cached_and_the_stream_is_read_anew() {
    let nodes = two_nodes().await;
    nodes.elsewhere(AgentCommand::Pause).await;
    let resumed = nodes.elsewhere(AgentCommand::Resume).await;
    let retired = nodes.elsewhere(AgentCommand::Retire).await;
    nodes.stack.dispatcher.observe(&resumed);
    assert_eq!(nodes.stack.dispatcher.cached_count(), 0);
    assert_eq!(nodes.here().await, (4, 4, AgentStatus::Retired));
    nodes.stack.dispatcher.observe(&retired);
    assert_eq!(nodes.here().await, (4, 4, AgentStatus::Retired));
}

#[tokio::test]
async fn streams_that_nobody_here_asked_for_are_not_cached_by_observing_them() {
    let nodes = two_nodes().await;
    let create = AgentCommand::Create {
        name: marvin_domain::Name::parse("stranger").unwrap(),
        description: String::new(),
        kind: "rules".into(),
        config: serde_json::json!({ "rules": [] }).into(),
        limits: marvin_domain::agent::Limits::default(),
    };
    nodes.other.dispatch(&meta(), &[Directed::new(Uuid::now_v7(), create)]).await.unwrap();
    nodes.stack.dispatcher.observe(&nodes.stack.events().await.pop().unwrap());
    assert_eq!(nodes.stack.dispatcher.cached_count(), 1);
}
