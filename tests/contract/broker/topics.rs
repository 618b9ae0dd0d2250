//! Events are published under topics, for whoever asked for them.
use super::*;

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn an_event_comes_to_every_queue_of_its_topic_and_to_no_other(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let [one, other] = &subject.brokers;
    let mut all = one.consume(&subject.queue_of("all", &["#"]), 10).await.unwrap();
    let mut ended =
        other.consume(&subject.queue_of("ended", &["task.completed.*", "task.failed.*"]), 10).await.unwrap();
    let mut none = other.consume(&subject.queue("none"), 10).await.unwrap();
    let sent: Vec<_> = ["task.submitted.1", "task.completed.1", "agent.created.2", "task.failed.1"]
        .map(|topic| (topic.to_owned(), message(topic)))
        .to_vec();
    one.publish(&sent).await.unwrap();
    for (_, expected) in &sent {
        assert_eq!(take(&mut all).await, *expected);
    }
    for (_, expected) in [&sent[1], &sent[3]] {
        assert_eq!(take(&mut ended).await, *expected);
    }
    assert!(is_quiet(&mut none).await && is_quiet(&mut ended).await && is_quiet(&mut all).await);
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn nobody_need_listen(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    subject.brokers[0].publish(&[("task.submitted.1".into(), message("words"))]).await.unwrap();
    subject.brokers[0].publish(&[]).await.unwrap();
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn a_queue_of_several_fitting_topics_gets_an_event_once(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let mut consumer =
        subject.brokers[0].consume(&subject.queue_of("q", &["task.#", "#", "task.*.1"]), 10).await.unwrap();
    subject.brokers[1].publish(&[("task.submitted.1".into(), message("once"))]).await.unwrap();
    take(&mut consumer).await;
    assert!(is_quiet(&mut consumer).await);
}

#[rstest]
#[case::local(Adapter::Local)]
#[case::rabbit(Adapter::Rabbit)]
#[tokio::test]
async fn events_wait_for_a_consumer_that_is_away(#[case] adapter: Adapter) {
    let subject = adapter.subject();
    let queue = subject.queue_of("q", &["task.#"]);
    drop(subject.brokers[0].consume(&queue, 1).await.unwrap());
    let sent: Vec<_> =
        (0..200).map(|number| (format!("task.submitted.{number}"), message(&number.to_string()))).collect();
    subject.brokers[1].publish(&sent).await.unwrap();
    let mut consumer = subject.brokers[0].consume(&queue, 10).await.unwrap();
    for (_, expected) in &sent {
        assert_eq!(take(&mut consumer).await, *expected);
    }
}
