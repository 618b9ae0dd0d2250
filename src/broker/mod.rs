//! What moves work and events between processes: topics and work queues. It only says that there is something; the log decides, so a
//! message that is lost, doubled, late or out of order does no harm.
use async_trait::async_trait;
use bytes::Bytes;
use std::{borrow::Cow, error::Error, sync::Arc, time::Duration};
use uuid::Uuid;

pub mod local;
pub mod rabbit;
pub mod sealed;
mod topic;
pub mod work;

pub use topic::is_matched;

/// Times that a message is delivered to somebody who gives it back or dies, before it is laid aside.
pub const DELIVERIES_MAX: u32 = 10;
/// Messages that a queue holds; who puts in more is refused. A sweep finds what they spoke of.
pub const QUEUE_MESSAGES_MAX: usize = 100_000;
/// Bytes of a body: an event with the largest input that a task may have.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages that are kept of those that were laid aside; the oldest give way.
pub const DEAD_MESSAGES_MAX: usize = 10_000;
/// Hints that a queue of those holds: as many wake any number of programs, and all of them take about half a megabyte.
pub const HINTS_MAX: usize = 1_000;
/// How long a hint is worth anything: whoever comes later looks by itself first.
pub const HINT_TTL: Duration = Duration::from_secs(60 * 60);
/// How long a queue of hints stays that nobody consumes: as long as a program may be away and still be told the keys.
pub const HINTS_UNUSED_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a call waits for the broker's answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is published, or put into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same for the same message sent again.
    pub id: Uuid,
    /// What is said in clear. Names are lower case and `-`, or prefixed as CloudEvents has them.
    pub headers: Vec<(String, String)>,
    pub content_type: Cow<'static, str>,
    pub body: Bytes,
}

/// A queue of work: each message is for one of those who consume it. It lives with the broker, also while nobody consumes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Queue {
    pub name: String,
    /// Topics whose events are put into it as well. `*` stands for one word, `#` for any number.
    pub topics: Vec<String>,
    pub keeping: Keeping,
}

/// What becomes of messages that nobody takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Keeping {
    /// They stay. Where there are [`QUEUE_MESSAGES_MAX`], further ones are refused; what nobody can handle is laid aside.
    #[default]
    All,
    /// They are hints, and the newest [`HINTS_MAX`] stay: the oldest give way, and what nobody can handle is gone. A broker may let
    /// go of a hint after [`HINT_TTL`], and of the queue when nobody has consumed it for [`HINTS_UNUSED_TTL`].
    Newest,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// No connection, or it was lost on the way: the broker may have what was sent. May be sent again.
    #[error("the broker cannot be reached")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// Refused: the queue has as many messages as it may.
    #[error("the queue is full")]
    Full,
    #[error("a message of {bytes} bytes is larger than {BODY_BYTES_MAX}")]
    TooLarge { bytes: usize },
}

/// One of several brokers, for many callers at once.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes each message under its topic, in this order, to all queues of that topic; there may be none. Done once the broker
    /// has them for good. After an error some of them may have been published.
    ///
    /// # Errors
    /// See [`BrokerError`].
    async fn publish(&self, messages: &[(String, Message)]) -> Result<(), BrokerError>;

    /// Puts messages into a queue, which is made if it is not there. Done once the broker has them for good.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    async fn put(&self, queue: &Queue, messages: &[Message]) -> Result<(), BrokerError>;

    /// Consumes a queue, which is made if it is not there: at most `unacknowledged_max` deliveries at a time.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn consume(&self, queue: &Queue, unacknowledged_max: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Consumes what was laid aside, of all queues.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn consume_dead(&self) -> Result<Box<dyn Consumer>, BrokerError>;
}

/// Dropped, it gives back what it has not acknowledged.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery. Waits for one; safe to cancel.
    ///
    /// # Errors
    /// `Unavailable`: consume anew.
    async fn next(&mut self) -> Result<Delivery, BrokerError>;
}

/// A message that was handed out. Whoever drops it keeps it until its consumer ends.
pub struct Delivery {
    pub message: Message,
    /// It may have been handed out before.
    pub is_repeated: bool,
    receipt: Box<dyn Receipt>,
}

impl Delivery {
    fn new(message: Message, is_repeated: bool, receipt: Box<dyn Receipt>) -> Self {
        Self { message, is_repeated, receipt }
    }

    /// It is done, and not delivered again. Where the broker does not hear of that any more, it is.
    pub async fn acknowledge(self) {
        self.receipt.acknowledge().await;
    }

    /// Somebody may have it again, or after [`DELIVERIES_MAX`] deliveries it is laid aside, where the queue keeps all.
    pub async fn give_back(self) {
        self.receipt.give_back().await;
    }

    /// Lays it aside, where the queue keeps all: nobody can do anything with it.
    pub async fn lay_aside(self) {
        self.receipt.lay_aside().await;
    }
}

#[async_trait]
trait Receipt: Send + Sync {
    async fn acknowledge(self: Box<Self>);
    async fn give_back(self: Box<Self>);
    async fn lay_aside(self: Box<Self>);
}

/// Checks what no broker is asked to carry.
fn check(message: &Message) -> Result<(), BrokerError> {
    let bytes = message.body.len();
    if bytes > BODY_BYTES_MAX { Err(BrokerError::TooLarge { bytes }) } else { Ok(()) }
}
