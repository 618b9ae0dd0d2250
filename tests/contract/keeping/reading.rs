//! Read-your-writes: who waited for what they wrote reads it, whoever keeps the view, whatever takes whose place meanwhile.
use super::{Adapter, Names, Node, changed, named, view};
use crate::{redis_server as redis, wait::eventually};
use marvin::{
    cache::{Cache, Entry, memory::MemoryCache, publisher::Publisher},
    views::{Filter, ListQuery, Order, SealedDocument, State, ViewStore, projector::key, query::Behind},
};
use marvin_projections::fold_of;
use rstest::rstest;
use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};
use uuid::Uuid;

type One = Names<1>;
const WRITES: usize = 150;

/// What two nodes cache in.
async fn caches(is_redis: bool) -> [Arc<dyn Cache>; 2] {
    if is_redis {
        let (url, instance) = (redis::shared(), redis::instance());
        [Arc::new(redis::connect(&url, &instance).await), Arc::new(redis::connect(&url, &instance).await)]
    } else {
        [Arc::new(MemoryCache::default()), Arc::new(MemoryCache::default())]
    }
}

/// Reads one document and a list right behind a write, and asserts that both show it.
async fn assert_read(node: &Node, id: Uuid, changes: u32, position: u64) {
    node.views.wait::<One>(position).await.unwrap();
    let read = node.views.get::<One>(id, position).await.unwrap().expect("it was created");
    assert!(read.changes >= changes, "{} of {changes} changes at {position}", read.changes);
    let filters = vec![Filter::is("changes", i64::from(changes))];
    let query = ListQuery { filters, order: Order::Newest, before: None, limit: 10 };
    let listed = node.views.list::<One>(query).await.unwrap();
    assert_eq!(listed.version, 1);
    assert!(
        listed.documents.iter().any(|read| read.changes == changes),
        "a list without change {changes} at {position}"
    );
}

#[rstest]
#[case::sqlite(Adapter::Sqlite, false)]
#[case::postgres(Adapter::Postgres, false)]
#[case::postgres_and_redis(Adapter::Postgres, true)]
#[tokio::test]
async fn a_write_is_read_here_and_elsewhere_while_rebuilds_take_the_place_of_what_serves(
    #[case] adapter: Adapter,
    #[case] is_redis: bool,
) {
    let world = adapter.world().await;
    let [here, there] = caches(is_redis).await;
    let folds = [fold_of::<One>()];
    let keeper = Node::new(&world, &folds, &folds, here);
    let reader = Node::new(&world, &folds, &[], there);
    let id = named(&world, "scribe", "").await;
    world.live(view::<One>()).await;
    keeper.first_look().await;
    reader.first_look().await;
    let mut tables = Vec::new();
    for write in 1..=WRITES {
        if write % 10 == 0 && !world.rows(view::<One>()).await.iter().any(|row| row.state == State::Building) {
            world.store.begin(view::<One>(), world.head()).await.unwrap();
            keeper.poke.notify_waiters();
        }
        let position = changed(&world, id, &format!("write {write}")).await;
        let changes = u32::try_from(write).unwrap();
        assert_read(&keeper, id, changes, position).await;
        assert_read(&reader, id, changes, position).await;
        tables.extend(reader.board.watch("names").borrow().serving.as_ref().map(|serving| serving.table.build));
    }
    tables.dedup();
    assert!(tables.len() > 2, "else nothing took the place of anything: {tables:?}");
}

/// What it serves may be behind what served, when it begins to.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_table_that_is_behind_what_was_read_waits_until_it_is_as_far(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let folds = [fold_of::<One>()];
    let keeper = Node::keeping(&world, &folds);
    let reader = Node::new(&world, &folds, &[], Arc::new(MemoryCache::default()));
    let id = named(&world, "scribe", "").await;
    world.live(view::<One>()).await;
    reader.first_look().await;
    world.store.holds_switch.store(true, SeqCst);
    let rebuilt = world.store.begin(view::<One>(), world.head()).await.unwrap().table;
    keeper.poke.notify_waiters();
    world.until("it is filled", view::<One>(), |rows| rows[1].checkpoint.position == 1).await;
    world.store.holds_writes.send_replace(Some((1, 2)));
    let position = changed(&world, id, "ahead of it").await;
    assert_read(&keeper, id, 1, position).await;
    assert_read(&reader, id, 1, position).await;
    world.store.inner.make_live(&rebuilt, 1).await.unwrap();
    for node in [&keeper, &reader] {
        node.board.look_within(Duration::ZERO).await.unwrap();
        assert_read(node, id, 1, position).await;
    }
    world.store.holds_writes.send_replace(None);
    for node in [&keeper, &reader] {
        let build = || node.board.watch("names").borrow().serving.as_ref().map(|serving| serving.table.build);
        eventually("it switches", async || (build() == Some(2)).then_some(())).await;
        assert_read(node, id, 1, position).await;
    }
}

/// The writer's cache is this test's, so that it stays behind the store.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_the_cache_knows_of_an_earlier_time_is_neither_read_nor_at_hand(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let folds = [fold_of::<One>()];
    let cache = Arc::new(MemoryCache::default());
    let _keeper = Node::keeping(&world, &folds);
    let reader = Node::new(&world, &folds, &[], cache.clone());
    let id = named(&world, "scribe", "").await;
    let table = world.live(view::<One>()).await;
    reader.first_look().await;
    let mut publisher = Publisher::new(cache, key(&table), 1);
    publisher.publish(&[], 0).await;
    assert_eq!(reader.views.at_hand::<One>(&[id], 0).await, [], "the store is not asked");
    let SealedDocument { position, body, .. } = world.store.load(&table, &[id]).await.unwrap().documents.remove(0);
    publisher.publish(&[Entry { id, position, body: body.into() }], position).await;
    let changes = async |at_least| -> Vec<u32> {
        reader.views.at_hand::<One>(&[id, Uuid::now_v7()], at_least).await.iter().map(|read| read.changes).collect()
    };
    assert_eq!(changes(position).await, [0]);
    let next = self::changed(&world, id, "later").await;
    reader.views.wait::<One>(next).await.unwrap();
    publisher.publish(&[], position).await;
    assert_eq!(changes(position).await, [0], "who asks for no more is given it");
    assert_eq!(changes(next).await, [] as [u32; 0]);
    let read = reader.views.get::<One>(id, next).await.unwrap().unwrap();
    assert_eq!(read.changes, 1);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn who_waits_for_a_view_that_stands_still_is_told_in_time(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let folds = [fold_of::<One>()];
    let keeper = Node::keeping(&world, &folds);
    let reader = Node::new(&world, &folds, &[], Arc::new(MemoryCache::default()));
    let id = named(&world, "scribe", "").await;
    world.live(view::<One>()).await;
    reader.first_look().await;
    keeper.views.wait::<One>(1).await.unwrap();
    world.store.holds_writes.send_replace(Some((1, 1)));
    let asked = changed(&world, id, "held").await;
    let begun = Instant::now();
    let answers = tokio::join!(keeper.views.wait::<One>(asked), reader.views.wait::<One>(asked));
    assert_eq!(answers, (Err(Behind { asked, reached: 1 }), Err(Behind { asked, reached: 1 })));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(7), "{took:?}");
    world.store.holds_writes.send_replace(None);
    tokio::try_join!(keeper.views.wait::<One>(asked), reader.views.wait::<One>(asked)).unwrap();
}
