//! What every store of duties promises: one holder a duty, for as long as its lease runs, under a token of its own.
use futures_util::future::join_all;
use marvin::{
    duty::{Duties, Held, postgres::PostgresDuties, sqlite::SqliteDuties},
    log::sqlite::SqliteLog,
};
use rstest::rstest;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

use super::{
    nodes::{Adapter, Nodes},
    postgres::Database,
};

async fn duties(adapter: Adapter) -> Nodes<dyn Duties> {
    adapter
        .nodes::<dyn Duties>(|sqlite| Arc::new(SqliteDuties(sqlite)), |postgres| Arc::new(PostgresDuties(postgres)))
        .await
}

const TTL: Duration = Duration::from_secs(60);
/// Runs out at once, so that no test has to wait.
const LAPSED: Duration = Duration::ZERO;

fn id() -> Uuid {
    Uuid::now_v7()
}

fn named(duties: &[(&str, u64)]) -> Vec<(String, u64)> {
    duties.iter().map(|(duty, token)| ((*duty).to_owned(), *token)).collect()
}

impl Nodes<dyn Duties> {
    async fn take(&self, duty: &str, holder: Uuid, ttl: Duration) -> Option<u64> {
        self.nodes[0].take(duty, holder, ttl).await.unwrap()
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_duty_is_one_holders_until_it_is_released(#[case] adapter: Adapter) {
    let subject = duties(adapter).await;
    let duties = &subject.nodes[1];
    let (one, other) = (id(), id());
    assert_eq!(duties.held().await.unwrap(), []);
    assert_eq!(subject.take("a", one, TTL).await, Some(1));
    assert_eq!(subject.take("b", other, TTL).await, Some(1), "another duty is another's");
    assert_eq!(subject.take("a", other, TTL).await, None);
    duties.release("a", other).await.unwrap();
    assert_eq!(subject.take("a", other, TTL).await, None, "only its holder gives it up");
    let held = duties.held().await.unwrap();
    let holders: Vec<_> = held.iter().map(|held| (held.duty.as_str(), held.holder, held.token)).collect();
    assert_eq!(holders, [("a", one, 1), ("b", other, 1)]);
    for _ in 0..2 {
        duties.release("a", one).await.unwrap();
        assert_eq!(duties.held().await.unwrap().len(), 1);
    }
    assert_eq!(subject.take("a", other, TTL).await, Some(2));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_token_is_of_one_lease_and_grows_by_one_with_each(#[case] adapter: Adapter) {
    let subject = duties(adapter).await;
    let (one, other) = (id(), id());
    assert_eq!(subject.take("a", one, TTL).await, Some(1));
    assert_eq!(subject.take("a", one, TTL).await, Some(1), "who has it already keeps it");
    // A lease that is prolonged can also be ended by that.
    assert_eq!(subject.take("a", one, LAPSED).await, Some(1));
    assert_eq!(subject.take("a", other, LAPSED).await, Some(2));
    assert_eq!(subject.take("a", one, TTL).await, Some(3));
    subject.nodes[0].release("a", one).await.unwrap();
    assert_eq!(subject.take("a", one, LAPSED).await, Some(4), "what it gave up was another lease");
    assert_eq!(subject.take("a", one, TTL).await, Some(5), "and so was what ran out");
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn renewing_prolongs_a_holders_leases_and_none_that_ran_out(#[case] adapter: Adapter) {
    let subject = duties(adapter).await;
    let duties = &subject.nodes[1];
    let (one, other) = (id(), id());
    subject.take("lost", one, LAPSED).await;
    subject.take("taken over", one, LAPSED).await;
    subject.take("taken over", other, TTL).await;
    subject.take("b", one, TTL).await;
    subject.take("a", one, TTL).await;
    assert!(duties.renew(id(), TTL).await.unwrap().is_empty());
    let longer = duties.held().await.unwrap()[0].expires_at + TTL;
    assert_eq!(duties.renew(one, 3 * TTL).await.unwrap(), named(&[("a", 1), ("b", 1)]));
    let held = duties.held().await.unwrap();
    let of_one: Vec<&Held> = held.iter().filter(|held| held.holder == one).collect();
    assert!(of_one.len() == 2 && of_one.iter().all(|held| held.expires_at > longer), "{held:?}");
    duties.release("a", one).await.unwrap();
    assert_eq!(duties.renew(one, LAPSED).await.unwrap(), named(&[("b", 1)]));
    assert!(duties.renew(one, TTL).await.unwrap().is_empty(), "all have run out");
    assert_eq!(duties.renew(other, TTL).await.unwrap(), named(&[("taken over", 2)]));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn later_tokens_are_above_one_that_was_passed(#[case] adapter: Adapter) {
    let subject = duties(adapter).await;
    let (duties, one) = (&subject.nodes[1], id());
    for token in [40, 7] {
        duties.pass("a", token).await.unwrap();
    }
    assert_eq!(duties.held().await.unwrap(), [], "it is nobody's by that");
    assert_eq!(subject.take("a", one, TTL).await, Some(41));
    duties.pass("a", 41).await.unwrap();
    assert_eq!(duties.renew(one, LAPSED).await.unwrap(), named(&[("a", 41)]));
    duties.pass("a", 50).await.unwrap();
    assert_eq!(subject.take("a", one, TTL).await, Some(51));
}

/// Takers at the same time on two nodes.
const TAKERS: usize = 32;
/// The first ones find no connection ready, and so hardly meet.
const ROUNDS: u64 = 12;

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_takers_at_once_one_wins(#[case] adapter: Adapter) {
    let subject = duties(adapter).await;
    for round in 1..=ROUNDS {
        let takers = (0..TAKERS).map(|taker| {
            let (duties, holder) = (subject.nodes[taker % 2].clone(), id());
            tokio::spawn(async move { duties.take("a", holder, TTL).await.unwrap().map(|token| (holder, token)) })
        });
        let taken: Vec<_> = join_all(takers).await.into_iter().filter_map(Result::unwrap).collect();
        let [(holder, token)] = taken[..] else { panic!("{taken:?}") };
        assert_eq!(token, round);
        assert_eq!(subject.nodes[1].renew(holder, LAPSED).await.unwrap(), named(&[("a", round)]));
    }
}

#[tokio::test]
async fn the_process_that_owns_a_directory_ends_what_was_held_there_and_repeats_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
    let duties = SqliteDuties(log.database().clone());
    let (before, now) = (id(), id());
    assert_eq!(duties.take("a", before, TTL).await.unwrap(), Some(1));
    duties.release_all().await.unwrap();
    assert_eq!(duties.held().await.unwrap(), []);
    assert!(duties.renew(before, TTL).await.unwrap().is_empty());
    assert_eq!(duties.take("a", now, TTL).await.unwrap(), Some(2));
}

/// The database's clock counts, and no node's: a taker in another time zone, or whose clock is years off, sends none.
#[tokio::test]
async fn a_lease_is_as_long_as_the_database_says() {
    let database = Database::shared();
    let duties = PostgresDuties(database.prepare().await);
    let one = id();
    duties.take("a", one, TTL).await.unwrap();
    let expires_at = duties.held().await.unwrap()[0].expires_at;
    let sql = "SELECT $1::timestamptz - clock_timestamp() BETWEEN interval '30 seconds' AND interval '60 seconds'";
    let client = database.stranger().await;
    client.batch_execute("SET TimeZone = 'Asia/Tokyo'").await.unwrap();
    assert!(client.query_one(sql, &[&expires_at]).await.unwrap().get::<_, bool>(0), "{expires_at}");
    // As if the database's time had gone on by a minute.
    client.batch_execute("UPDATE duties SET expires_at = expires_at - interval '1 minute'").await.unwrap();
    assert!(duties.renew(one, TTL).await.unwrap().is_empty());
    assert_eq!(duties.take("a", id(), TTL).await.unwrap(), Some(2));
}
