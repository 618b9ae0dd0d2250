//! A broker within one process. What it holds ends with it: the sweep finds what it spoke of.
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::Notify;

use super::{
    Broker, BrokerError, Consumer, DEAD_MESSAGES_MAX, DELIVERIES_MAX, Delivery, HINTS_MAX, Keeping, Message,
    QUEUE_MESSAGES_MAX, Queue, Receipt, check, is_matched,
};

/// Clones share all queues.
#[derive(Clone, Default)]
pub struct LocalBroker(Arc<Mutex<Queues>>);

#[derive(Default)]
struct Queues {
    named: HashMap<String, Arc<Held>>,
    topics: HashMap<String, Vec<String>>,
    dead: Arc<Held>,
}

/// One queue.
#[derive(Default)]
struct Held {
    lines: Mutex<Lines>,
    /// Somebody may take a message.
    filled: Notify,
    keeping: Keeping,
}

#[derive(Default)]
struct Lines {
    /// In order. What is given back stands where it stood.
    ready: BTreeMap<u64, Waiting>,
    /// Handed out and not acknowledged.
    out: usize,
    last: u64,
}

struct Waiting {
    message: Message,
    deliveries: u32,
}

impl LocalBroker {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().expect("nothing panics while it holds the queues")
    }
}

impl Queues {
    fn queue(&mut self, queue: &Queue) -> Arc<Held> {
        self.topics.insert(queue.name.clone(), queue.topics.clone());
        let held = || Arc::new(Held { keeping: queue.keeping, ..Held::default() });
        self.named.entry(queue.name.clone()).or_insert_with(held).clone()
    }
}

impl Held {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("nothing panics while it holds a queue")
    }

    fn has_room(&self, count: usize) -> bool {
        let lines = self.lines();
        self.keeping == Keeping::Newest || lines.ready.len() + lines.out + count <= QUEUE_MESSAGES_MAX
    }

    fn put(&self, message: Message) {
        let mut lines = self.lines();
        lines.last += 1;
        let place = lines.last;
        lines.ready.insert(place, Waiting { message, deliveries: 0 });
        if self.keeping == Keeping::Newest && lines.ready.len() > HINTS_MAX {
            lines.ready.pop_first();
        }
        self.filled.notify_one();
    }

    fn take(&self) -> Option<(u64, Waiting)> {
        let mut lines = self.lines();
        let taken = lines.ready.pop_first()?;
        lines.out += 1;
        if !lines.ready.is_empty() {
            self.filled.notify_one();
        }
        Some(taken)
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn publish(&self, messages: &[(String, Message)]) -> Result<(), BrokerError> {
        messages.iter().try_for_each(|(_, message)| check(message))?;
        let queues = self.queues();
        let of_topic = |topic: &str| {
            let is_of = |name: &String| {
                queues.topics.get(name).is_some_and(|topics| topics.iter().any(|pattern| is_matched(pattern, topic)))
            };
            queues.named.iter().filter(|(name, _)| is_of(name)).map(|(_, held)| held.clone()).collect::<Vec<_>>()
        };
        for (topic, message) in messages {
            let to = of_topic(topic);
            if !to.iter().all(|held| held.has_room(1)) {
                return Err(BrokerError::Full);
            }
            to.iter().for_each(|held| held.put(message.clone()));
        }
        Ok(())
    }

    async fn put(&self, queue: &Queue, messages: &[Message]) -> Result<(), BrokerError> {
        messages.iter().try_for_each(check)?;
        let held = self.queues().queue(queue);
        for message in messages {
            if !held.has_room(1) {
                return Err(BrokerError::Full);
            }
            held.put(message.clone());
        }
        Ok(())
    }

    async fn consume(&self, queue: &Queue, unacknowledged_max: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let mut queues = self.queues();
        let (held, dead) = (queues.queue(queue), queues.dead.clone());
        Ok(Box::new(LocalConsumer::of(held, Some(dead), unacknowledged_max)))
    }

    async fn consume_dead(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        Ok(Box::new(LocalConsumer::of(self.queues().dead.clone(), None, 1)))
    }
}

/// What a consumer was handed and has not settled, by its place in the queue.
type Handed = Mutex<BTreeMap<u64, Waiting>>;

struct LocalConsumer {
    desk: Arc<Desk>,
    unacknowledged_max: usize,
}

/// Shared by a consumer and its deliveries.
struct Desk {
    held: Arc<Held>,
    /// None for what is laid aside itself.
    dead: Option<Arc<Held>>,
    handed: Handed,
    /// A delivery was settled.
    settled: Notify,
}

impl LocalConsumer {
    fn of(held: Arc<Held>, dead: Option<Arc<Held>>, unacknowledged_max: u16) -> Self {
        let desk = Desk { held, dead, handed: Handed::default(), settled: Notify::new() };
        Self { desk: Arc::new(desk), unacknowledged_max: unacknowledged_max.max(1).into() }
    }
}

impl Desk {
    fn handed(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.handed.lock().expect("nothing panics while it holds what was handed out")
    }

    /// Takes a delivery off the desk; none when it is not there any more.
    fn settle(&self, place: u64) -> Option<Waiting> {
        let waiting = self.handed().remove(&place)?;
        self.held.lines().out -= 1;
        self.settled.notify_one();
        Some(waiting)
    }

    fn lay_aside(&self, message: Message) {
        let Some(dead) = self.dead.as_ref().filter(|_| self.held.keeping == Keeping::All) else { return };
        dead.put(message);
        let mut lines = dead.lines();
        while lines.ready.len() > DEAD_MESSAGES_MAX {
            lines.ready.pop_first();
        }
    }

    fn give_back(&self, place: u64, waiting: Waiting) {
        if self.dead.is_some() && waiting.deliveries >= DELIVERIES_MAX {
            return self.lay_aside(waiting.message);
        }
        self.held.lines().ready.insert(place, waiting);
        self.held.filled.notify_one();
    }
}

#[async_trait]
impl Consumer for LocalConsumer {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let desk = &self.desk;
        loop {
            if desk.handed().len() >= self.unacknowledged_max {
                desk.settled.notified().await;
                continue;
            }
            let Some((place, mut waiting)) = desk.held.take() else {
                desk.held.filled.notified().await;
                continue;
            };
            waiting.deliveries += 1;
            let (message, is_repeated) = (waiting.message.clone(), waiting.deliveries > 1);
            desk.handed().insert(place, waiting);
            return Ok(Delivery::new(message, is_repeated, Box::new(Slip { desk: desk.clone(), place })));
        }
    }
}

impl Drop for LocalConsumer {
    fn drop(&mut self) {
        let places: Vec<u64> = self.desk.handed().keys().copied().collect();
        for place in places {
            if let Some(waiting) = self.desk.settle(place) {
                self.desk.give_back(place, waiting);
            }
        }
    }
}

/// A delivery on its consumer's desk.
struct Slip {
    desk: Arc<Desk>,
    place: u64,
}

#[async_trait]
impl Receipt for Slip {
    async fn acknowledge(self: Box<Self>) {
        self.desk.settle(self.place);
    }

    async fn give_back(self: Box<Self>) {
        if let Some(waiting) = self.desk.settle(self.place) {
            self.desk.give_back(self.place, waiting);
        }
    }

    async fn lay_aside(self: Box<Self>) {
        if let Some(waiting) = self.desk.settle(self.place) {
            self.desk.lay_aside(waiting.message);
        }
    }
}
