//! A database that lost acknowledged commits, as one without a sync does when its server crashes, under a process that lives on.
use super::{Adapter, Names, Node, changed, named, view};
use marvin::views::{ListQuery, Order, ViewError};
use marvin_projections::fold_of;
use rstest::rstest;
use std::sync::atomic::Ordering::SeqCst;

type One = Names<1>;

/// Whether the process hears of it by an error of its own, or by nothing.
#[rstest]
#[case::unheard(false)]
#[case::heard(true)]
#[tokio::test]
async fn what_a_crash_of_the_database_took_back_is_folded_again(#[case] is_heard: bool) {
    let world = Adapter::Postgres.world().await;
    let (first, second) = (named(&world, "first", "").await, named(&world, "second", "").await);
    let node = Node::keeping(&world, &[fold_of::<One>()]);
    let table = world.live(view::<One>()).await;
    let stranger = world.database.as_ref().unwrap().views_stranger().await;
    let keep = format!("CREATE TABLE kept AS TABLE {table}; CREATE TABLE kept_lines AS TABLE tables");
    stranger.batch_execute(&keep).await.unwrap();
    changed(&world, first, "lost").await;
    let third = named(&world, "third", "").await;
    world.live(view::<One>()).await;
    let set_back = format!(
        "BEGIN; DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept; \
         UPDATE tables SET position = kept_lines.position, event_id = kept_lines.event_id FROM kept_lines \
         WHERE tables.name = kept_lines.name AND tables.build = kept_lines.build; COMMIT"
    );
    stranger.batch_execute(&set_back).await.unwrap();
    let query = || ListQuery { filters: Vec::new(), order: Order::Newest, before: None, limit: 10 };
    let listed = node.views.list::<One>(query()).await;
    assert!(matches!(listed, Err(ViewError::SetBack { .. })), "what was read before is not there: {listed:?}");
    world.store.crash_before.store(is_heard, SeqCst);
    let end = changed(&world, second, "goes on").await;
    assert_eq!(world.assert_equal(fold_of::<One>()).await.0, 3);
    node.views.wait::<One>(end).await.unwrap();
    let listed = node.views.list::<One>(query()).await.unwrap().documents;
    assert_eq!(listed.iter().map(|called| called.changes).collect::<Vec<_>>(), [0, 1, 1]);
    assert!(node.views.get::<One>(third, end).await.unwrap().is_some());
}
