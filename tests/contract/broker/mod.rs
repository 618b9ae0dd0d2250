//! What every broker promises: nothing that was confirmed is lost, each message of a queue is for one of its consumers until that one
//! acknowledges it, and what nobody can handle is laid aside.
use bytes::Bytes;
use marvin::broker::{
    Broker, BrokerError, Consumer, Delivery, Keeping, Message, Queue, local::LocalBroker, rabbit::RabbitBroker,
};
use rstest::rstest;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use uuid::Uuid;

mod hints;
mod topics;
mod weather;
mod work;

#[derive(Debug, Clone, Copy)]
enum Adapter {
    Local,
    Rabbit,
}

/// A broker with nothing in it, as two processes see it. What is local has one process, so there both are the same.
struct Subject {
    brokers: [Arc<dyn Broker>; 2],
    instance: String,
}

impl Adapter {
    fn subject(self) -> Subject {
        let instance = format!("test{}", Uuid::now_v7().simple());
        let brokers: [Arc<dyn Broker>; 2] = match self {
            Self::Local => {
                let broker = LocalBroker::default();
                [Arc::new(broker.clone()), Arc::new(broker)]
            }
            Self::Rabbit => {
                [(); 2].map(|()| Arc::new(RabbitBroker::new(&server(), &instance).unwrap()) as Arc<dyn Broker>)
            }
        };
        Subject { brokers, instance }
    }
}

fn server() -> String {
    std::env::var("MARVIN_TEST_AMQP")
        .expect("tests on RabbitMQ need a server: '.ci/services run cargo nextest run …', or 'make test'")
}

impl Subject {
    fn queue(&self, name: &str) -> Queue {
        Queue { name: format!("{}.{name}", self.instance), topics: Vec::new(), keeping: Keeping::All }
    }

    fn queue_of(&self, name: &str, topics: &[&str]) -> Queue {
        Queue { topics: topics.iter().map(|topic| (*topic).to_owned()).collect(), ..self.queue(name) }
    }
}

fn message(body: &str) -> Message {
    Message {
        id: Uuid::now_v7(),
        headers: vec![("cloudEvents:type".into(), "marvin.task.submitted.v1".into()), ("key-id".into(), "7".into())],
        content_type: "application/octet-stream".into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// Long enough for a broker on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing is to come. A message that is there comes within milliseconds.
const QUIET: Duration = Duration::from_millis(200);

async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a delivery comes").unwrap()
}

/// Takes and acknowledges.
async fn take(consumer: &mut Box<dyn Consumer>) -> Message {
    let delivery = next(consumer).await;
    let message = delivery.message.clone();
    delivery.acknowledge().await;
    message
}

async fn is_quiet(consumer: &mut Box<dyn Consumer>) -> bool {
    tokio::time::timeout(QUIET, consumer.next()).await.is_err()
}
