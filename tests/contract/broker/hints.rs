//! Queues of hints, which nobody may ever consume.
use super::*;
use marvin::broker::{DELIVERIES_MAX, HINTS_MAX};

impl Subject {
    fn hints(&self) -> Queue {
        Queue { keeping: Keeping::Newest, ..self.queue("hints") }
    }
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn of_hints_the_newest_stay_and_the_oldest_give_way(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let sent: Vec<_> = (0..HINTS_MAX + 50).map(|number| message(&number.to_string())).collect();
    for some in sent.chunks(100) {
        subject.brokers[0].put(&subject.hints(), some).await.unwrap();
    }
    let mut consumer = subject.brokers[1].consume(&subject.hints(), 100).await.unwrap();
    for expected in &sent[50..] {
        assert_eq!(take(&mut consumer).await, *expected);
    }
    assert!(is_quiet(&mut consumer).await);
    let mut dead = subject.brokers[1].consume_dead().await.unwrap();
    assert!(is_quiet(&mut dead).await, "what gave way is gone");
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn a_hint_that_nobody_can_handle_is_gone_and_holds_up_nothing(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let (poison, hopeless, good) = (message("poison"), message("hopeless"), message("good"));
    subject.brokers[0].put(&subject.hints(), &[poison.clone(), hopeless.clone(), good.clone()]).await.unwrap();
    let mut consumer = subject.brokers[0].consume(&subject.hints(), 10).await.unwrap();
    let (mut deliveries, mut is_done) = (0, false);
    while deliveries < DELIVERIES_MAX || !is_done {
        let delivery = next(&mut consumer).await;
        if delivery.message.id == poison.id {
            deliveries += 1;
            delivery.give_back().await;
        } else if delivery.message.id == hopeless.id {
            delivery.lay_aside().await;
        } else {
            assert_eq!(delivery.message, good);
            delivery.acknowledge().await;
            is_done = true;
        }
    }
    let mut dead = subject.brokers[1].consume_dead().await.unwrap();
    assert!(is_quiet(&mut consumer).await && is_quiet(&mut dead).await);
}
