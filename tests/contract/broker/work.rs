//! Work queues: each message is for one consumer, until it says what became of it.
use super::*;
use marvin::broker::{BODY_BYTES_MAX, DELIVERIES_MAX};

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn work_waits_for_whoever_consumes_it_and_goes_to_one(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let queue = subject.queue("work");
    let sent: Vec<_> = (0..100).map(|number| message(&number.to_string())).collect();
    subject.brokers[0].put(&queue, &sent).await.unwrap();
    let mut one = subject.brokers[0].consume(&queue, 10).await.unwrap();
    let mut other = subject.brokers[1].consume(&queue, 10).await.unwrap();
    let (mut taken, mut shares) = (Vec::new(), [0, 0]);
    while taken.len() < sent.len() {
        let (message, share) = tokio::select! {
            delivery = one.next() => (delivery.unwrap(), 0),
            delivery = other.next() => (delivery.unwrap(), 1),
        };
        shares[share] += 1;
        taken.push(message.message.id);
        message.acknowledge().await;
    }
    let expected: BTreeSet<_> = sent.iter().map(|message| message.id).collect();
    assert_eq!((taken.len(), taken.into_iter().collect::<BTreeSet<_>>()), (sent.len(), expected));
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    assert!(is_quiet(&mut one).await && is_quiet(&mut other).await);
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn nobody_is_handed_more_than_they_take_at_once(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let queue = subject.queue("work");
    subject.brokers[0].put(&queue, &[message("1"), message("2"), message("3")]).await.unwrap();
    let mut consumer = subject.brokers[0].consume(&queue, 2).await.unwrap();
    let first = next(&mut consumer).await;
    let _second = next(&mut consumer).await;
    assert!(is_quiet(&mut consumer).await);
    first.acknowledge().await;
    assert_eq!(next(&mut consumer).await.message.body, "3");
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn what_is_given_back_or_not_acknowledged_is_somebody_elses(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let queue = subject.queue("work");
    let (given_back, held) = (message("given back"), message("held"));
    subject.brokers[0].put(&queue, &[given_back.clone(), held.clone()]).await.unwrap();
    let mut one = subject.brokers[0].consume(&queue, 10).await.unwrap();
    let first = next(&mut one).await;
    assert!(!first.is_repeated);
    let kept = next(&mut one).await;
    assert_eq!((&first.message, &kept.message), (&given_back, &held));
    let mut other = subject.brokers[1].consume(&queue, 10).await.unwrap();
    assert!(is_quiet(&mut other).await, "both are handed out");
    first.give_back().await;
    // To whomever: perhaps to the same one again, which ends.
    drop(one);
    let mut again = BTreeSet::new();
    for _ in 0..2 {
        let delivery = next(&mut other).await;
        assert!(delivery.is_repeated);
        again.insert(delivery.message.id);
        delivery.acknowledge().await;
    }
    assert_eq!(again, BTreeSet::from([given_back.id, held.id]));
    drop(kept);
    assert!(is_quiet(&mut other).await);
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn what_nobody_can_handle_is_laid_aside_and_holds_up_nothing(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let queue = subject.queue("work");
    let (poison, hopeless, good) = (message("poison"), message("hopeless"), message("good"));
    subject.brokers[0].put(&queue, &[poison.clone(), hopeless.clone(), good.clone()]).await.unwrap();
    let mut consumer = subject.brokers[0].consume(&queue, 10).await.unwrap();
    let (mut deliveries, mut is_done) = (0, false);
    while deliveries < DELIVERIES_MAX || !is_done {
        let delivery = next(&mut consumer).await;
        if delivery.message.id == poison.id {
            deliveries += 1;
            assert_eq!(delivery.is_repeated, deliveries > 1);
            delivery.give_back().await;
        } else if delivery.message.id == hopeless.id {
            delivery.lay_aside().await;
        } else {
            assert_eq!(delivery.message, good);
            delivery.acknowledge().await;
            is_done = true;
        }
    }
    assert_eq!(deliveries, DELIVERIES_MAX);
    assert!(is_quiet(&mut consumer).await);
    let mut dead = subject.brokers[1].consume_dead().await.unwrap();
    let mut laid_aside = BTreeSet::new();
    for _ in 0..2 {
        laid_aside.insert(take(&mut dead).await.id);
    }
    assert_eq!(laid_aside, BTreeSet::from([poison.id, hopeless.id]));
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn a_message_as_large_as_may_be_is_whole_and_a_larger_one_refused(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let queue = subject.queue("work");
    let large = |bytes: usize| Message { body: vec![7; bytes].into(), ..message("") };
    let refused = subject.brokers[0].put(&queue, &[message("before"), large(BODY_BYTES_MAX + 1)]).await;
    assert!(matches!(refused, Err(BrokerError::TooLarge { bytes }) if bytes == BODY_BYTES_MAX + 1), "{refused:?}");
    for body in [large(0), large(BODY_BYTES_MAX)] {
        subject.brokers[0].put(&queue, std::slice::from_ref(&body)).await.unwrap();
        let mut consumer = subject.brokers[1].consume(&queue, 1).await.unwrap();
        assert_eq!(take(&mut consumer).await, body);
    }
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn whoever_gives_up_waiting_loses_no_message(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let queue = subject.queue("work");
    let mut consumer = subject.brokers[0].consume(&queue, 100).await.unwrap();
    let (broker, to) = (subject.brokers[1].clone(), queue.clone());
    let sending = tokio::spawn(async move {
        for number in 0..50 {
            broker.put(&to, &[message(&number.to_string())]).await.unwrap();
        }
    });
    let mut taken = Vec::new();
    while taken.len() < 50 {
        if let Ok(delivery) = tokio::time::timeout(Duration::from_micros(300), consumer.next()).await {
            let delivery = delivery.unwrap();
            taken.push(String::from_utf8(delivery.message.body.to_vec()).unwrap());
            delivery.acknowledge().await;
        }
    }
    sending.await.unwrap();
    assert_eq!(taken, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
}
