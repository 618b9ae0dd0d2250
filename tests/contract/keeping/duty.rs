//! One process at a time keeps a view, and another one goes on where it ended.
use super::{Adapter, Names, Node, World, changed, named, view};
use crate::wait::{DEADLINE, eventually};
use async_trait::async_trait;
use marvin::{
    duty::{Duties, Held, holder::Holder},
    log::checkpoint::Checkpoint,
    store::StoreError,
    views::{State, TableRow, ViewError, ViewStore},
};
use marvin_projections::fold_of;
use rstest::rstest;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use uuid::Uuid;

type One = Names<1>;
const DUTY: &str = "projector:names:1";

async fn token(world: &World) -> u64 {
    world.rows(view::<One>()).await[0].token
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn one_of_two_writes_and_the_other_takes_over_when_it_dies(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "scribe", "").await;
    let first = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    let second = Node::keeping(&world, &[fold_of::<One>()]);
    second.first_look().await;
    for number in 0..20 {
        let writes = world.store.writes.load(SeqCst);
        let position = changed(&world, id, &format!("change {number}")).await;
        first.views.wait::<One>(position).await.unwrap();
        second.views.wait::<One>(position).await.unwrap();
        assert_eq!(world.store.writes.load(SeqCst), writes + 1, "both of them write");
    }
    assert_eq!(token(&world).await, 1);
    first.killed().await;
    let (begun, position) = (Instant::now(), changed(&world, id, "after its death").await);
    let taken = |rows: &[TableRow]| rows[0].token == 2 && rows[0].checkpoint.position >= position;
    world.until("the other goes on", view::<One>(), taken).await;
    assert!(begun.elapsed() < Duration::from_secs(7), "a lease, a look and some time to spare");
    assert_eq!(world.assert_equal(fold_of::<One>()).await, (1, 0));
    // A stopped one lets others have it at once: none of them waits for a lease of four seconds.
    let third = Node::keeping(&world, &[fold_of::<One>()]);
    let begun = Instant::now();
    second.closed().await;
    world.until("it is handed over", view::<One>(), |rows| rows[0].token == 3).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(third);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_a_holder_writes_late_is_refused(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "scribe", "").await;
    let first = Node::keeping(&world, &[fold_of::<One>()]);
    let table = world.live(view::<One>()).await;
    // It goes on with its writing behind its successor.
    let holder = first.holder.clone();
    first.killed().await;
    let _second = Node::keeping(&world, &[fold_of::<One>()]);
    world.until("the other takes over", view::<One>(), |rows| rows[0].token == 2).await;
    changed(&world, id, "by the second").await;
    world.live(view::<One>()).await;
    let before = world.opened(&table).await;
    let end = Checkpoint { position: 99, event_id: Uuid::now_v7() };
    for answer in [
        world.store.store(&table, Vec::new(), end, 1).await.map(drop),
        world.store.make_live(&table, 1).await,
        world.store.take_over(&table, 1).await.map(drop),
    ] {
        assert!(matches!(answer, Err(ViewError::Fenced)), "{answer:?}");
    }
    // Nor does it end what its successor has.
    holder.release_all().await;
    let held = world.stack.stores.duties.held().await.unwrap();
    assert!(held.iter().any(|held| held.duty == DUTY && held.token == 2), "{held:?}");
    assert_eq!(world.opened(&table).await, before);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn whoever_lost_a_duty_is_told_and_has_to_take_it_anew(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let duties = world.stack.stores.duties.clone();
    let holder = Holder::new(duties.clone());
    let running = tokio::spawn(holder.clone().run());
    let mut tenure = holder.take("some").await;
    assert_eq!(tenure.token, 1);
    tokio::time::timeout(DEADLINE, tenure.renewed()).await.unwrap();
    let other = holder.take("other").await;
    // Taken away, as by somebody whose clock went ahead.
    let held = duties.held().await.unwrap();
    duties.release("some", held.iter().find(|held| held.duty == "some").unwrap().holder).await.unwrap();
    let thief = Uuid::now_v7();
    assert_eq!(duties.take("some", thief, Duration::from_secs(60)).await.unwrap(), Some(2));
    tokio::time::timeout(DEADLINE, tenure.lost()).await.unwrap();
    // The other one is still its own, and the lost one is not prolonged any more.
    tokio::time::timeout(DEADLINE, other.clone().renewed()).await.unwrap();
    let renewed = tokio::time::timeout(Duration::from_secs(2), tenure.renewed()).await;
    assert!(renewed.is_err(), "a lost duty was prolonged");
    duties.release("some", thief).await.unwrap();
    assert_eq!(holder.take("some").await.token, 3);
    running.abort();
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_rebuild_goes_on_when_its_keeper_dies(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "scribe", "").await;
    let first = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    let second = Node::keeping(&world, &[fold_of::<One>()]);
    world.store.holds_switch.store(true, SeqCst);
    world.store.begin(view::<One>(), world.head()).await.unwrap();
    first.poke.notify_waiters();
    world.until("it is filled", view::<One>(), |rows| rows.len() == 2 && rows[1].checkpoint.position == 1).await;
    first.killed().await;
    changed(&world, id, "in between").await;
    world.store.holds_switch.store(false, SeqCst);
    let switched = async || world.states(view::<One>()).await == [(1, State::Retired), (2, State::Live)];
    eventually("the other switches", async || switched().await.then_some(())).await;
    assert_eq!(world.assert_equal(fold_of::<One>()).await, (1, 0));
    drop(second);
}

/// Duties that nobody can prolong, though they are still held: the store refuses, or says nothing.
struct Away {
    inner: Arc<dyn Duties>,
    is_silent: bool,
    is_away: AtomicBool,
    /// When each prolongation was asked for.
    asked: Mutex<Vec<Instant>>,
}

#[async_trait]
impl Duties for Away {
    async fn take(&self, duty: &str, holder: Uuid, ttl: Duration) -> Result<Option<u64>, StoreError> {
        self.inner.take(duty, holder, ttl).await
    }
    async fn renew(&self, holder: Uuid, ttl: Duration) -> Result<Vec<(String, u64)>, StoreError> {
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(Instant::now());
            asked.len()
        };
        match self.is_away.load(SeqCst) {
            // The next one is asked for shortly after its tick, and so is the end of the patience with it.
            false if asked == 1 => {
                tokio::time::sleep(Duration::from_millis(1050)).await;
                self.inner.renew(holder, ttl).await
            }
            true if self.is_silent => std::future::pending().await,
            true => Err(StoreError::Closed),
            false => self.inner.renew(holder, ttl).await,
        }
    }
    async fn release(&self, duty: &str, holder: Uuid) -> Result<(), StoreError> {
        self.inner.release(duty, holder).await
    }
    async fn held(&self) -> Result<Vec<Held>, StoreError> {
        self.inner.held().await
    }
    async fn pass(&self, duty: &str, token: u64) -> Result<(), StoreError> {
        self.inner.pass(duty, token).await
    }
}

/// A lease lasts four seconds, so whoever cannot prolong it has to end before.
#[rstest]
#[case::a_store_that_refuses(false)]
#[case::a_store_that_is_silent(true)]
#[tokio::test]
async fn who_cannot_prolong_a_duty_gives_it_up_in_good_time_and_not_at_the_first_failure(#[case] is_silent: bool) {
    let world = Adapter::Sqlite.world().await;
    let inner = world.stack.stores.duties.clone();
    let duties = Arc::new(Away { inner, is_silent, is_away: AtomicBool::new(false), asked: Mutex::default() });
    let holder = Holder::new(duties.clone());
    let running = tokio::spawn(holder.clone().run());
    let mut tenure = holder.take("some").await;
    for _ in 0..2 {
        tokio::time::timeout(DEADLINE, tenure.renewed()).await.unwrap();
    }
    let renewed = *duties.asked.lock().unwrap().last().unwrap();
    duties.is_away.store(true, SeqCst);
    tokio::time::timeout(DEADLINE, tenure.lost()).await.unwrap();
    let kept = renewed.elapsed();
    assert!(kept > Duration::from_secs(2) && kept < Duration::from_millis(3900), "{kept:?}");
    // A second failure does not end what was taken since.
    let mut taken = holder.take("other").await;
    duties.is_away.store(false, SeqCst);
    tokio::time::timeout(DEADLINE, taken.renewed()).await.unwrap();
    running.abort();
}
