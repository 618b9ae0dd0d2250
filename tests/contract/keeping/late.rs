//! What is far behind is told, whoever should keep it up, for as long as it is so.
use super::{Adapter, Names, Node, changed, named, view};
use crate::wait::eventually;
use marvin::{
    cache::memory::MemoryCache,
    health::Degraded,
    views::{TableRow, ViewStore},
};
use marvin_projections::fold_of;
use rstest::rstest;
use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Instant,
};

type One = Names<1>;
type Two = Names<2>;

/// As the board has it.
const PATIENCE_S: u64 = 10;

async fn told(node: &Node) -> Degraded {
    let told = async || node.health.degraded().into_iter().find(|part| part.name == "projection:names");
    eventually("it is told", told).await
}

async fn is_well(node: &Node) {
    eventually("nothing is degraded", async || node.health.degraded().is_empty().then_some(())).await;
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_view_that_does_not_come_along_is_told_by_every_process_until_it_does(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "scribe", "").await;
    let keeper = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    let reader = Node::new(&world, &[fold_of::<One>()], &[], Arc::new(MemoryCache::default()));
    reader.first_look().await;
    world.store.holds_writes.send_replace(Some((1, 1)));
    let (begun, position) = (Instant::now(), changed(&world, id, "late").await);
    for node in [&keeper, &reader] {
        let Degraded { position: reached, reason, .. } = told(node).await;
        let words = format!("behind: position {position} was there {PATIENCE_S} s ago, and is not in it yet");
        assert_eq!((reached, reason), (Some(position - 1), words));
    }
    assert!(begun.elapsed().as_secs() >= PATIENCE_S);
    world.store.holds_writes.send_replace(None);
    is_well(&keeper).await;
    is_well(&reader).await;
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn what_answers_for_a_version_that_was_called_off_is_told_once_nobody_keeps_it_up(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let id = named(&world, "scribe", "").await;
    let old = Node::keeping(&world, &[fold_of::<One>()]);
    world.live(view::<One>()).await;
    world.store.holds_switch.store(true, SeqCst);
    let new = Node::keeping(&world, &[fold_of::<Two>()]);
    let begun = |rows: &[TableRow]| !rows.is_empty();
    let table = world.until("the new one is begun", view::<Two>(), begun).await.remove(0).table;
    world.store.cancel(&table).await.unwrap();
    new.poke.notify_waiters();
    is_well(&new).await;
    old.closed().await;
    let position = changed(&world, id, "late").await;
    let Degraded { position: reached, reason, .. } = told(&new).await;
    assert_eq!(reached, Some(position - 1));
    let words = "version 1 answers, since version 2 was called off; behind: ";
    assert!(reason.starts_with(words), "{reason}");
    world.store.holds_switch.store(false, SeqCst);
    world.store.begin(view::<Two>(), world.head()).await.unwrap();
    new.poke.notify_waiters();
    world.live(view::<Two>()).await;
    is_well(&new).await;
}
