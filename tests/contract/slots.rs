//! What every store of slots promises: as many as the agent's limit, each held by one claim until it runs out.
use marvin::{
    agent::slots::{Slots, Taken, sqlite::SqliteSlots},
    log::sqlite::SqliteLog,
};
use rstest::rstest;
use std::{collections::HashSet, sync::Arc, time::Duration};
use uuid::Uuid;

struct Subject {
    _directory: tempfile::TempDir,
    slots: Arc<dyn Slots>,
}

fn sqlite() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
    Subject { _directory: directory, slots: Arc::new(SqliteSlots(log.database().clone())) }
}

const TTL: Duration = Duration::from_secs(60);
/// Runs out at once, so that no test has to wait.
const LAPSED: Duration = Duration::ZERO;

fn id() -> Uuid {
    Uuid::now_v7()
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn an_agent_has_as_many_slots_as_its_limit(#[case] subject: Subject) {
    let slots = &subject.slots;
    let (agent, holder) = (id(), id());
    let (first, second, third) = (id(), id(), id());
    assert_eq!(slots.take(agent, 2, first, holder, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.take(agent, 2, second, holder, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.take(agent, 2, third, holder, TTL).await.unwrap(), Taken::Full);
    slots.release(first, holder).await.unwrap();
    assert_eq!(slots.take(agent, 2, third, holder, TTL).await.unwrap(), Taken::Yes);
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn a_task_is_held_by_one_at_a_time_and_freed_only_by_its_holder(#[case] subject: Subject) {
    let slots = &subject.slots;
    let (agent, task, holder, other) = (id(), id(), id(), id());
    assert_eq!(slots.take(agent, 4, task, holder, TTL).await.unwrap(), Taken::Yes);
    assert_eq!(slots.take(agent, 4, task, other, TTL).await.unwrap(), Taken::Held);
    slots.release(task, other).await.unwrap();
    assert_eq!(slots.held().await.unwrap(), HashSet::from([task]));
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn a_lapsed_lease_is_neither_held_nor_renewed_and_its_slot_is_free(#[case] subject: Subject) {
    let slots = &subject.slots;
    let (agent, task, holder) = (id(), id(), id());
    assert_eq!(slots.take(agent, 1, task, holder, LAPSED).await.unwrap(), Taken::Yes);
    assert!(slots.held().await.unwrap().is_empty());
    assert!(slots.renew(vec![holder], TTL).await.unwrap().is_empty());
    assert_eq!(slots.take(agent, 1, id(), id(), TTL).await.unwrap(), Taken::Yes);
}
