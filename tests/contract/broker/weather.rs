//! A broker that is cut off, comes back, or was set up anew: it is told, nothing that was confirmed is lost, and it goes on by itself.
use super::*;
use crate::{
    proxy::{Proxy, Weather},
    wait::eventually,
};

/// A process that reaches the broker through a proxy, and another that reaches it directly.
struct Exposed {
    proxy: Proxy,
    broker: RabbitBroker,
    direct: Arc<dyn Broker>,
    queue: Queue,
}

impl Exposed {
    async fn new() -> Self {
        let subject = Adapter::Rabbit.subject();
        let url = server();
        let address = url.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
        let proxy = Proxy::to(address.clone()).await;
        let broker = RabbitBroker::new(&url.replace(&address, &proxy.address.to_string()), &subject.instance).unwrap();
        let queue = subject.queue("work");
        let [direct, _] = subject.brokers;
        broker.put(&queue, &[]).await.unwrap();
        Self { proxy, broker, direct, queue }
    }
}

fn is_away<T>(outcome: &Result<T, BrokerError>) -> bool {
    matches!(outcome, Err(BrokerError::Unavailable(_)))
}

#[rstest]
#[case::cut(Weather::Cut)]
#[case::answers_cut(Weather::AnswersCut)]
#[case::silent(Weather::Silent)]
#[tokio::test]
async fn what_was_confirmed_is_there_and_the_rest_may_be_sent_again(#[case] weather: Weather) {
    let Exposed { proxy, broker, direct, queue } = Exposed::new().await;
    let sent: Vec<_> = (0..20).map(|number| message(&number.to_string())).collect();
    let (before, after) = sent.split_at(10);
    broker.put(&queue, before).await.unwrap();
    proxy.set(weather);
    let away = broker.put(&queue, after).await;
    assert!(is_away(&away), "{away:?}");
    proxy.set(Weather::Fine);
    eventually("it is reached again", async || broker.put(&queue, after).await.ok()).await;
    let mut consumer = direct.consume(&queue, 10).await.unwrap();
    let mut taken = BTreeSet::new();
    while taken.len() < sent.len() {
        taken.insert(take(&mut consumer).await.id);
    }
    assert_eq!(taken, sent.iter().map(|message| message.id).collect());
}

#[tokio::test]
async fn what_was_handed_out_over_a_lost_connection_is_handed_out_again() {
    let Exposed { proxy, broker, direct, queue } = Exposed::new().await;
    let sent = [message("1"), message("2")];
    direct.put(&queue, &sent).await.unwrap();
    let mut consumer = broker.consume(&queue, 10).await.unwrap();
    let held = next(&mut consumer).await;
    proxy.set(Weather::Cut);
    let mut other = direct.consume(&queue, 10).await.unwrap();
    let mut again = BTreeSet::new();
    while again.len() < sent.len() {
        let delivery = next(&mut other).await;
        assert!(delivery.is_repeated || delivery.message.id != held.message.id);
        again.insert(delivery.message.id);
        delivery.acknowledge().await;
    }
    // Who held it says so in vain, and hears that its connection is gone.
    held.acknowledge().await;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(error) = consumer.next().await {
                break error;
            }
        }
    });
    assert!(matches!(ended.await.unwrap(), BrokerError::Unavailable(_)));
    proxy.set(Weather::Fine);
    let mut consumer = eventually("it is reached again", async || broker.consume(&queue, 10).await.ok()).await;
    direct.put(&queue, &[message("3")]).await.unwrap();
    drop(other);
    assert_eq!(take(&mut consumer).await.body, "3");
}

/// As by somebody who deletes what he takes for left over.
#[tokio::test]
async fn a_queue_that_is_gone_is_made_again() {
    let Exposed { broker, queue, direct, .. } = Exposed::new().await;
    broker.put(&queue, &[message("lost with it")]).await.unwrap();
    let stranger = lapin::Connection::connect(&server(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = stranger.create_channel().await.unwrap();
    channel.queue_delete(queue.name.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    let gone = broker.put(&queue, &[message("in no queue")]).await;
    assert!(is_away(&gone), "it is not taken for confirmed: {gone:?}");
    broker.put(&queue, &[message("in the new one")]).await.unwrap();
    assert_eq!(take(&mut direct.consume(&queue, 1).await.unwrap()).await.body, "in the new one");
}

#[tokio::test]
async fn what_a_stranger_sends_is_handed_out_without_an_id() {
    let Exposed { broker, queue, .. } = Exposed::new().await;
    let stranger = lapin::Connection::connect(&server(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = stranger.create_channel().await.unwrap();
    let name = || queue.name.as_str().into();
    let plain = lapin::BasicProperties::default();
    let odd = plain.clone().with_message_id("\u{1}'; DROP".into()).with_content_type("".into());
    for properties in [plain, odd] {
        let options = lapin::options::BasicPublishOptions::default();
        channel.basic_publish("".into(), name(), options, b"\xff\x00", properties).await.unwrap().await.unwrap();
    }
    let mut consumer = broker.consume(&queue, 10).await.unwrap();
    for _ in 0..2 {
        let message = take(&mut consumer).await;
        assert_eq!((message.id, &message.body[..], message.headers.len()), (Uuid::nil(), &b"\xff\x00"[..], 0));
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told_at_once_and_a_wrong_url_never_tried() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let broker = RabbitBroker::new(&format!("amqp://guest:guest@{address}/%2f"), "nobody").unwrap();
    let queue = Queue { name: "nobody.work".into(), topics: Vec::new(), keeping: Keeping::All };
    assert!(is_away(&broker.put(&queue, &[message("")]).await));
    assert!(is_away(&broker.publish(&[("a".into(), message(""))]).await));
    assert!(is_away(&broker.consume(&queue, 1).await));
    for url in ["", "127.0.0.1", "http://127.0.0.1", "amqp://[", "amqp://127.0.0.1:99999"] {
        assert!(RabbitBroker::new(url, "nobody").is_err(), "{url}");
    }
}
