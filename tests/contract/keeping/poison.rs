//! An event that a projection cannot take stops it alone, exactly there, until the program is mended or the event is taken out.
use super::{Adapter, Names, Node, World, changed, is_live_at, named, names::POISON, view};
use crate::wait::eventually;
use marvin::{
    log::subscription::BATCH_EVENTS_MAX,
    views::{State, TableRow, ViewStore},
};
use marvin_projections::{agents::Agents, fold_of};
use rstest::rstest;
use std::sync::atomic::Ordering::SeqCst;

type Fragile = Names<1, true>;
type Mended = Names<1, false>;

fn stopped_at(rows: &[TableRow]) -> Vec<Option<u64>> {
    rows.iter().map(|row| row.stopped.as_ref().map(|stopped| stopped.position)).collect()
}

/// A node whose projection stopped, and where.
async fn poisoned(world: &World) -> (Node, u64) {
    let id = named(world, "good", "").await;
    let node = Node::keeping(world, &[fold_of::<Fragile>(), fold_of::<Agents>()]);
    world.live(view::<Fragile>()).await;
    changed(world, id, "before").await;
    let poison = changed(world, id, POISON).await;
    let rows = world.until("it stops", view::<Fragile>(), |rows| stopped_at(rows) == [Some(poison)]).await;
    assert_eq!(rows[0].checkpoint.position, poison - 1, "what is before it is in the table");
    assert!(rows[0].stopped.as_ref().unwrap().reason.contains("poison"), "{:?}", rows[0].stopped);
    named(world, "behind", "").await;
    (node, poison)
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn it_stops_that_projection_alone_and_goes_on_once_it_is_taken_out(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let (node, poison) = poisoned(&world).await;
    world.live(view::<Agents>()).await;
    let told = async || node.health.degraded().into_iter().find(|part| part.name == "projection:names");
    let part = eventually("it is told", told).await;
    assert_eq!(part.position, Some(poison));
    assert!(part.reason.starts_with(&format!("stopped at position {poison}: ")), "{}", part.reason);
    // Tried again without being mended, it stops there again.
    let table = world.rows(view::<Fragile>()).await[0].table.clone();
    let writes = world.store.writes.load(SeqCst);
    world.store.resume(&table).await.unwrap();
    node.poke.notify_waiters();
    world.until("it stops again", view::<Fragile>(), |rows| stopped_at(rows) == [Some(poison)]).await;
    world.skip::<Fragile>(poison).await;
    world.store.resume(&table).await.unwrap();
    node.poke.notify_waiters();
    world.live(view::<Fragile>()).await;
    assert!(world.store.writes.load(SeqCst) > writes);
    eventually("it is well", async || node.health.degraded().is_empty().then_some(())).await;
    assert_eq!(world.assert_equal(fold_of::<Fragile>()).await, (2, 0));
    // Nor does a rebuild meet it.
    world.store.begin(view::<Fragile>(), world.head()).await.unwrap();
    node.poke.notify_waiters();
    let rebuilt = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 2 && row.state == State::Live);
    world.until("it is rebuilt", view::<Fragile>(), rebuilt).await;
    assert_eq!(world.assert_equal(fold_of::<Fragile>()).await, (2, 0));
    assert_ne!(world.replayed(&fold_of::<Mended>()).await.len(), 0);
}

/// What a projection panics at is known; this is for all else that may.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_projector_that_panics_stands_still_and_says_so_until_it_is_resumed(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    named(&world, "first", "").await;
    let node = Node::keeping(&world, &[fold_of::<Mended>()]);
    world.live(view::<Mended>()).await;
    let before = world.head();
    world.store.before_load.set(async { panic!("a person's words") });
    named(&world, "second", "").await;
    let rows = world.until("it stops", view::<Mended>(), |rows| stopped_at(rows) == [Some(before)]).await;
    let reason = &rows[0].stopped.as_ref().unwrap().reason;
    assert!(reason.contains("panicked") && !reason.contains("words"), "{reason}");
    let told = async || node.health.degraded().into_iter().find(|part| part.name == "projection:names");
    let part = eventually("it is told", told).await;
    assert_eq!((part.position, part.reason), (Some(before), format!("stopped at position {before}: {reason}")));
    world.store.resume(&rows[0].table).await.unwrap();
    node.poke.notify_waiters();
    world.live(view::<Mended>()).await;
    eventually("it is well", async || node.health.degraded().is_empty().then_some(())).await;
    assert_eq!(world.assert_equal(fold_of::<Mended>()).await, (2, 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_restart_tries_once_and_a_mended_program_goes_on(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let (node, poison) = poisoned(&world).await;
    node.closed().await;
    let same = Node::keeping(&world, &[fold_of::<Fragile>()]);
    eventually("it was tried", async || same.health.degraded().into_iter().find(|it| it.name == "projection:names"))
        .await;
    world.until("it stops again", view::<Fragile>(), |rows| stopped_at(rows) == [Some(poison)]).await;
    same.closed().await;
    let _mended = Node::keeping(&world, &[fold_of::<Mended>()]);
    world.live(view::<Mended>()).await;
    assert_eq!(world.rows(view::<Mended>()).await[0].stopped, None);
    assert_eq!(world.assert_equal(fold_of::<Mended>()).await, (2, 0));
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_stop_that_cannot_be_noted_is_noted_once_the_store_is_back(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    world.store.lost_stops.store(2, SeqCst);
    let (_node, poison) = poisoned(&world).await;
    world.skip::<Fragile>(poison).await;
    let table = world.rows(view::<Fragile>()).await[0].table.clone();
    world.store.resume(&table).await.unwrap();
    let end = world.head();
    world.until("the keeper still works", view::<Fragile>(), |rows| is_live_at(rows, end)).await;
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_was_taken_out_while_another_table_stands_before_it_does_not_stop_that_one(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "good", "").await;
    let node = Node::keeping(&world, &[fold_of::<Fragile>()]);
    world.live(view::<Fragile>()).await;
    let poison = changed(&world, id, POISON).await;
    world.until("it stops", view::<Fragile>(), |rows| stopped_at(rows) == [Some(poison)]).await;
    // The rebuild knows of no skip yet, and stands before the event.
    world.store.holds_writes.send_replace(Some((1, 2)));
    world.store.begin(view::<Fragile>(), world.head()).await.unwrap();
    let taken_over = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 2 && row.token > 0);
    node.poke.notify_waiters();
    world.until("the rebuild runs", view::<Fragile>(), taken_over).await;
    world.skip::<Fragile>(poison).await;
    world.store.holds_writes.send_replace(None);
    let rebuilt = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 2 && row.state == State::Live);
    let rows = world.until("it is rebuilt", view::<Fragile>(), rebuilt).await;
    assert_eq!(stopped_at(&rows)[1], None);
    assert_eq!(world.assert_equal(fold_of::<Fragile>()).await, (1, 0));
}

/// As a disk does, or somebody with the file.
fn damage(world: &World, position: u64) {
    let file = rusqlite::Connection::open(world.stack.directory.path().join("data/log.db")).unwrap();
    file.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    file.execute_batch("DROP TRIGGER events_are_never_changed").unwrap();
    assert_eq!(file.execute("UPDATE events SET payload = x'00' WHERE position = ?1", [position.cast_signed()]), Ok(1));
}

#[tokio::test]
async fn what_nobody_can_read_is_told_also_where_it_was_taken_out() {
    let world = Adapter::Sqlite.world().await;
    named(&world, "good", "").await;
    named(&world, "damaged", "").await;
    let damaged = world.head();
    world.skip::<Mended>(damaged).await;
    damage(&world, damaged);
    let node = Node::keeping(&world, &[fold_of::<Mended>()]);
    let stopped = |rows: &[TableRow]| stopped_at(rows) == [Some(damaged)];
    world.until("it stops", view::<Mended>(), stopped).await;
    eventually("it is told", async || node.health.degraded().into_iter().find(|it| it.name == "projection:names"))
        .await;
}

/// A full page is put off, as there may be more to fold with it; here it is followed by what nobody can read.
#[tokio::test]
async fn what_was_put_off_is_folded_before_the_table_stops_at_what_nobody_can_read() {
    let world = Adapter::Sqlite.world().await;
    let id = named(&world, "good", "").await;
    for number in 1..BATCH_EVENTS_MAX {
        changed(&world, id, &format!("change {number}")).await;
    }
    let damaged = changed(&world, id, "damaged").await;
    assert_eq!(damaged, u64::from(BATCH_EVENTS_MAX) + 1);
    changed(&world, id, "behind").await;
    damage(&world, damaged);
    let _node = Node::keeping(&world, &[fold_of::<Mended>()]);
    let stopped = |rows: &[TableRow]| stopped_at(rows) == [Some(damaged)];
    let rows = world.until("it stops", view::<Mended>(), stopped).await;
    assert_eq!(rows[0].checkpoint.position, damaged - 1, "what is before it is in the table");
}

/// What stopped is one table with a document that somebody damaged; the rebuild beside it has nothing of that.
#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_was_taken_out_while_another_table_was_beyond_it_is_not_in_that_one(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "good", "").await;
    let before = Node::keeping(&world, &[fold_of::<Mended>()]);
    world.live(view::<Mended>()).await;
    before.closed().await;
    world.tamper("UPDATE view_names_1_1 SET body = substr(body, 1, 40)").await;
    let doubtful = changed(&world, id, "doubtful").await;
    let node = Node::keeping(&world, &[fold_of::<Mended>()]);
    world.until("it stops", view::<Mended>(), |rows| stopped_at(rows) == [Some(doubtful)]).await;
    world.store.holds_switch.store(true, SeqCst);
    world.store.begin(view::<Mended>(), world.head()).await.unwrap();
    node.poke.notify_waiters();
    let beyond = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 2 && row.checkpoint.position >= doubtful);
    world.until("the rebuild is beyond it", view::<Mended>(), beyond).await;
    world.skip::<Mended>(doubtful).await;
    world.store.holds_switch.store(false, SeqCst);
    // What serves still stands before the event, and the rebuild beyond it is not let in its place.
    let rebuilt = |rows: &[TableRow]| rows.iter().any(|row| row.table.build == 3 && row.state == State::Live);
    node.poke.notify_waiters();
    world.until("it is built anew", view::<Mended>(), rebuilt).await;
    assert_eq!(world.states(view::<Mended>()).await[1], (2, State::Retired));
    assert_eq!(world.assert_equal(fold_of::<Mended>()).await, (1, 0));
}
