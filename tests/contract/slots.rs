//! What every store of slots promises: as many as the agent's limit, each held by one claim until it runs out.
use futures_util::future::join_all;
use marvin::{
    agent::slots::{Slots, Taken, is_outside, postgres::PostgresSlots, sqlite::SqliteSlots},
    log::sqlite::SqliteLog,
};
use rstest::rstest;
use std::{collections::HashSet, sync::Arc, time::Duration};
use uuid::Uuid;

use super::nodes::{Adapter, Nodes};

async fn slots(adapter: Adapter) -> Nodes<dyn Slots> {
    adapter
        .nodes::<dyn Slots>(|sqlite| Arc::new(SqliteSlots(sqlite)), |postgres| Arc::new(PostgresSlots(postgres)))
        .await
}

const TTL: Duration = Duration::from_secs(60);
/// Runs out at once, so that no test has to wait.
const LAPSED: Duration = Duration::ZERO;

fn id() -> Uuid {
    Uuid::now_v7()
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn an_agent_has_as_many_slots_as_its_limit(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    let slots = &subject.nodes[0];
    let (agent, holder) = (id(), id());
    let (first, second, third) = (id(), id(), id());
    assert_eq!(slots.take(agent, 0, first, holder, TTL).await.unwrap(), Taken::Full);
    assert_eq!(slots.take(agent, 2, first, holder, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.take(agent, 2, second, holder, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.take(agent, 2, third, holder, TTL).await.unwrap(), Taken::Full);
    assert_eq!(slots.take(id(), 2, third, id(), TTL).await.unwrap(), Taken::Yes, "another agent's are its own");
    slots.release(first, holder).await.unwrap();
    assert_eq!(slots.take(agent, 2, id(), holder, TTL).await.unwrap(), Taken::Yes);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_lowered_limit_counts_who_is_still_at_work(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    let slots = &subject.nodes[0];
    let (agent, holder, tasks) = (id(), id(), [id(), id(), id()]);
    for task in tasks {
        assert_eq!(slots.take(agent, 3, task, holder, TTL).await.unwrap(), Taken::Yes);
    }
    slots.release(tasks[0], holder).await.unwrap();
    assert_eq!(slots.take(agent, 2, id(), holder, TTL).await.unwrap(), Taken::Full);
    slots.release(tasks[1], holder).await.unwrap();
    assert_eq!(slots.take(agent, 2, id(), holder, TTL).await.unwrap(), Taken::Yes);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_task_is_held_by_one_at_a_time_and_freed_only_by_its_holder(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    let slots = &subject.nodes[0];
    let (agent, task, holder, other) = (id(), id(), id(), id());
    assert_eq!(slots.take(agent, 4, task, holder, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.take(agent, 4, task, other, TTL).await.unwrap(), Taken::Held);
    slots.release(task, other).await.unwrap();
    assert_eq!(slots.held().await.unwrap(), HashSet::from([task]));
    for _ in 0..2 {
        slots.release(task, holder).await.unwrap();
        assert!(slots.held().await.unwrap().is_empty());
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_lapsed_lease_is_neither_held_nor_renewed_and_its_slot_is_free(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    let slots = &subject.nodes[0];
    let (agent, task, holder) = (id(), id(), id());
    assert_eq!(slots.take(agent, 1, task, holder, LAPSED).await.unwrap(), Taken::Yes);
    assert!(slots.held().await.unwrap().is_empty());
    assert!(slots.renew(vec![holder], TTL).await.unwrap().is_empty());
    assert_eq!(slots.take(agent, 1, id(), id(), TTL).await.unwrap(), Taken::Yes);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn renewing_prolongs_each_lease_that_still_stands(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    let slots = &subject.nodes[0];
    let (agent, task, one, other) = (id(), id(), id(), id());
    assert_eq!(slots.take(agent, 2, task, one, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.take(agent, 2, id(), other, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.renew(vec![one, other, id()], TTL).await.unwrap(), HashSet::from([one, other]));
    // A renewal sets when the lease ends, so it can also end it.
    assert_eq!(slots.renew(vec![other], LAPSED).await.unwrap(), HashSet::from([other]));
    assert_eq!(slots.held().await.unwrap(), HashSet::from([task]));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn who_frees_a_slot_learns_how_many_were_taken(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    let slots = &subject.nodes[0];
    let (agent, tasks) = (id(), [id(), id(), id()]);
    for task in tasks {
        assert_eq!(slots.take(agent, 3, task, task, TTL).await.unwrap(), Taken::Yes);
    }
    assert_eq!(slots.take(id(), 1, id(), id(), TTL).await.unwrap(), Taken::Yes, "another agent's do not count");
    assert_eq!(slots.release(tasks[0], id()).await.unwrap(), 0, "it is another's");
    assert_eq!(slots.release(tasks[0], tasks[0]).await.unwrap(), 3);
    assert_eq!(slots.release(tasks[0], tasks[0]).await.unwrap(), 0, "it is free already");
    assert_eq!(slots.release(tasks[1], tasks[1]).await.unwrap(), 2);
    assert_eq!(slots.release(tasks[2], tasks[2]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_process_that_starts_anew_frees_the_slots_held_inside_the_last_one_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
    let slots = SqliteSlots(log.database().clone());
    let (inside, outside) = (id(), Uuid::new_v8(*id().as_bytes()));
    assert_eq!([inside, outside].map(is_outside), [false, true]);
    let (agent, abandoned, leased) = (id(), id(), id());
    for (task, holder) in [(abandoned, inside), (leased, outside)] {
        assert_eq!(slots.take(agent, 2, task, holder, TTL).await.unwrap(), Taken::Yes);
    }
    for _ in 0..2 {
        slots.release_inside().await.unwrap();
        assert_eq!(slots.held().await.unwrap(), HashSet::from([leased]));
    }
    assert_eq!(slots.renew(vec![inside, outside], TTL).await.unwrap(), HashSet::from([outside]));
}

/// Claims made at the same time on two nodes.
const CLAIMS: usize = 32;
/// The first ones find no connection ready, and so hardly meet.
const ROUNDS: usize = 12;

/// What the claims were answered that `claim` makes of a number and its node.
async fn race<F>(subject: &Nodes<dyn Slots>, claim: impl Fn(usize, Arc<dyn Slots>) -> F) -> impl Fn(Taken) -> usize
where
    F: Future<Output = Taken> + Send + 'static,
{
    let claims = (0..CLAIMS).map(|n| tokio::spawn(claim(n, subject.nodes[n % 2].clone())));
    let taken: Vec<_> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    move |wanted| taken.iter().filter(|taken| **taken == wanted).count()
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_at_once_never_exceed_the_limit(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    for round in 1..=ROUNDS {
        let agent = id();
        // A lease that ran out stands in the way of none, and is cleared away by one.
        subject.nodes[0].take(agent, 3, id(), id(), LAPSED).await.unwrap();
        let claim = |_, slots: Arc<dyn Slots>| async move { slots.take(agent, 3, id(), id(), TTL).await.unwrap() };
        let count = race(&subject, claim).await;
        assert_eq!((count(Taken::Yes), count(Taken::Full)), (3, CLAIMS - 3));
        assert_eq!(subject.nodes[1].held().await.unwrap().len(), 3 * round);
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_at_once_give_a_task_to_one(#[case] adapter: Adapter) {
    let subject = slots(adapter).await;
    for round in 1..=ROUNDS {
        // Also when they come for several agents, which nobody does on purpose.
        let (agents, task) = ([id(), id(), id()], id());
        subject.nodes[0].take(agents[0], 3, task, id(), LAPSED).await.unwrap();
        let claim = |n: usize, slots: Arc<dyn Slots>| async move {
            slots.take(agents[n % 3], 3, task, id(), TTL).await.unwrap()
        };
        let count = race(&subject, claim).await;
        assert_eq!((count(Taken::Yes), count(Taken::Held)), (1, CLAIMS - 1));
        assert_eq!(subject.nodes[1].held().await.unwrap().len(), round);
    }
}
