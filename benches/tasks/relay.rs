//! Telling RabbitMQ of events, against lapin alone: into a quorum queue, with confirms, while somebody consumes it.
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use marvin::{
    agent::{Kinds, insight::agent::InsightAgent},
    broker::rabbit::RabbitBroker,
    dispatch::Dispatcher,
    duty::{holder::Holder, sqlite::SqliteDuties},
    health::Health,
    log::{
        EventLog,
        checkpoint::{Checkpoint, Checkpoints},
        sqlite::SqliteLog,
        tail::Tail,
    },
    relay::Relay,
    security::{channels::ChannelKeys, keyfile::MasterKey, subjects::SqliteSubjects},
    store::StoreError,
};
use std::{path::Path, sync::Arc, time::Instant};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::{
    Ratio, Target, note,
    sample::{Keys, STREAM_EVENTS, new_stream},
    take_turns,
};

const EVENTS: usize = 20_000;
/// What lapin alone has under way: as many as the relay sends before it waits.
const UNCONFIRMED_MAX: usize = marvin::log::subscription::BATCH_EVENTS_MAX as usize;
/// Deliveries before an acknowledgement is waited for; each acknowledgement is for this many.
const PREFETCH: u16 = 1_000;
const ACKNOWLEDGED_AT_ONCE: usize = 250;

/// A relay that begins at the beginning, whatever was told before.
struct FromTheBeginning;

#[async_trait]
impl Checkpoints for FromTheBeginning {
    async fn load(&self, _name: &str) -> Result<Option<Checkpoint>, StoreError> {
        Ok(Some(Checkpoint { position: 0, event_id: Uuid::nil() }))
    }
    async fn store(&self, _name: &str, _checkpoint: Checkpoint) -> Result<(), StoreError> {
        Ok(())
    }
}

pub fn tell(runtime: &Runtime, rounds: usize, keys: &Arc<Keys>, directory: &Path, url: &str) {
    let (log, relay, instance) = runtime.block_on(relay(keys, directory, url));
    let consumer = runtime.block_on(Consumer::bound(url, &instance));
    let bare = runtime.block_on(Bare::new(url));
    // What the relay sends is what lapin alone sends as well, byte for byte in the body.
    let (_, sample) = runtime.block_on(ours(&log, keys, &relay, &consumer));
    note(&format!("relay: {EVENTS} events of {} bytes a message, a quorum queue on one node", sample.0.len()));
    take_turns(
        rounds,
        || runtime.block_on(bare.publish(&sample)),
        || runtime.block_on(ours(&log, keys, &relay, &consumer)).0,
    )
    .report("relay of events to a consumed quorum queue, to bare lapin", Target::AtLeast(0.7), Ratio::Rate);
}

async fn relay(keys: &Arc<Keys>, directory: &Path, url: &str) -> (Arc<SqliteLog>, Relay, String) {
    std::fs::create_dir(directory).expect("a new directory");
    let log = Arc::new(SqliteLog::open(&directory.join("log.db")).expect("a new file opens"));
    for _ in 0..EVENTS / STREAM_EVENTS as usize {
        let stream = new_stream();
        for sequence in 1..=STREAM_EVENTS {
            log.append(keys.command(stream, sequence).await).await.expect("nothing is in the way");
        }
    }
    let key = MasterKey::load_or_create(&directory.join("master.key"), true).expect("the directory is writable");
    let subjects = SqliteSubjects::open(&directory.join("subjects.db"), Arc::new(key)).await.expect("it opens");
    let instance = format!("bench{}", &Uuid::new_v4().simple().to_string()[..12]);
    let broker = RabbitBroker::new(url, &instance).expect("a URL of AMQP");
    let relay = Relay {
        broker: Arc::new(broker),
        keys: ChannelKeys::new(Arc::new(subjects)),
        dispatcher: Dispatcher::new(log.clone(), keys.codec.clone()),
        kinds: Kinds::of(vec![Arc::new(InsightAgent)]),
        source: format!("/marvin/{instance}"),
        instance: instance.clone(),
    };
    (log, relay, instance)
}

/// Seconds an event from the start of the relay to the last delivery; and a message that came.
async fn ours(log: &Arc<SqliteLog>, keys: &Keys, relay: &Relay, consumer: &Consumer) -> (f64, Sample) {
    let tail = Tail::new(log.clone(), keys.codec.clone());
    let holder = Holder::new(Arc::new(SqliteDuties(log.database().clone())));
    let feeding = tokio::spawn(tail.clone().feed(Health::default()));
    let holding = tokio::spawn(holder.clone().run());
    // The duty is had before the clock starts: how long that takes is no matter of throughput.
    let tenure = holder.take("relay").await;
    drop(tenure);
    let start = Instant::now();
    let telling =
        tokio::spawn(relay.clone().run_shared(tail, holder.clone(), Arc::new(FromTheBeginning), Health::default()));
    let sample = consumer.take(EVENTS).await;
    let seconds = start.elapsed().as_secs_f64() / EVENTS as f64;
    telling.abort();
    drop(telling.await);
    holder.release_all().await;
    feeding.abort();
    holding.abort();
    (seconds, sample)
}

/// A body and what stands around it.
struct Sample(Vec<u8>, BasicProperties);

/// Consumes a quorum queue that gets every event of an exchange.
struct Consumer {
    _connection: Connection,
    inner: tokio::sync::Mutex<lapin::Consumer>,
    channel: Channel,
}

impl Consumer {
    async fn bound(url: &str, instance: &str) -> Self {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        let (exchange, queue) = (format!("{instance}.events"), format!("{instance}.outside"));
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let topic = lapin::ExchangeKind::Topic;
        channel
            .exchange_declare(exchange.as_str().into(), topic, durable, FieldTable::default())
            .await
            .expect("it is new");
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), quorum).await.expect("it is new");
        let none = FieldTable::default();
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(queue.as_str().into(), exchange.as_str().into(), "#".into(), bind, none)
            .await
            .expect("both are");
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("a setting");
        let consume = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.as_str().into(), "".into(), consume, FieldTable::default()).await;
        Self { _connection: connection, inner: consumer.expect("it is there").into(), channel }
    }

    /// Takes and acknowledges so many; answers the first.
    async fn take(&self, count: usize) -> Sample {
        let mut consumer = self.inner.lock().await;
        let mut first = None;
        for number in 1..=count {
            let delivery = consumer.next().await.expect("it goes on").expect("it is delivered");
            if number % ACKNOWLEDGED_AT_ONCE == 0 || number == count {
                let multiple = BasicAckOptions { multiple: true };
                self.channel.basic_ack(delivery.delivery_tag, multiple).await.expect("the broker listens");
            }
            first.get_or_insert(Sample(delivery.data, delivery.properties));
        }
        first.expect("there was one")
    }
}

/// lapin alone, with an exchange and a queue of its own that are like those of the relay.
struct Bare {
    _connection: Connection,
    channel: Channel,
    exchange: String,
    consumer: Consumer,
}

impl Bare {
    async fn new(url: &str) -> Self {
        let instance = format!("bare{}", &Uuid::new_v4().simple().to_string()[..12]);
        let consumer = Consumer::bound(url, &instance).await;
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("a setting");
        Self { _connection: connection, channel, exchange: format!("{instance}.events"), consumer }
    }

    /// Seconds a message from the first to the last delivery.
    async fn publish(&self, sample: &Sample) -> f64 {
        let start = Instant::now();
        let publishing = async {
            let sent = stream::iter(0..EVENTS).map(|_| async {
                let (exchange, topic) = (self.exchange.as_str().into(), "task.step_completed".into());
                let options = BasicPublishOptions::default();
                let sent = self.channel.basic_publish(exchange, topic, options, &sample.0, sample.1.clone()).await;
                let confirmed = sent?.await?;
                assert!(confirmed.is_ack());
                Ok::<_, lapin::Error>(())
            });
            sent.buffer_unordered(UNCONFIRMED_MAX).try_collect::<()>().await.expect("all are confirmed");
        };
        tokio::join!(publishing, self.consumer.take(EVENTS));
        start.elapsed().as_secs_f64() / EVENTS as f64
    }
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.expect("the broker answers")
}
