//! Bad weather: every failure is told, nothing hangs, nothing is written twice or by half, and it goes on by itself.
use futures_util::{FutureExt, future::join_all};
use marvin::{
    log::{Append, AppendError, EventLog, ReadError, sqlite::SqliteLog},
    store::StoreError,
};
use rstest::rstest;
use rusqlite::Connection;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio_postgres::Config;

use super::{Adapter, Subject, append, append::Stalled, first, node, positions, stream, with_digest};
use crate::{
    postgres::Database,
    proxy::{Proxy, Weather},
    wait::eventually,
};

/// A node that reaches its database through a proxy, and a way around it.
struct Exposed {
    proxy: Proxy,
    log: Arc<dyn EventLog>,
    direct: Subject,
}

impl Exposed {
    async fn new() -> Self {
        let direct = Adapter::Postgres.log().await;
        let database = direct.database();
        let proxy = Proxy::to(database.address()).await;
        let config: Config = database.url.parse().unwrap();
        let url = database.url.replace(&config.get_ports()[0].to_string(), &proxy.address.port().to_string());
        let log = node(&Database { url, instance: database.instance.clone() }).await;
        // The writer is connected.
        log.append(append(stream(), 0, 1)).await.unwrap();
        Self { proxy, log, direct }
    }

    fn send(&self, command: &Append) -> tokio::task::JoinHandle<Result<marvin::log::Receipt, AppendError>> {
        let (log, command) = (self.log.clone(), command.clone());
        tokio::spawn(async move { log.append(command).await })
    }

    async fn cut_once_more(&self, before: usize) {
        eventually("a connection is cut", async || (self.proxy.ended() > before).then_some(())).await;
    }
}

fn unreachable(outcome: &Result<marvin::log::Receipt, AppendError>) -> bool {
    matches!(outcome, Err(AppendError::Unavailable(StoreError::Unreachable(_))))
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_is_made_again_and_the_command_sent_again() {
    let exposed = Exposed::new().await;
    let before = exposed.proxy.ended();
    exposed.proxy.set(Weather::Cut);
    let sent = exposed.send(&append(stream(), 0, 1));
    exposed.cut_once_more(before).await;
    assert_eq!(positions(&*exposed.direct.log).await, [1]);
    exposed.proxy.set(Weather::Fine);
    assert_eq!(sent.await.unwrap().unwrap().position, 2);
    assert_eq!(positions(&*exposed.direct.log).await, [1, 2]);
}

#[tokio::test]
async fn a_connection_lost_after_the_commit_answers_what_was_committed() {
    let exposed = Exposed::new().await;
    exposed.proxy.set(Weather::AnswersCut);
    let command = append(stream(), 0, 2);
    let sent = exposed.send(&command);
    let committed = async || exposed.direct.log.find_command(command.command_id).await.unwrap();
    let (found, _) = eventually("the command is committed", committed).await;
    // Others go on meanwhile, so that a second writing would stand elsewhere.
    exposed.direct.log.append(append(stream(), 0, 1)).await.unwrap();
    exposed.proxy.set(Weather::Fine);
    let receipt = sent.await.unwrap().unwrap();
    assert_eq!((first(receipt), receipt.position), (first(found), 3));
    assert_eq!(positions(&*exposed.direct.log).await, [1, 2, 3, 4]);
}

/// What the server answers to the second sending says nothing of what became of the first.
#[tokio::test]
async fn a_command_whose_first_answer_was_lost_is_not_taken_for_refused_by_a_lock() {
    let exposed = Exposed::new().await;
    exposed.proxy.set(Weather::AnswersCut);
    let command = append(stream(), 0, 2);
    let sent = exposed.send(&command);
    let committed = async || exposed.direct.log.find_command(command.command_id).await.unwrap();
    eventually("the command is committed", committed).await;
    let stalled = Stalled::begin(&exposed.direct).await;
    exposed.proxy.set(Weather::Fine);
    let outcome = sent.await.unwrap();
    assert!(unreachable(&outcome), "{outcome:?}");
    stalled.end().await;
    assert!(exposed.send(&command).await.unwrap().unwrap().repeated);
}

/// The same for batches that were under way behind each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_commands_whose_answers_were_lost_none_is_taken_for_refused_by_a_lock() {
    const WRITERS: usize = 12;
    let exposed = Exposed::new().await;
    let writers = (0..WRITERS).map(|_| {
        let log = exposed.log.clone();
        tokio::spawn(async move {
            let stream = stream();
            let mut expected = 0;
            loop {
                let command = append(stream, expected, 1);
                let id = command.command_id;
                match log.append(command).await {
                    Ok(_) => expected += 1,
                    Err(error) => return (id, Err(error)),
                }
            }
        })
    });
    let writing = tokio::spawn(join_all(writers));
    exposed.log.head().wait_for(|head| *head >= 20 * WRITERS as u64).await.unwrap();
    let before = exposed.proxy.ended();
    exposed.proxy.set(Weather::AnswersCut);
    exposed.cut_once_more(before).await;
    let stalled = Stalled::begin(&exposed.direct).await;
    exposed.proxy.set(Weather::Fine);
    let told: Vec<_> = writing.await.unwrap().into_iter().map(|writer| writer.unwrap()).collect();
    stalled.end().await;
    let mut written = 0;
    for (id, outcome) in told {
        if exposed.direct.log.find_command(id).await.unwrap().is_some() {
            written += 1;
            assert!(unreachable(&outcome), "{outcome:?}");
        }
    }
    assert!(written > 1, "{written} commands were written whose answers were lost");
}

#[rstest]
#[case::cut(Weather::Cut)]
#[case::silent(Weather::Silent)]
#[tokio::test]
async fn a_database_that_stays_away_is_told_and_comes_back_by_itself(#[case] weather: Weather) {
    let exposed = Exposed::new().await;
    exposed.proxy.set(weather);
    let commands: Vec<_> = (0..3).map(|_| append(stream(), 0, 1)).collect();
    let (outcomes, read) =
        tokio::join!(join_all(commands.iter().map(|command| exposed.send(command))), exposed.log.read(0, 10));
    assert!(outcomes.iter().all(|outcome| unreachable(outcome.as_ref().unwrap())), "{outcomes:?}");
    assert!(matches!(read, Err(ReadError::Unavailable(StoreError::Unreachable(_)))), "{read:?}");
    exposed.proxy.set(Weather::Fine);
    // The same commands again, by whoever sent them: each is there once.
    for outcome in join_all(commands.iter().map(|command| exposed.send(command))).await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(positions(&*exposed.log).await, [1, 2, 3, 4]);
    let elsewhere = exposed.direct.log.append(append(stream(), 0, 1)).await.unwrap();
    exposed.log.head().wait_for(|head| *head == elsewhere.position).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_killed_while_many_write_lose_and_double_nothing() {
    const WRITERS: usize = 8;
    const COMMANDS: u64 = 60;
    let subject = Adapter::Postgres.log().await;
    let killer = subject.database().stranger().await;
    let writers = (0..WRITERS).map(|_| {
        let log = subject.log.clone();
        tokio::spawn(async move {
            let stream = stream();
            for expected in 0..COMMANDS {
                let command = append(stream, expected, 1);
                while let Err(error) = log.append(command.clone()).await {
                    assert!(matches!(error, AppendError::Unavailable(_)), "{error:?}");
                }
            }
        })
    });
    let writing = tokio::spawn(join_all(writers));
    let name = format!("marvin {}", subject.database().instance);
    let mut killed = 0;
    while !writing.is_finished() {
        let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
        killed += killer.query_one(sql, &[&name]).await.unwrap().get::<_, i64>(0);
        // Between two killings something is written.
        let mut head = subject.log.head();
        tokio::select! { _ = head.changed() => {} () = async { while !writing.is_finished() { tokio::task::yield_now().await } } => {} }
    }
    writing.await.unwrap().into_iter().for_each(|writer| writer.unwrap());
    assert!(killed > 10, "{killed} sessions were killed: too few to prove anything");
    let subject = subject.reopen().await;
    assert_eq!(positions(&*subject.log).await, (1..=WRITERS as u64 * COMMANDS).collect::<Vec<_>>());
}

/// Answers are cut between commit and caller, again and again, while batch upon batch is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_batch_under_way_on_a_lost_connection_is_answered_with_what_was_committed() {
    const WRITERS: usize = 12;
    const CUTS: usize = 20;
    let exposed = Exposed::new().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|_| {
        let (log, is_over) = (exposed.log.clone(), is_over.clone());
        tokio::spawn(async move {
            let (stream, mut receipts) = (stream(), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                let command = append(stream, receipts.len() as u64, 1);
                let id = command.command_id;
                receipts
                    .push((id, log.append(command).await.expect("it comes back well within the writer's patience")));
            }
            receipts
        })
    });
    let writing = tokio::spawn(join_all(writers));
    for _ in 0..CUTS {
        let before = exposed.proxy.ended();
        exposed.proxy.set(Weather::AnswersCut);
        exposed.cut_once_more(before).await;
        exposed.proxy.set(Weather::Fine);
        // All writers are at it again.
        let head = *exposed.log.head().borrow();
        exposed.log.head().wait_for(|now| *now >= head + 2 * WRITERS as u64).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let receipts: Vec<_> = writing.await.unwrap().into_iter().flat_map(|writer| writer.unwrap()).collect();
    let repeated = receipts.iter().filter(|(_, receipt)| receipt.repeated).count();
    assert!(repeated > 1, "{repeated} answers were lost: it was not the writer's connection that was cut");
    for (id, receipt) in &receipts {
        let (found, _) = exposed.direct.log.find_command(*id).await.unwrap().expect("what was answered is there");
        assert_eq!(first(*receipt), first(found));
    }
    assert_eq!(positions(&*exposed.direct.log).await, (1..=receipts.len() as u64 + 1).collect::<Vec<_>>());
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_lock_held_for_too_long_is_told_and_writing_goes_on_once_it_is_free(#[case] adapter: Adapter) {
    let subject = adapter.log().await;
    let (one, two) = (append(stream(), 0, 1), append(stream(), 0, 1));
    let stalled = Stalled::begin(&subject).await;
    let (first, second) = tokio::join!(subject.log.append(one.clone()), subject.log.append(two));
    for outcome in [first, second] {
        assert!(matches!(outcome, Err(AppendError::Unavailable(StoreError::Busy(_)))), "{outcome:?}");
    }
    assert!(positions(&*subject.log).await.is_empty());
    stalled.end().await;
    assert_eq!(subject.log.append(one).await.unwrap().position, 1);
}

const FULL_DISK: &str = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
    CREATE TRIGGER full_disk BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION full_disk()";

/// A batch is refused, and then everything waits for a lock: to try each command by itself would take minutes.
#[tokio::test]
async fn a_batch_of_which_the_first_meets_a_held_lock_is_not_tried_one_by_one() {
    const COMMANDS: usize = 12;
    let subject = Adapter::Postgres.log().await;
    let stranger = subject.database().stranger().await;
    let weather = "CREATE SEQUENCE inserts; \
        CREATE FUNCTION weather() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
            CASE nextval('inserts') WHEN 1 THEN RETURN NULL; WHEN 2 THEN RAISE EXCEPTION 'out of memory' USING ERRCODE = '53200'; \
            ELSE RAISE EXCEPTION 'held' USING ERRCODE = 'lock_not_available'; END CASE; END $$; \
        CREATE TRIGGER weather BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION weather()";
    stranger.batch_execute(weather).await.unwrap();
    let stalled = Stalled::begin(&subject).await;
    let writing = join_all((0..COMMANDS).map(|_| subject.log.append(append(stream(), 0, 1))));
    // All of them are handed in before the writer can go on, of whom the first writes by itself.
    let (outcomes, ()) = tokio::join!(writing, stalled.end());
    assert!(outcomes[0].is_ok(), "{:?}", outcomes[0]);
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Err(AppendError::Unavailable(StoreError::Busy(_)))), "{outcome:?}");
    }
    let tried = stranger.query_one("SELECT last_value FROM inserts", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(tried, 3, "the first, the batch, and one of it");
}

/// No test's disk is really full (among the recovery tests, one of embedded mode is): the server is made to say so.
#[tokio::test]
async fn a_full_disk_is_told_and_writing_goes_on_once_there_is_room() {
    let subject = Adapter::Postgres.log().await;
    let stranger = subject.database().stranger().await;
    subject.log.append(append(stream(), 0, 1)).await.unwrap();
    let (one, two) = (append(stream(), 0, 1), append(stream(), 0, 1));
    stranger.batch_execute(FULL_DISK).await.unwrap();
    let (first, second) = tokio::join!(subject.log.append(one.clone()), subject.log.append(two.clone()));
    for outcome in [first, second] {
        assert!(matches!(outcome, Err(AppendError::Unavailable(StoreError::Full(_)))), "{outcome:?}");
    }
    assert_eq!(positions(&*subject.log).await, [1]);
    stranger.batch_execute("DROP TRIGGER full_disk ON events").await.unwrap();
    for command in [one, two] {
        subject.log.append(command).await.unwrap();
    }
    assert_eq!(positions(&*subject.log).await, [1, 2, 3]);
}

/// The second is refused for the sake of the first, which then is not written either.
#[tokio::test]
async fn nobody_is_refused_for_what_stands_in_a_transaction_that_cannot_be_committed() {
    let subject = Adapter::Sqlite.log().await;
    let super::Home::File(directory) = &subject.home else { unreachable!("it is in a file") };
    let stranger = Connection::open(directory.path().join("log.db")).unwrap();
    let weather = "CREATE TABLE parents (id INTEGER PRIMARY KEY); \
        CREATE TABLE children (id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED); \
        CREATE TRIGGER weather AFTER INSERT ON events BEGIN INSERT INTO children VALUES (1); END";
    stranger.execute_batch(weather).unwrap();
    let one = with_digest(append(stream(), 0, 1), "one");
    let two = Append { digest: Some("two".into()), ..one.clone() };
    let late = append(one.streams[0].stream, 0, 1);
    let stalled = Stalled::begin(&subject).await;
    let writing = join_all([one.clone(), two, late].map(|command| subject.log.append(command)));
    let (outcomes, ()) = tokio::join!(writing, stalled.end());
    for outcome in outcomes {
        assert!(matches!(outcome, Err(AppendError::Unavailable(_))), "{outcome:?}");
    }
    stranger.execute_batch("DROP TRIGGER weather").unwrap();
    assert_eq!(subject.log.append(one).await.unwrap().position, 1);
}

/// A power cut cannot be had here; what SQLite is asked to do about one can be read.
#[tokio::test]
async fn a_file_is_synced_at_every_commit() {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
    let asked = |connection: &Connection| {
        let ask =
            |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0));
        Ok::<_, StoreError>((ask("synchronous")?, ask("journal_mode")?))
    };
    const FULL: i64 = 2;
    assert_eq!(log.database().write(asked).await.unwrap(), (FULL.into(), "wal".to_owned().into()));
}

/// The file may not grow: to SQLite that is a disk without room.
#[tokio::test]
async fn a_full_disk_under_a_file_is_told_and_writing_goes_on_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
    let pages_max = async |pages: u32| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        let set = move |connection: &Connection| connection.query_row(&sql, [], |_| Ok(())).map_err(StoreError::from);
        log.database().write(set).await.unwrap();
    };
    log.append(append(stream(), 0, 1)).await.unwrap();
    pages_max(1).await;
    let mut written = 1;
    let mut refused = append(stream(), 0, 50);
    let error = loop {
        match log.append(refused.clone()).await {
            Ok(receipt) => written = receipt.position,
            Err(error) => break error,
        }
        refused = append(stream(), 0, 50);
    };
    assert!(matches!(error, AppendError::Unavailable(StoreError::Full(_))), "{error:?}");
    let again = log.append(refused.clone()).await;
    assert!(matches!(again, Err(AppendError::Unavailable(StoreError::Full(_)))), "{again:?}");
    assert_eq!(positions(&log).await, (1..=written).collect::<Vec<_>>());
    pages_max(u32::MAX - 1).await;
    assert_eq!(log.append(refused).await.unwrap().position, written + 50);
    assert_eq!(positions(&log).await, (1..=written + 50).collect::<Vec<_>>());
}

/// What the server answers to one batch says nothing of the next, nor of the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_load_is_told_to_all_and_costs_no_session() {
    const WRITERS: usize = 12;
    let subject = Adapter::Postgres.log().await;
    let stranger = subject.database().stranger().await;
    let (log, is_over) = (subject.log.clone(), Arc::new(AtomicBool::new(false)));
    let told: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let writers = told.iter().map(|told| {
        let (log, is_over, told) = (log.clone(), is_over.clone(), told.clone());
        tokio::spawn(async move {
            let (stream, mut written) = (stream(), 0);
            while !is_over.load(Ordering::Relaxed) {
                match log.append(append(stream, written, 1)).await {
                    Ok(receipt) => {
                        written += 1;
                        assert_eq!((receipt.sequence, receipt.repeated), (written, false));
                    }
                    Err(AppendError::Unavailable(StoreError::Full(_))) => drop(told.fetch_add(1, Ordering::Relaxed)),
                    Err(other) => panic!("{other:?}"),
                }
            }
            written
        })
    });
    let writing = tokio::spawn(join_all(writers));
    let go_on = async || {
        let head = *log.head().borrow();
        log.head().wait_for(|now| *now >= head + 10 * WRITERS as u64).await.unwrap();
    };
    let writer = async || {
        let sql = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = $1 \
                   AND query ~ 'append_events|pg_try_advisory_xact_lock'";
        let name = format!("marvin {}", subject.database().instance);
        let row = stranger.query_one(sql, &[&name]).await.unwrap();
        row.get::<_, Option<Vec<i32>>>(0)
    };
    go_on().await;
    stranger.batch_execute(FULL_DISK).await.unwrap();
    let before = writer().await;
    eventually("everybody was told more than once", async || {
        told.iter().all(|told| told.load(Ordering::Relaxed) > 1).then_some(())
    })
    .await;
    stranger.batch_execute("DROP TRIGGER full_disk ON events").await.unwrap();
    go_on().await;
    assert_eq!(writer().await, before, "it writes by the session that it had");
    is_over.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap().into_iter().map(|writer| writer.unwrap()).sum();
    assert_eq!(positions(&*subject.log).await, (1..=written).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_goes_silent_while_a_connection_is_set_up_is_told_and_comes_back_by_itself() {
    let exposed = Exposed::new().await;
    let killer = exposed.direct.database().stranger().await;
    exposed.proxy.set(Weather::SilentAfterLogin);
    let name = format!("marvin {}", exposed.direct.database().instance);
    let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    killer.query_one(all, &[&name]).await.unwrap();
    let (written, read) = tokio::join!(exposed.send(&append(stream(), 0, 1)), exposed.log.read(0, 10));
    assert!(unreachable(&written.unwrap()));
    assert!(matches!(read, Err(ReadError::Unavailable(StoreError::Unreachable(_)))), "{read:?}");
    exposed.proxy.set(Weather::Fine);
    exposed.send(&append(stream(), 0, 1)).await.unwrap().unwrap();
    assert_eq!(positions(&*exposed.log).await, [1, 2]);
    let elsewhere = exposed.direct.log.append(append(stream(), 0, 1)).await.unwrap();
    exposed.log.head().wait_for(|head| *head == elsewhere.position).await.unwrap();
}

#[tokio::test]
async fn a_session_that_the_server_ended_while_it_was_idle_costs_no_command() {
    let subject = Adapter::Postgres.log().await;
    let killer = subject.database().stranger().await;
    let name = format!("marvin {}", subject.database().instance);
    for position in 1..=5 {
        assert_eq!(subject.log.append(append(stream(), 0, 1)).await.unwrap().position, position);
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1";
        killer.query(end, &[&name]).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_the_server_ended_while_it_was_idle_costs_no_page() {
    let subject = Adapter::Postgres.log().await;
    let killer = subject.database().stranger().await;
    let name = format!("marvin {}", subject.database().instance);
    subject.log.append(append(stream(), 0, 1)).await.unwrap();
    for _ in 0..5 {
        assert_eq!(subject.log.read(0, 10).await.unwrap().len(), 1);
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1";
        killer.query(end, &[&name]).await.unwrap();
    }
}

/// The answer may still come, and is long.
#[tokio::test]
async fn who_gives_up_a_page_leaves_its_session_to_nobody() {
    let subject = Adapter::Postgres.log().await;
    let stranger = subject.database().stranger().await;
    subject.log.append(append(stream(), 0, 100)).await.unwrap();
    let name = format!("marvin {}", subject.database().instance);
    let readers = async || {
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND query LIKE '%FROM events WHERE position > %'";
        let rows = stranger.query(sql, &[&name]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>()
    };
    subject.log.read(0, 10).await.unwrap();
    let before = readers().await;
    assert_eq!(before.len(), 1);
    // Its first step alone: it has asked, and nothing has come.
    assert!(subject.log.read(0, 100).now_or_never().is_none());
    assert_eq!(subject.log.read(50, 1).await.unwrap()[0].position, 51);
    eventually("another session answered", async || {
        let now = readers().await;
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_host_that_refuses_is_passed_over() {
    let database = Database::shared();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = database.address().rsplit_once(':').unwrap().1.to_owned();
    let (dead, config) = (mute.local_addr().unwrap(), "target_session_attrs=read-write");
    drop(mute);
    let url = format!("postgres://postgres@{dead},127.0.0.1:{port}/postgres?{config}");
    let both = Database { url, instance: database.instance.clone() };
    let log = node(&both).await;
    assert_eq!(log.append(append(stream(), 0, 1)).await.unwrap().position, 1);
}
