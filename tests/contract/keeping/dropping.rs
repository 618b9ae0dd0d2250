//! What becomes of tables that nobody reads any more, and of those that only seem to be read by nobody.
use super::{
    Adapter, Names, Node, World, changed, is_live_at,
    life::{some_agents, version_read},
    named,
    names::POISON,
    view,
};
use crate::wait::eventually;
use marvin::{
    log::checkpoint::Checkpoint,
    views::{State, TableRow, ViewId, ViewStore},
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
type Fragile = Names<1, true>;

/// As if a day had passed since that moment.
async fn set_back(world: &World, table: &str, moment: &str, which: &str) {
    match &world.database {
        None => {
            let path = world.stack.directory.path().join("data/views.db");
            let file = rusqlite::Connection::open(path).unwrap();
            file.busy_timeout(Duration::from_secs(5)).unwrap();
            file.execute(&format!("UPDATE {table} SET {moment} = {moment} - 90000000 WHERE {which}"), []).unwrap();
        }
        Some(database) => {
            let sql = format!("UPDATE {table} SET {moment} = {moment} - interval '25 hours' WHERE {which}");
            database.views_stranger().await.batch_execute(&sql).await.unwrap();
        }
    }
}

/// As after a day in which only others ran.
async fn nobody_read_for_a_day(world: &World) {
    set_back(world, "tables", "read_at", "true").await;
}

/// As after a day in which no process ran.
async fn nobody_ran_for_a_day(world: &World) {
    nobody_read_for_a_day(world).await;
    set_back(world, "notes", "noted_at", "true").await;
}

async fn noted(node: &Node) {
    eventually("it notes what it reads", async || node.board.has_noted().then_some(())).await;
}

/// Waits until what nobody reads has been dropped once more: whatever else was to go then is gone as well.
async fn drops_once_more(world: &World) {
    world.store.begin(view::<Three>(), 0).await.unwrap();
    set_back(world, "tables", "read_at", "version = 3").await;
    world.until("what nobody reads is dropped", view::<Three>(), <[TableRow]>::is_empty).await;
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
    world.store.read_by_now(&[]).await.unwrap();
    nobody_read_for_a_day(&world).await;
    world.store.cancel(&called_off.table).await.unwrap();
    let _node = Node::keeping(&world, &[fold_of::<One>()]);
    world.until("what was left is dropped", view::<Three>(), |rows| rows.is_empty()).await;
    assert_eq!(left.state, State::Building);
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Cancelled)]);
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_day_on_which_nothing_ran_counts_for_no_table_also_where_its_program_starts_later(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    for folds in [[fold_of::<One>()], [fold_of::<Two>()]] {
        let node = Node::keeping(&world, &folds);
        world.live(ViewId::of(&*folds[0])).await;
        noted(&node).await;
        node.closed().await;
    }
    nobody_ran_for_a_day(&world).await;
    world.store.loses_notes.store(true, SeqCst);
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    new.first_look().await;
    // Looks once a second; each of these begins one more.
    for _ in 0..10 {
        new.poke.notify_waiters();
        let position = changed(&world, id, "meanwhile").await;
        new.views.wait::<Two>(position).await.unwrap();
    }
    assert_eq!(world.store.drops.load(SeqCst), 0, "nobody can have said yet that they are there again");
    world.store.loses_notes.store(false, SeqCst);
    noted(&new).await;
    drops_once_more(&world).await;
    assert_eq!(world.states(view::<One>()).await, [(1, State::Live)]);
    let old = Node::keeping(&world, &[fold_of::<One>()]);
    old.first_look().await;
    assert_eq!(version_read(&old, id).await.unwrap(), 1);
    assert_eq!(world.states(view::<One>()).await, [(1, State::Live)]);
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Live)]);
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
    nobody_read_for_a_day(&world).await;
    drops_once_more(&world).await;
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Cancelled)]);
    assert_eq!(version_read(&new, id).await.unwrap(), 1, "the older one answers");
}

/// Nobody writes to it, and its program says that it is in use: an older one beside it leaves it to be mended.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_higher_version_that_stopped_while_it_was_built_stays_for_as_long_as_its_program_runs(
    #[case] adapter: Adapter,
) {
    let world = adapter.world().await;
    some_agents(&world, 3).await;
    let old = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    old.closed().await;
    named(&world, "poison", POISON).await;
    let new = Node::keeping(&world, &[fold_of::<Names<2, true>>()]);
    let stopped = |rows: &[TableRow]| rows.iter().any(|row| row.stopped.is_some());
    world.until("it stops", view::<Two>(), stopped).await;
    new.closed().await;
    nobody_read_for_a_day(&world).await;
    let _new = Node::keeping(&world, &[fold_of::<Names<2, true>>()]);
    let noted = |rows: &[TableRow]| rows.iter().all(|row| row.unread_for < UNREAD_MAX);
    world.until("it notes what it fills", view::<Two>(), noted).await;
    assert_eq!(world.states(view::<Two>()).await, [(1, State::Building)]);
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
    nobody_read_for_a_day(&world).await;
    drops_once_more(&world).await;
    assert_eq!(world.states(view::<One>()).await, [(1, State::Live)]);
    assert_eq!(version_read(&new, id).await.unwrap(), 1);
}

/// As somebody who copies a database has its tables, for as long as that takes.
async fn hold_tables(world: &World) -> Option<tokio_postgres::Client> {
    let stranger = world.database.as_ref()?.views_stranger().await;
    stranger.batch_execute("BEGIN; LOCK TABLE view_names_1_1 IN ACCESS SHARE MODE").await.unwrap();
    Some(stranger)
}

#[rstest]
#[case::that_takes_long_on_sqlite(Adapter::Sqlite)]
#[case::that_cannot_get_its_lock_on_postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_drop_keeps_no_projector_from_starting_stopping_resuming_or_switching(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = some_agents(&world, 3).await;
    let node = Node::keeping(&world, &[fold_of::<Fragile>()]);
    world.live(view::<Fragile>()).await;
    let rebuild = async |build| {
        world.store.begin(view::<Fragile>(), world.head()).await.unwrap();
        node.poke.notify_waiters();
        let is_live = |row: &TableRow| row.table.build == build && row.state == State::Live;
        world.until("it is rebuilt", view::<Fragile>(), |rows| rows.iter().any(is_live)).await;
    };
    rebuild(2).await;
    let holder = hold_tables(&world).await;
    world.store.holds_drops.send_replace(holder.is_none());
    nobody_read_for_a_day(&world).await;
    eventually("the retired one is to be dropped", async || (world.store.drops.load(SeqCst) > 0).then_some(())).await;
    rebuild(3).await;
    let poison = changed(&world, id, POISON).await;
    let stopped =
        |rows: &[TableRow]| rows.iter().any(|row| row.stopped.as_ref().is_some_and(|it| it.position == poison));
    let rows = world.until("it stops", view::<Fragile>(), stopped).await;
    world.skip::<Fragile>(poison).await;
    world.store.resume(&rows.last().unwrap().table).await.unwrap();
    node.poke.notify_waiters();
    let end = changed(&world, id, "behind it").await;
    world.until("it goes on", view::<Fragile>(), |rows| is_live_at(rows, end)).await;
    eventually("nothing is degraded", async || node.health.degraded().is_empty().then_some(())).await;
    let first = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 1);
    assert!(first(&world.rows(view::<Fragile>()).await), "it is there yet");
    if holder.is_some() {
        let again = async || (world.store.drops.load(SeqCst) > 1).then_some(());
        eventually("what waited for its lock in vain is tried again", again).await;
    }
    drop(holder);
    world.store.holds_drops.send_replace(false);
    world.until("it is dropped in the end", view::<Fragile>(), |rows| !first(rows)).await;
}
