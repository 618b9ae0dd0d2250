//! RabbitMQ, for many processes. Queues are quorum queues: what the broker confirmed is on the disks of a majority of its nodes.
//!
//! Everything is declared by whoever needs it, again on each new connection, so that a broker that was set up anew needs nobody.
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};
use tracing::warn;
use uuid::Uuid;

use super::{
    Broker, BrokerError, Consumer, DEAD_MESSAGES_MAX, DELIVERIES_MAX, Delivery, HINT_TTL, HINTS_MAX, HINTS_UNUSED_TTL,
    Keeping, Message, PATIENCE, QUEUE_MESSAGES_MAX, Queue, Receipt, check,
};

/// The broker and whoever uses it tell each other so often that they live, in seconds: a connection that died is noticed within
/// twice that.
const HEARTBEAT_S: u16 = 5;
/// Stays after a restart of the broker.
const PERSISTENT: u8 = 2;

pub struct RabbitBroker {
    address: AMQPUri,
    instance: String,
    publisher: Mutex<Option<Publisher>>,
    /// All consumers are on one connection, and none on the publisher's: a broker that is short of room holds that one up.
    consuming: Mutex<Option<Arc<Connection>>>,
}

/// What a message is published to.
struct Address<'a> {
    exchange: &'a str,
    key: &'a str,
    /// Whether it must come into a queue.
    is_mandatory: bool,
}

struct Publisher {
    /// Ends with it.
    _connection: Connection,
    channel: Channel,
    declared: HashSet<Queue>,
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> BrokerError {
    BrokerError::Unavailable(Arc::new(error))
}

async fn within<T>(asking: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    timeout(PATIENCE, asking).await.map_err(unavailable)?.map_err(unavailable)
}

impl RabbitBroker {
    /// Connects when it is first used. `instance` is what exchange and queues are named after.
    ///
    /// # Errors
    /// In words, when `url` is none of AMQP.
    pub fn new(url: &str, instance: &str) -> Result<Self, String> {
        let mut address: AMQPUri = url.parse()?;
        address.query.heartbeat.get_or_insert(HEARTBEAT_S);
        let (publisher, consuming) = (Mutex::default(), Mutex::default());
        Ok(Self { address, instance: instance.to_owned(), publisher, consuming })
    }

    async fn connect(&self, purpose: &str) -> Result<Connection, BrokerError> {
        let name = format!("marvin {} {purpose}", self.instance);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        within(Connection::connect_uri(self.address.clone(), properties)).await
    }

    fn exchange(&self) -> String {
        format!("{}.events", self.instance)
    }

    fn dead(&self) -> String {
        format!("{}.dead", self.instance)
    }

    /// Publishes as one who is connected, with what this needs declared; a connection that failed is made anew the next time.
    async fn send(&self, queue: Option<&Queue>, messages: &[(Address<'_>, &Message)]) -> Result<(), BrokerError> {
        messages.iter().try_for_each(|(_, message)| check(message))?;
        let mut kept = self.publisher.lock().await;
        // Taken, not borrowed: who gives up in the middle leaves none.
        let mut publisher = match kept.take().filter(|publisher| publisher.channel.status().connected()) {
            Some(publisher) => publisher,
            None => self.publisher().await?,
        };
        if let Some(queue) = queue.filter(|queue| !publisher.declared.contains(queue)) {
            within(self.declare(&publisher.channel, queue)).await?;
            publisher.declared.insert(queue.clone());
        }
        let sent = timeout(PATIENCE, publisher.send(messages)).await.map_err(unavailable)?;
        if matches!(sent, Ok(()) | Err(BrokerError::Full)) {
            *kept = Some(publisher);
        }
        sent
    }

    async fn publisher(&self) -> Result<Publisher, BrokerError> {
        let connection = self.connect("publishes").await?;
        let channel = within(async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            self.declare_exchange(&channel).await?;
            Ok(channel)
        })
        .await?;
        Ok(Publisher { _connection: connection, channel, declared: HashSet::new() })
    }

    async fn declare_exchange(&self, channel: &Channel) -> lapin::Result<()> {
        let (durable, none) = (ExchangeDeclareOptions { durable: true, ..Default::default() }, FieldTable::default());
        channel.exchange_declare(self.exchange().into(), ExchangeKind::Topic, durable, none).await
    }

    async fn declare_dead(&self, channel: &Channel) -> lapin::Result<()> {
        let mut arguments = quorum();
        arguments.insert("x-max-length".into(), count(DEAD_MESSAGES_MAX));
        channel.queue_declare(self.dead().into(), QueueDeclareOptions::durable(), arguments).await.map(|_| ())
    }

    async fn declare(&self, channel: &Channel, queue: &Queue) -> lapin::Result<()> {
        self.declare_exchange(channel).await?;
        self.declare_dead(channel).await?;
        let mut arguments = quorum();
        // How often it may be handed out again behind the first time.
        arguments.insert("x-delivery-limit".into(), count(DELIVERIES_MAX as usize - 1));
        match queue.keeping {
            Keeping::All => {
                arguments.insert("x-max-length".into(), count(QUEUE_MESSAGES_MAX));
                // What is laid aside is only gone here once it is there; that needs a queue that refuses rather than drops.
                arguments.insert("x-overflow".into(), text("reject-publish"));
                arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
                arguments.insert("x-dead-letter-exchange".into(), text(""));
                arguments.insert("x-dead-letter-routing-key".into(), text(&self.dead()));
            }
            // Without a place to lay them aside: those that nobody needs would push out there what somebody should look at.
            Keeping::Newest => {
                arguments.insert("x-max-length".into(), count(HINTS_MAX));
                arguments.insert("x-overflow".into(), text("drop-head"));
                arguments.insert("x-message-ttl".into(), millis(HINT_TTL));
                arguments.insert("x-expires".into(), millis(HINTS_UNUSED_TTL));
            }
        }
        let name = queue.name.as_str();
        channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
        for topic in &queue.topics {
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(name.into(), self.exchange().into(), topic.as_str().into(), options, none).await?;
        }
        Ok(())
    }

    /// A channel of the consumers' connection.
    async fn channel(&self) -> Result<(Arc<Connection>, Channel), BrokerError> {
        let mut kept = self.consuming.lock().await;
        let connection = match kept.take().filter(|connection| connection.status().connected()) {
            Some(connection) => connection,
            None => Arc::new(self.connect("consumes").await?),
        };
        let channel = within(connection.create_channel()).await?;
        *kept = Some(connection.clone());
        Ok((connection, channel))
    }

    async fn consume_named(
        &self,
        (connection, channel): (Arc<Connection>, Channel),
        name: &str,
        unacknowledged_max: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        let consumer = within(async {
            channel.basic_qos(unacknowledged_max.max(1), BasicQosOptions::default()).await?;
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            channel.basic_consume(name.into(), "".into(), options, none).await
        })
        .await?;
        Ok(Box::new(RabbitConsumer { _connection: connection, channel, consumer }))
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn count(count: usize) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(count).expect("a small constant"))
}

fn millis(time: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(time.as_millis()).expect("a constant of some days"))
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

impl Publisher {
    /// Sends all, then waits for what becomes of each: the broker writes many at once.
    async fn send(&mut self, messages: &[(Address<'_>, &Message)]) -> Result<(), BrokerError> {
        let mut confirms = Vec::with_capacity(messages.len());
        for (Address { exchange, key, is_mandatory }, message) in messages {
            let options = BasicPublishOptions { mandatory: *is_mandatory, ..Default::default() };
            let properties = properties(message);
            let sent =
                self.channel.basic_publish((*exchange).into(), (*key).into(), options, &message.body, properties).await;
            confirms.push(sent.map_err(unavailable)?);
        }
        let (mut is_full, mut is_gone) = (false, false);
        for confirm in confirms {
            match confirm.await.map_err(unavailable)? {
                Confirmation::Ack(None) => {}
                // Confirmed, and in no queue.
                Confirmation::Ack(Some(_)) | Confirmation::NotRequested => is_gone = true,
                Confirmation::Nack(_) => is_full = true,
            }
        }
        match (is_gone, is_full) {
            (true, _) => Err(unavailable(std::io::Error::other("the queue is gone: it is declared anew"))),
            (_, true) => Err(BrokerError::Full),
            _ => Ok(()),
        }
    }
}

fn properties(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(name.as_str().into(), text(value));
    }
    BasicProperties::default()
        .with_message_id(message.id.to_string().into())
        .with_content_type(message.content_type.as_ref().into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// What came, whoever sent it: without an id of ours it has the nil one.
fn message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let words = |text: &lapin::types::ShortString| text.as_str().to_owned();
    let id = properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok()).unwrap_or(Uuid::nil());
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    let text_of = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        _ => None,
    };
    let headers = headers.into_iter().flatten().filter_map(|(name, value)| Some((words(name), text_of(value)?)));
    Message {
        id,
        headers: headers.collect(),
        content_type: properties.content_type().as_ref().map(words).unwrap_or_default().into(),
        body: body.into(),
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish(&self, messages: &[(String, Message)]) -> Result<(), BrokerError> {
        let exchange = self.exchange();
        let addressed: Vec<_> = messages
            .iter()
            .map(|(topic, message)| (Address { exchange: &exchange, key: topic, is_mandatory: false }, message))
            .collect();
        self.send(None, &addressed).await
    }

    async fn put(&self, queue: &Queue, messages: &[Message]) -> Result<(), BrokerError> {
        let address = || Address { exchange: "", key: &queue.name, is_mandatory: true };
        let addressed: Vec<_> = messages.iter().map(|message| (address(), message)).collect();
        self.send(Some(queue), &addressed).await
    }

    async fn consume(&self, queue: &Queue, unacknowledged_max: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let (connection, channel) = self.channel().await?;
        within(self.declare(&channel, queue)).await?;
        self.consume_named((connection, channel), &queue.name, unacknowledged_max).await
    }

    async fn consume_dead(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        let (connection, channel) = self.channel().await?;
        within(self.declare_dead(&channel)).await?;
        self.consume_named((connection, channel), &self.dead(), 1).await
    }
}

struct RabbitConsumer {
    _connection: Arc<Connection>,
    channel: Channel,
    consumer: lapin::Consumer,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let ended = || unavailable(std::io::Error::other("the broker ended the delivery"));
        let mut delivery = self.consumer.next().await.ok_or_else(ended)?.map_err(unavailable)?;
        let message = message(&delivery.properties, std::mem::take(&mut delivery.data));
        Ok(Delivery::new(message, delivery.redelivered, Box::new(Handed(delivery))))
    }
}

/// The broker gives what is not acknowledged to somebody else as soon as the channel is closed.
impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        let channel = self.channel.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { channel.close(200, "done".into()).await.ok() });
        }
    }
}

/// Its body is with whoever works on it.
struct Handed(lapin::message::Delivery);

/// A connection that is lost by now gives back what was handed out over it.
#[async_trait]
impl Receipt for Handed {
    async fn acknowledge(self: Box<Self>) {
        settled(self.0.ack(BasicAckOptions::default()).await);
    }

    async fn give_back(self: Box<Self>) {
        settled(self.0.nack(BasicNackOptions { requeue: true, ..Default::default() }).await);
    }

    async fn lay_aside(self: Box<Self>) {
        settled(self.0.nack(BasicNackOptions { requeue: false, ..Default::default() }).await);
    }
}

fn settled(outcome: lapin::Result<bool>) {
    if let Err(error) = outcome {
        warn!(error = %error, "the broker could not be told what became of a message: it delivers that again");
    }
}
