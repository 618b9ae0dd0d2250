//! A table's life: built, read, kept up, and rebuilt beside what serves.
use super::{Adapter, Names, Node, World, changed, is_live_at, named, view};
use crate::wait::eventually;
use marvin::views::{State, TableRow, ViewError, ViewStore};
use marvin_projections::fold_of;
use rstest::rstest;
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use uuid::Uuid;

type One = Names<1>;
type Two = Names<2>;

/// The version of the projection whose document is answered.
pub(super) async fn version_read(node: &Node, id: Uuid) -> Result<u32, ViewError> {
    Ok(node.views.get::<Two>(id, 0).await?.expect("it was created").version)
}

pub(super) async fn some_agents(world: &World, count: usize) -> Uuid {
    let mut id = Uuid::nil();
    for number in 0..count {
        id = named(world, &format!("agent {number}"), "").await;
    }
    id
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_new_instance_serves_at_once(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let node = Node::keeping(&world, &marvin_projections::all());
    node.board.first_look(Duration::from_millis(900)).await;
    for fold in marvin_projections::all() {
        assert!(node.board.watch(fold.name()).borrow().serving.is_some(), "{} does not answer", fold.name());
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_log_without_tables_is_folded_before_anybody_reads(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 5).await;
    world.store.holds_writes.send_replace(Some((2, 1)));
    let node = Node::keeping(&world, &[fold_of::<Two>()]);
    world.until("a table is begun", view::<Two>(), |rows| !rows.is_empty()).await;
    eventually("how far it is", async || {
        let answer = version_read(&node, id).await;
        assert!(matches!(answer, Err(ViewError::Building { .. })), "{answer:?}");
        matches!(answer, Err(ViewError::Building { position: 0, target: 5, .. })).then_some(())
    })
    .await;
    eventually("it is told", async || node.health.degraded().into_iter().find(|it| it.name == "view:names")).await;
    world.store.holds_writes.send_replace(None);
    world.live(view::<Two>()).await;
    node.first_look().await;
    assert_eq!(version_read(&node, id).await.unwrap(), 2);
    eventually("it is well", async || node.health.degraded().is_empty().then_some(())).await;
    assert_eq!(world.assert_equal(fold_of::<Two>()).await, (5, 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_higher_version_is_built_beside_what_serves_and_both_are_kept_up_for_their_programs(
    #[case] adapter: Adapter,
) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let old = Node::keeping(&world, &[fold_of::<One>()]);
    let table = world.live(view::<One>()).await;
    world.store.holds_switch.store(true, SeqCst);
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    let built = |rows: &[TableRow]| rows.iter().any(|row| row.checkpoint.position == 3);
    world.until("the new table is filled", view::<Two>(), built).await;
    new.first_look().await;
    assert_eq!(version_read(&new, id).await.unwrap(), 1, "what serves meanwhile");
    // What the old program writes is read by the new one, which does not follow it.
    let position = changed(&world, id, "new").await;
    new.views.wait::<Two>(position).await.unwrap();
    let read = new.views.get::<Two>(id, position).await.unwrap().unwrap();
    assert_eq!((read.version, read.description.as_str()), (1, "new"));
    world.store.holds_switch.store(false, SeqCst);
    eventually("it switches", async || (version_read(&new, id).await.unwrap() == 2).then_some(())).await;
    let position = changed(&world, id, "newer").await;
    for (node, version) in [(&old, 1), (&new, 2)] {
        node.views.wait::<Two>(position).await.unwrap();
        let read = node.views.get::<Two>(id, position).await.unwrap().unwrap();
        assert_eq!((read.version, read.description.as_str()), (version, "newer"));
    }
    assert_eq!(world.states(view::<One>()).await, [(table.build, State::Live)]);
    assert_eq!(world.assert_equal(fold_of::<One>()).await, (3, 0));
    assert_eq!(world.assert_equal(fold_of::<Two>()).await, (3, 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_rebuild_takes_the_place_of_what_served_and_leaves_the_projection_well(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let node = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    world.store.begin(view::<One>(), world.head()).await.unwrap();
    node.poke.notify_waiters();
    // While it goes on, so that what wrote to the old table finds it retired.
    let switched = async || world.states(view::<One>()).await == [(1, State::Retired), (2, State::Live)];
    eventually("the rebuild serves", async || {
        changed(&world, id, "changes").await;
        switched().await.then_some(())
    })
    .await;
    changed(&world, id, "last").await;
    world.live(view::<One>()).await;
    eventually("nothing is degraded", async || node.health.degraded().is_empty().then_some(())).await;
    assert_eq!(world.assert_equal(fold_of::<One>()).await, (3, 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_rebuild_that_is_cancelled_stands_still_and_goes_on_from_there(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let node = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    world.store.holds_switch.store(true, SeqCst);
    let rebuilt = world.store.begin(view::<One>(), world.head()).await.unwrap().table;
    node.poke.notify_waiters();
    let at = |position| {
        move |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 2 && row.checkpoint.position == position)
    };
    world.until("it is filled", view::<One>(), at(3)).await;
    world.store.cancel(&rebuilt).await.unwrap();
    let position = changed(&world, id, "meanwhile").await;
    world.until("the other goes on", view::<One>(), |rows| is_live_at(rows, position)).await;
    world.store.holds_switch.store(false, SeqCst);
    assert_eq!(world.states(view::<One>()).await, [(1, State::Live), (2, State::Cancelled)]);
    let row = world.store.begin(view::<One>(), world.head()).await.unwrap();
    assert_eq!((row.table.build, row.checkpoint.position), (2, 3), "what was filled is kept");
    node.poke.notify_waiters();
    world
        .until("it serves", view::<One>(), |rows| rows[1].state == State::Live && rows[1].checkpoint.position == 4)
        .await;
    assert_eq!(world.assert_equal(fold_of::<One>()).await, (3, 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_keeper_that_is_killed_while_it_builds_is_followed_by_one_that_goes_on(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    world.store.holds_switch.store(true, SeqCst);
    let first = Node::keeping(&world, &[fold_of::<One>()]);
    world.until("it is filled", view::<One>(), |rows| rows.iter().any(|row| row.checkpoint.position == 3)).await;
    // It dies in the middle of a write.
    world.store.holds_writes.send_replace(Some((1, 1)));
    changed(&world, id, "lost on the way").await;
    first.killed().await;
    world.store.holds_writes.send_replace(None);
    world.store.holds_switch.store(false, SeqCst);
    let _second = Node::keeping(&world, &[fold_of::<One>()]);
    assert_eq!(world.live(view::<One>()).await.build, 1, "it does not begin anew");
    assert_eq!(world.assert_equal(fold_of::<One>()).await, (3, 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_higher_version_that_is_called_off_leaves_the_older_one_alone_until_it_is_asked_for_again(
    #[case] adapter: Adapter,
) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let _old = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    world.store.holds_switch.store(true, SeqCst);
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    let built = |rows: &[TableRow]| rows.iter().any(|row| row.checkpoint.position == 3);
    let table = world.until("the new table is filled", view::<Two>(), built).await.remove(0).table;
    world.store.cancel(&table).await.unwrap();
    // Looks once a second; each of these begins one more.
    for _ in 0..10 {
        new.poke.notify_waiters();
        let position = changed(&world, id, "meanwhile").await;
        new.views.wait::<Two>(position).await.unwrap();
        assert_eq!(world.states(view::<Two>()).await, [(1, State::Cancelled)]);
    }
    assert_eq!(version_read(&new, id).await.unwrap(), 1, "the older one answers");
    world.store.holds_switch.store(false, SeqCst);
    world.store.begin(view::<Two>(), world.head()).await.unwrap();
    new.poke.notify_waiters();
    eventually("it switches", async || (version_read(&new, id).await.unwrap() == 2).then_some(())).await;
}
