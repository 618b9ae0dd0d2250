//! What every event log promises: order without a gap, whole commands or none, one winner, and a memory for command ids.
use futures_util::future::join_all;
use marvin::log::{
    APPEND_EVENTS_MAX, Append, AppendError, EventLog, NewEvent, Receipt, StreamAppend, sqlite::SqliteLog,
};
use marvin_domain::{AggregateKind, StreamId};
use rstest::rstest;
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};
use uuid::Uuid;

/// An adapter over an empty store, which can be closed and opened again.
struct Subject {
    directory: tempfile::TempDir,
    log: Arc<dyn EventLog>,
}

fn sqlite() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let log = Arc::new(SqliteLog::open(&directory.path().join("log.db")).unwrap());
    Subject { directory, log }
}

impl Subject {
    fn reopen(self) -> Self {
        let Self { directory, log } = self;
        drop(log);
        let log = Arc::new(SqliteLog::open(&directory.path().join("log.db")).unwrap());
        Self { directory, log }
    }
}

fn stream() -> StreamId {
    StreamId { kind: AggregateKind::Task, id: Uuid::now_v7() }
}

fn events(count: usize) -> Vec<NewEvent> {
    let event = |_| NewEvent {
        event_id: Uuid::now_v7(),
        event_type: "submitted",
        event_version: 1,
        payload: b"sealed".to_vec(),
        metadata: r#"{"actor":"system","correlation":"00000000-0000-0000-0000-000000000000"}"#.into(),
    };
    (0..count).map(event).collect()
}

fn append(stream: StreamId, expected: u64, count: usize) -> Append {
    Append {
        command_id: Uuid::now_v7(),
        digest: None,
        streams: vec![StreamAppend { stream, expected, events: events(count) }],
    }
}

fn with_digest(mut append: Append, digest: &str) -> Append {
    append.digest = Some(digest.into());
    for event in append.streams.iter_mut().flat_map(|stream| &mut stream.events) {
        event.metadata =
            format!(r#"{{"actor":"system","correlation":"00000000-0000-0000-0000-000000000000","digest":"{digest}"}}"#);
    }
    append
}

async fn positions(log: &dyn EventLog) -> Vec<u64> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = log.read(after, 7).await.unwrap();
        let Some(last) = page.last() else { return found };
        after = last.position;
        found.extend(page.iter().map(|event| event.position));
    }
}

fn first(receipt: Receipt) -> Receipt {
    Receipt { repeated: false, ..receipt }
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_gapless_and_never_late_under_parallel_writers_and_readers(#[case] subject: Subject) {
    const WRITERS: u64 = 32;
    const COMMANDS: u64 = 25;
    let done = Arc::new(AtomicU64::new(0));
    let reader = |log: Arc<dyn EventLog>, done: Arc<AtomicU64>| async move {
        let mut seen = 0;
        loop {
            let finished = done.load(Ordering::SeqCst) == WRITERS;
            for event in log.read(seen, 50).await.unwrap() {
                assert_eq!(event.position, seen + 1, "a reader met a gap, or an event came late");
                seen = event.position;
            }
            if finished && seen == *log.head().borrow() {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    };
    let readers: Vec<_> = (0..4).map(|_| tokio::spawn(reader(subject.log.clone(), done.clone()))).collect();
    let writers = (0..WRITERS).map(|writer| {
        let (log, done) = (subject.log.clone(), done.clone());
        tokio::spawn(async move {
            let stream = stream();
            let count = usize::try_from(writer % 3 + 1).unwrap();
            for command in 0..COMMANDS {
                log.append(append(stream, command * count as u64, count)).await.unwrap();
            }
            done.fetch_add(1, Ordering::SeqCst);
        })
    });
    join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    let expected: u64 = (0..WRITERS).map(|writer| (writer % 3 + 1) * COMMANDS).sum();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), expected);
    }
    assert_eq!(positions(&*subject.log).await, (1..=expected).collect::<Vec<_>>());
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn a_command_over_several_streams_is_whole_or_not_at_all_while_others_commit(#[case] subject: Subject) {
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
#[case::sqlite(sqlite())]
#[tokio::test]
async fn exactly_one_wins_per_expected_sequence(#[case] subject: Subject) {
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
#[case::sqlite(sqlite())]
#[tokio::test]
async fn an_expected_sequence_ahead_of_the_stream_is_a_conflict(#[case] subject: Subject) {
    let outcome = subject.log.append(append(stream(), 3, 1)).await;
    assert!(matches!(outcome, Err(AppendError::Conflict { expected: 3, .. })));
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn a_repeated_command_answers_its_first_result_after_a_restart_and_after_the_stream_moved(
    #[case] subject: Subject,
) {
    let (primary, secondary) = (stream(), stream());
    let mut command = append(primary, 0, 2);
    command.streams.push(StreamAppend { stream: secondary, expected: 0, events: events(3) });
    let original = subject.log.append(command.clone()).await.unwrap();
    assert_eq!((original.stream, original.sequence, original.position, original.repeated), (primary, 2, 5, false));
    subject.log.append(append(primary, 2, 1)).await.unwrap();
    let subject = subject.reopen();
    let again = subject.log.append(command.clone()).await.unwrap();
    assert!(again.repeated);
    assert_eq!(first(again), original);
    let (found, _) = subject.log.find_command(command.command_id).await.unwrap().unwrap();
    assert_eq!(first(found), original);
    assert_eq!(positions(&*subject.log).await, (1..=6).collect::<Vec<_>>());
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn parallel_repeats_of_one_command_append_once_and_answer_alike(#[case] subject: Subject) {
    let command = append(stream(), 0, 2);
    let answers = join_all((0..50).map(|_| subject.log.append(command.clone()))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| first(answer.unwrap())).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(positions(&*subject.log).await, [1, 2]);
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn a_command_id_under_another_digest_is_refused(#[case] subject: Subject) {
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
#[case::sqlite(sqlite())]
#[tokio::test]
async fn a_command_over_its_limits_is_refused_and_nothing_is_written(#[case] subject: Subject) {
    let crowd = append(stream(), 0, APPEND_EVENTS_MAX + 1);
    assert!(matches!(subject.log.append(crowd).await, Err(AppendError::TooLarge { what: "events", .. })));
    let mut heavy = append(stream(), 0, 1);
    heavy.streams[0].events[0].payload = vec![0; marvin::log::PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(subject.log.append(heavy).await, Err(AppendError::TooLarge { what: "payload bytes", .. })));
    assert!(positions(&*subject.log).await.is_empty());
    subject.log.append(append(stream(), 0, APPEND_EVENTS_MAX)).await.unwrap();
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn recorded_at_never_decreases_and_event_ids_are_kept(#[case] subject: Subject) {
    let commands: Vec<_> = (0..20).map(|_| append(stream(), 0, 2)).collect();
    let sent: BTreeSet<_> =
        commands.iter().flat_map(|command| command.streams[0].events.iter().map(|event| event.event_id)).collect();
    join_all(commands.into_iter().map(|command| subject.log.append(command))).await;
    let stored = subject.log.read(0, 100).await.unwrap();
    assert!(stored.is_sorted_by_key(|event| event.recorded_at));
    assert_eq!(stored.iter().map(|event| event.event_id).collect::<BTreeSet<_>>(), sent);
}

#[tokio::test]
async fn sqlite_refuses_to_change_delete_or_replace_an_event() {
    let subject = sqlite();
    subject.log.append(append(stream(), 0, 2)).await.unwrap();
    let stranger = rusqlite::Connection::open(subject.directory.path().join("log.db")).unwrap();
    for sql in [
        "UPDATE events SET payload = x'00' WHERE position = 1",
        "DELETE FROM events WHERE position = 2",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 1",
        "INSERT INTO events SELECT 4, aggregate_type, aggregate_id, 9, event_type, event_version, payload, metadata, \
         event_id, x'01', 0, recorded_at FROM events WHERE position = 1",
    ] {
        assert!(stranger.execute(sql, []).is_err(), "{sql} was let through");
    }
    assert_eq!(positions(&*subject.log).await, [1, 2]);
}
