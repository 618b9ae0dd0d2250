//! A command id that was appended answers its first result for ever, and under another request it is refused.
use futures_util::future::join_all;
use marvin::log::{Append, AppendError, StreamAppend};
use rstest::rstest;

use super::{Adapter, append, events, first, positions, stream, with_digest};

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_repeated_command_answers_its_first_result_after_a_restart_and_after_the_stream_moved(
    #[case] adapter: Adapter,
) {
    let subject = adapter.log().await;
    let (primary, secondary) = (stream(), stream());
    let mut command = append(primary, 0, 2);
    command.streams.push(StreamAppend { stream: secondary, expected: 0, events: events(3) });
    let original = subject.log.append(command.clone()).await.unwrap();
    assert_eq!((original.stream, original.sequence, original.position, original.repeated), (primary, 2, 5, false));
    subject.log.append(append(primary, 2, 1)).await.unwrap();
    let subject = subject.reopen().await;
    let again = subject.log.append(command.clone()).await.unwrap();
    assert!(again.repeated);
    assert_eq!(first(again), original);
    let (found, _) = subject.log.find_command(command.command_id).await.unwrap().unwrap();
    assert_eq!(first(found), original);
    assert_eq!(positions(&*subject.log).await, (1..=6).collect::<Vec<_>>());
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn parallel_repeats_of_one_command_append_once_and_answer_alike(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let command = append(stream(), 0, 2);
    let answers = join_all((0..50).map(|_| subject.log.append(command.clone()))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| first(answer.unwrap())).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(positions(&*subject.log).await, [1, 2]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_command_id_under_another_digest_is_refused(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let command = with_digest(append(stream(), 0, 1), "one");
    subject.log.append(command.clone()).await.unwrap();
    assert!(subject.log.append(command.clone()).await.unwrap().repeated);
    let other = Append { digest: Some("two".into()), ..command.clone() };
    assert!(matches!(subject.log.append(other).await, Err(AppendError::Reused { .. })));
    let none = Append { digest: None, ..command };
    assert!(matches!(subject.log.append(none).await, Err(AppendError::Reused { .. })));
    assert_eq!(positions(&*subject.log).await, [1]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_sent_to_two_nodes_at_once_is_appended_once(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let other = subject.other_node().await;
    for _ in 0..10 {
        let mut command = append(stream(), 0, 2);
        command.streams.push(StreamAppend { stream: stream(), expected: 0, events: events(1) });
        let sends = (0..20).map(|number: usize| {
            let log = if number.is_multiple_of(2) { subject.log.clone() } else { other.clone() };
            let command = command.clone();
            tokio::spawn(async move { log.append(command).await.unwrap() })
        });
        let answers: Vec<_> = join_all(sends).await.into_iter().map(|answer| answer.unwrap()).collect();
        assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
        assert!(answers.iter().all(|answer| first(*answer) == first(answers[0])));
    }
    assert_eq!(positions(&*subject.log).await, (1..=30).collect::<Vec<_>>());
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn another_node_knows_a_command_and_its_digest(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let other = subject.other_node().await;
    let command = with_digest(append(stream(), 0, 1), "one");
    assert_eq!(other.find_command(command.command_id).await.unwrap(), None);
    let receipt = subject.log.append(command.clone()).await.unwrap();
    let (found, digest) = other.find_command(command.command_id).await.unwrap().unwrap();
    assert_eq!((first(found), digest.as_deref()), (receipt, Some("one")));
    let elsewhere = Append { digest: Some("two".into()), ..command };
    assert!(matches!(other.append(elsewhere).await, Err(AppendError::Reused { .. })));
}
