//! An append is whole or not at all, at the sequences it expects.
use futures_util::future::join_all;
use marvin::log::{APPEND_BYTES_MAX, APPEND_EVENTS_MAX, Append, AppendError, PAYLOAD_BYTES_MAX, StreamAppend};
use rstest::rstest;
use std::collections::BTreeSet;

use super::{Adapter, Home, Subject, append, events, first, positions, stream, with_digest};

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_command_over_several_streams_is_whole_or_not_at_all_while_others_commit(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let (moved, fresh, other) = (stream(), stream(), stream());
    subject.log.append(append(moved, 0, 1)).await.unwrap();
    let mut doomed = append(fresh, 0, 2);
    doomed.streams.push(StreamAppend { stream: moved, expected: 0, events: events(1) });
    let (refused, written) = tokio::join!(subject.log.append(doomed), subject.log.append(append(other, 0, 1)));
    assert!(matches!(refused, Err(AppendError::Conflict { stream, .. }) if stream == moved));
    written.unwrap();
    assert!(subject.log.read_stream(fresh, 0, 10).await.unwrap().is_empty());
    assert_eq!(positions(&*subject.log).await, [1, 2]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn exactly_one_wins_per_expected_sequence(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let stream = stream();
    for expected in 0..5 {
        let rivals = join_all((0..20).map(|_| subject.log.append(append(stream, expected, 1)))).await;
        assert_eq!(rivals.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(rivals.iter().all(|outcome| matches!(outcome, Ok(_) | Err(AppendError::Conflict { .. }))));
    }
    let sequences: Vec<_> =
        subject.log.read_stream(stream, 0, 100).await.unwrap().iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn an_expected_sequence_ahead_of_the_stream_is_a_conflict(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let outcome = subject.log.append(append(stream(), 3, 1)).await;
    assert!(matches!(outcome, Err(AppendError::Conflict { expected: 3, .. })));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_command_over_its_limits_is_refused_and_nothing_is_written(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let crowd = append(stream(), 0, APPEND_EVENTS_MAX + 1);
    assert!(matches!(subject.log.append(crowd).await, Err(AppendError::TooLarge { what: "events", .. })));
    let mut heavy = append(stream(), 0, 1);
    heavy.streams[0].events[0].payload = vec![0; PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(subject.log.append(heavy).await, Err(AppendError::TooLarge { what: "payload bytes", .. })));
    let events = APPEND_BYTES_MAX / PAYLOAD_BYTES_MAX;
    let mut sum = append(stream(), 0, events + 1);
    for event in &mut sum.streams[0].events {
        event.payload = vec![0; PAYLOAD_BYTES_MAX];
    }
    assert!(matches!(subject.log.append(sum.clone()).await, Err(AppendError::TooLarge { what: "bytes", .. })));
    assert!(positions(&*subject.log).await.is_empty());
    // The same with one event less is not too much.
    sum.streams[0].events.truncate(events);
    subject.log.append(sum).await.unwrap();
    subject.log.append(append(stream(), 0, APPEND_EVENTS_MAX)).await.unwrap();
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn recorded_at_never_decreases_and_event_ids_are_kept(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let commands: Vec<_> = (0..20).map(|_| append(stream(), 0, 2)).collect();
    let sent: BTreeSet<_> =
        commands.iter().flat_map(|command| command.streams[0].events.iter().map(|event| event.event_id)).collect();
    join_all(commands.into_iter().map(|command| subject.log.append(command))).await;
    let stored = subject.log.read(0, 100).await.unwrap();
    assert!(stored.is_sorted_by_key(|event| event.recorded_at));
    assert_eq!(stored.iter().map(|event| event.event_id).collect::<BTreeSet<_>>(), sent);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn in_one_batch_the_losers_are_told_why_and_the_others_are_written(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let (moved, first_stream) = (stream(), stream());
    subject.log.append(append(moved, 0, 2)).await.unwrap();
    let known = with_digest(append(first_stream, 0, 1), "one");
    let known_receipt = subject.log.append(known.clone()).await.unwrap();
    let mut wide = append(stream(), 0, 2);
    wide.streams.push(StreamAppend { stream: stream(), expected: 0, events: events(2) });
    let mut doomed = append(stream(), 0, 1);
    doomed.streams.push(StreamAppend { stream: moved, expected: 1, events: events(1) });
    let sent = [
        append(stream(), 0, 1),
        append(moved, 1, 1),
        known.clone(),
        Append { digest: Some("two".into()), ..known.clone() },
        append(stream(), 7, 1),
        doomed.clone(),
        wide.clone(),
        append(stream(), 0, 3),
    ];
    let stalled = Stalled::begin(&subject).await;
    let writing = join_all(sent.iter().map(|command| subject.log.append(command.clone())));
    // All of them are handed in before the writer can go on.
    let (outcomes, ()) = tokio::join!(writing, stalled.end());
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(receipt) if receipt.repeated => "repeated",
            Ok(_) => "written",
            Err(AppendError::Conflict { .. }) => "conflict",
            Err(AppendError::Reused { .. }) => "reused",
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    let expected = ["written", "conflict", "repeated", "reused", "conflict", "conflict", "written", "written"];
    assert_eq!(kinds, expected);
    assert!(matches!(outcomes[1], Err(AppendError::Conflict { stream, expected: 1 }) if stream == moved));
    assert!(matches!(outcomes[5], Err(AppendError::Conflict { stream, expected: 1 }) if stream == moved));
    assert_eq!(outcomes[2].as_ref().unwrap().position, known_receipt.position);
    assert_eq!(positions(&*subject.log).await, (1..=11).collect::<Vec<_>>());
    assert!(subject.log.read_stream(doomed.streams[0].stream, 0, 10).await.unwrap().is_empty());
    // What each was told is where it stands.
    for (command, outcome) in sent.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
        let receipt = outcome.as_ref().unwrap();
        let stored = subject.log.read(receipt.position - 1, 1).await.unwrap();
        assert_eq!(stored[0].command_id, command.command_id);
        let (found, _) = subject.log.find_command(command.command_id).await.unwrap().unwrap();
        assert_eq!(first(found), first(*receipt));
    }
}

/// Holds whatever the log's writer needs, so that what is sent meanwhile gathers.
pub enum Stalled {
    File(rusqlite::Connection),
    Database(tokio_postgres::Client),
}

impl Stalled {
    pub async fn begin(subject: &Subject) -> Self {
        match &subject.home {
            Home::File(directory) => {
                let connection = rusqlite::Connection::open(directory.path().join("log.db")).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                Self::File(connection)
            }
            Home::Database(database) => {
                let client = database.stranger().await;
                let sql = "SELECT pg_advisory_lock(hashtextextended(current_schema(), 20261122))";
                client.batch_execute(sql).await.unwrap();
                Self::Database(client)
            }
        }
    }

    pub async fn end(self) {
        match self {
            Self::File(connection) => connection.execute_batch("COMMIT").unwrap(),
            Self::Database(client) => client.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap(),
        }
    }
}
