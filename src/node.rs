//! What every process of an instance stands on, whatever it does: the stores, the log's tail, commands, views, and the agents that
//! run in it.
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::{
    agent::{
        Kinds,
        lease::Leases,
        queue::Queues,
        webhook::{Outside, callback::Callbacks},
        worker::Worker,
    },
    broker::Broker,
    cache::Cache,
    config::Settings,
    dispatch::{Dispatcher, observer::Observer},
    egress::Egress,
    health::Health,
    log::{
        subscription::{Follower, follow},
        tail::Tail,
    },
    relay::Relay,
    secrets::Secrets,
    security::channels::ChannelKeys,
    stores::{StartError, Stores},
    views::{ViewId, board::Board, documents::Documents, query::Views},
};

/// How long the start waits for views: those of a new instance are there at once, and a large one is built while it serves.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(1);

pub struct Node {
    pub stores: Stores,
    pub health: Health,
    pub tail: Arc<Tail>,
    pub dispatcher: Dispatcher,
    pub documents: Documents,
    pub board: Arc<Board>,
    pub cache: Arc<dyn Cache>,
    pub views: Views,
    pub secrets: Secrets,
    pub callbacks: Arc<Callbacks>,
    pub kinds: Kinds,
    pub broker: Arc<dyn Broker>,
    pub keys: ChannelKeys,
    instance: String,
    loops: Vec<JoinHandle<()>>,
}

impl Node {
    /// Joins the parts on the stores and keeps them up. No agent runs yet. `public_url` is where others reach the instance.
    ///
    /// # Errors
    /// `Egress` when no calls can be made.
    pub fn start(stores: Stores, settings: &Settings, public_url: String) -> Result<Self, StartError> {
        let (log, codec) = (stores.log.clone(), stores.codec.clone());
        let health = Health::default();
        let tail = Tail::new(log.clone(), codec.clone());
        let dispatcher = Dispatcher::new(log.clone(), codec);
        // From before anything is cached, so that nothing appended later is missed.
        let observer = Observer::new(dispatcher.clone(), *tail.head().borrow());
        let documents = Documents::new(stores.sealer.clone());
        let folds = marvin_projections::all();
        let board = Board::new(stores.views.clone(), folds.iter().map(|fold| ViewId::of(&**fold)), health.clone());
        let cache = stores.cache(&health);
        let views = Views::new(stores.views.clone(), documents.clone(), board.clone(), cache.clone());
        let secrets = Secrets::new(dispatcher.clone(), stores.subjects.clone());
        let (subjects, at) = (stores.subjects.clone(), public_url);
        let callbacks = Callbacks::new(dispatcher.clone(), log.clone(), stores.codec.clone(), subjects, at);
        let egress = Egress::new(settings.egress_allow.clone()).map_err(StartError::Egress)?;
        let outside = Outside { egress, secrets: secrets.clone(), callbacks: callbacks.clone() };
        let mut node = Self {
            health: health.clone(),
            tail: tail.clone(),
            secrets,
            callbacks,
            dispatcher,
            documents,
            board: board.clone(),
            cache,
            kinds: Kinds::all(views.clone(), outside),
            views,
            broker: stores.broker(),
            keys: ChannelKeys::new(stores.subjects.clone()),
            instance: settings.instance.clone(),
            stores,
            loops: Vec::new(),
        };
        node.keep(tail.feed(health));
        node.follow(observer);
        node.keep(board.run(log.head()));
        Ok(node)
    }

    /// Runs a loop until the node is closed.
    pub fn keep(&mut self, running: impl Future<Output = ()> + Send + 'static) {
        self.loops.push(tokio::spawn(running));
    }

    /// Follows the log until the node is closed. What stops is told in `/readyz`.
    pub fn follow(&mut self, follower: impl Follower + 'static) {
        let following = follow(self.tail.clone(), follower, self.health.clone());
        self.keep(async move { drop(following.await) });
    }

    /// Waits for views that are there at once.
    pub async fn first_look(&self) {
        self.board.first_look(FIRST_LOOK_MAX).await;
    }

    /// What tells the broker of the log.
    pub fn relay(&self) -> Relay {
        Relay {
            broker: self.broker.clone(),
            keys: self.keys.clone(),
            dispatcher: self.dispatcher.clone(),
            kinds: self.kinds.clone(),
            instance: self.instance.clone(),
            source: self.source(),
        }
    }

    /// The source of every CloudEvent.
    pub fn source(&self) -> String {
        format!("/marvin/{}", self.instance)
    }

    /// What gives tasks to workers outside.
    pub fn leases(&self) -> Arc<Leases> {
        let Stores { log, codec, slots, .. } = &self.stores;
        let reading = (log.clone(), self.tail.clone());
        Leases::new(
            self.kinds.clone(),
            self.dispatcher.clone(),
            self.views.clone(),
            codec.clone(),
            slots.clone(),
            reading,
        )
    }

    /// Runs agents from now on.
    pub fn work(&mut self) -> Arc<Worker> {
        let Stores { log, codec, slots, .. } = &self.stores;
        let (log, codec, slots) = (log.clone(), codec.clone(), slots.clone());
        let worker = Worker::new(self.kinds.clone(), self.dispatcher.clone(), self.views.clone(), log, codec, slots);
        let queues = Queues { broker: self.broker.clone(), keys: self.keys.clone(), instance: self.instance.clone() };
        self.keep(queues.consume_all(worker.clone(), self.kinds.names_run_here(), self.health.clone()));
        self.keep(worker.clone().listen(self.tail.clone()));
        self.keep(self.callbacks.clone().listen(self.tail.clone()));
        self.keep(worker.clone().heartbeat());
        self.keep(worker.clone().sweep());
        worker
    }

    /// Stops every loop. What they had not finished is found at the next start.
    pub async fn stop(&mut self) {
        for running in &self.loops {
            running.abort();
        }
        for running in self.loops.drain(..) {
            running.await.ok();
        }
    }
}

/// Takes no new task and lets those that run end, at most `patience`.
pub async fn drain(worker: &Worker, patience: Duration) {
    if tokio::time::timeout(patience, worker.drain()).await.is_err() {
        warn!("tasks were still running; they go on after the restart");
    }
}
