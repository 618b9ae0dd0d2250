//! A table's life: built, read, kept up, rebuilt beside what serves, and dropped when nobody reads it.
use super::{Adapter, Names, Node, World, changed, is_live_at, named, view};
use crate::wait::eventually;
use marvin::{
    log::checkpoint::Checkpoint,
    views::{State, TableRow, ViewError, ViewStore},
};
use marvin_projections::fold_of;
use rstest::rstest;
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use uuid::Uuid;

/// As the keeper has it.
const UNREAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

type One = Names<1>;
type Two = Names<2>;
type Three = Names<3>;

/// The version of the projection whose document is answered.
async fn version_read(node: &Node, id: Uuid) -> Result<u32, ViewError> {
    Ok(node.views.get::<Two>(id, 0).await?.expect("it was created").version)
}

async fn some_agents(world: &World, count: usize) -> Uuid {
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

/// As after a day in which none of the processes that read these tables ran.
async fn nobody_read_for_a_day(world: &World) {
    match &world.database {
        None => {
            let path = world.stack.directory.path().join("data/views.db");
            let file = rusqlite::Connection::open(path).unwrap();
            file.busy_timeout(Duration::from_secs(5)).unwrap();
            file.execute("UPDATE tables SET read_at = read_at - 90000000", []).unwrap();
        }
        Some(database) => {
            let sql =
                format!("UPDATE \"{}_views\".tables SET read_at = read_at - interval '25 hours'", database.instance);
            database.stranger().await.batch_execute(&sql).await.unwrap();
        }
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn tables_that_nobody_read_for_a_day_are_dropped_and_none_that_is_read(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let old = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    world.store.begin(view::<One>(), 0).await.unwrap();
    let rebuilt = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 2 && row.state == State::Live);
    world.until("it was rebuilt", view::<One>(), rebuilt).await;
    assert_eq!(world.states(view::<One>()).await.len(), 2, "what was just retired stays");
    old.closed().await;
    world.store.holds_switch.store(true, SeqCst);
    nobody_read_for_a_day(&world).await;
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    let states = async || world.states(view::<One>()).await;
    eventually("the retired one is dropped", async || (states().await.len() == 1).then_some(())).await;
    new.first_look().await;
    assert_eq!(version_read(&new, id).await.unwrap(), 1, "what the new program reads meanwhile stays");
    world.store.holds_switch.store(false, SeqCst);
    eventually("it switches", async || (version_read(&new, id).await.unwrap() == 2).then_some(())).await;
    nobody_read_for_a_day(&world).await;
    eventually("the old version is dropped", async || states().await.is_empty().then_some(())).await;
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Live)], "what is read stays");
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_was_written_called_off_or_made_live_just_now_counts_as_read(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let begun = async |view| {
        let table = world.store.begin(view, 0).await.unwrap().table;
        world.store.take_over(&table, 1).await.unwrap();
        table
    };
    let tables = [begun(view::<One>()).await, begun(view::<Two>()).await, begun(view::<Three>()).await];
    nobody_read_for_a_day(&world).await;
    let unread = async || {
        let rows = world.store.tables().await.unwrap();
        rows.iter().map(|row| row.unread_for > Duration::from_secs(60 * 60)).collect::<Vec<_>>()
    };
    assert_eq!(unread().await, [true, true, true]);
    let checkpoint = Checkpoint { position: 1, event_id: Uuid::now_v7() };
    world.store.store(&tables[0], Vec::new(), checkpoint, 1).await.unwrap();
    assert_eq!(unread().await, [false, true, true]);
    world.store.cancel(&tables[1]).await.unwrap();
    assert_eq!(unread().await, [false, false, true]);
    world.store.make_live(&tables[2], 1).await.unwrap();
    assert_eq!(unread().await, [false, false, false]);
    // What is written to a live table is no reader.
    nobody_read_for_a_day(&world).await;
    world.store.store(&tables[2], Vec::new(), checkpoint, 1).await.unwrap();
    assert_eq!(unread().await, [true, true, true]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_table_that_another_version_left_half_built_is_dropped_and_one_just_called_off_is_not(
    #[case] adapter: Adapter,
) {
    let world = adapter.world().await;
    let (left, called_off) =
        (world.store.begin(view::<Three>(), 0).await.unwrap(), world.store.begin(view::<Two>(), 0).await.unwrap());
    nobody_read_for_a_day(&world).await;
    world.store.cancel(&called_off.table).await.unwrap();
    let _node = Node::keeping(&world, &[fold_of::<One>()]);
    world.until("what was left is dropped", view::<Three>(), |rows| rows.is_empty()).await;
    assert_eq!(left.state, State::Building);
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Cancelled)]);
}

/// As when all processes start after a day on which none ran.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn processes_of_two_versions_that_start_together_keep_the_tables_of_both(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    some_agents(&world, 3).await;
    let both = async || {
        let nodes = [Node::keeping(&world, &[fold_of::<Two>()]), Node::keeping(&world, &[fold_of::<One>()])];
        world.live(view::<One>()).await;
        world.live(view::<Two>()).await;
        nodes
    };
    for node in both().await {
        node.closed().await;
    }
    nobody_read_for_a_day(&world).await;
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    new.first_look().await;
    // Looked at while nobody has read the older one.
    world.live(view::<Two>()).await;
    let _old = Node::keeping(&world, &[fold_of::<One>()]);
    let noted = async || world.rows(view::<One>()).await.iter().all(|row| row.unread_for < UNREAD_MAX).then_some(());
    eventually("the older one is read", noted).await;
    assert_eq!(world.states(view::<One>()).await, [(1, State::Live)]);
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Live)]);
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

/// The table that was called off is all that says so. Its program says that it is in use, and keeps it also while nobody heard that.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_higher_version_stays_called_off_for_as_long_as_its_program_runs(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let old = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    old.closed().await;
    world.store.holds_switch.store(true, SeqCst);
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    let table = world.until("it is begun", view::<Two>(), |rows| !rows.is_empty()).await.remove(0).table;
    world.store.cancel(&table).await.unwrap();
    new.closed().await;
    nobody_read_for_a_day(&world).await;
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    let noted = |rows: &[TableRow]| rows.iter().all(|row| row.unread_for < UNREAD_MAX);
    world.until("it notes what it goes by", view::<Two>(), noted).await;
    world.store.begin(view::<Three>(), 0).await.unwrap();
    nobody_read_for_a_day(&world).await;
    world.until("what nobody reads is dropped", view::<Three>(), <[TableRow]>::is_empty).await;
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Cancelled)]);
    assert_eq!(version_read(&new, id).await.unwrap(), 1, "the older one answers");
}

/// Notes are a minute apart, and may fail; what the process reads it knows by itself.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_a_process_reads_it_does_not_drop_though_nobody_noted_it_for_a_day(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let old = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    old.closed().await;
    world.store.holds_switch.store(true, SeqCst);
    nobody_read_for_a_day(&world).await;
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    let noted = |rows: &[TableRow]| rows.iter().all(|row| row.unread_for < UNREAD_MAX);
    world.until("it notes what it reads", view::<One>(), noted).await;
    world.store.begin(view::<Three>(), 0).await.unwrap();
    nobody_read_for_a_day(&world).await;
    world.until("what nobody reads is dropped", view::<Three>(), <[TableRow]>::is_empty).await;
    assert_eq!(world.states(view::<One>()).await, [(1, State::Live)]);
    assert_eq!(version_read(&new, id).await.unwrap(), 1);
}
