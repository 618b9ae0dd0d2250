//! The doctor's comparison holds few documents at a time, however large they are, whatever the store.
use super::{
    Adapter, World,
    large::{DOCUMENT_BYTES, large_tasks},
};
use crate::weather::Weather;
use marvin::{
    log::{checkpoint::Checkpoint, subscription::Follower},
    views::{
        ViewStore,
        equality::{Comparer, Comparison, Difference},
        sqlite::SqliteViews,
    },
};
use marvin_domain::task::{CancelReason, TaskCommand};
use marvin_projections::{fold_of, tasks::Tasks};
use rstest::rstest;
use std::sync::{Arc, atomic::Ordering::SeqCst};
use uuid::Uuid;

/// All together are far more than a batch of the replay may load.
const DOCUMENTS: usize = 40;
/// What one query may load: eight documents, sealed.
const LOADED_BYTES_MAX: usize = 8 * (DOCUMENT_BYTES + 4096);

/// What a comparison found, and the store that it folded into, with what it saw.
async fn compared(world: &World) -> (Comparison, Arc<Weather>) {
    let directory = tempfile::tempdir().unwrap();
    let views = SqliteViews::open(&directory.path().join("views.db")).unwrap();
    let fresh = Arc::new(Weather::over(Arc::new(views)));
    let stores = &world.stack.stores;
    let comparer = Comparer {
        log: stores.log.clone(),
        codec: stores.codec.clone(),
        documents: world.documents(),
        dispatcher: world.stack.dispatcher.clone(),
        live: world.store.clone(),
        fresh: fresh.clone(),
    };
    let [comparison] =
        <[_; 1]>::try_from(comparer.compare(vec![fold_of::<Tasks>()]).await.unwrap()).expect("one view is live");
    (comparison, fresh)
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn large_documents_are_folded_and_looked_at_a_few_at_a_time(#[case] adapter: Adapter) {
    let world = adapter.world().await;
    let (tasks, mut projector) = large_tasks(&world, DOCUMENTS).await;
    world.store.make_live(projector.table(), 1).await.unwrap();
    let (before, fresh) = compared(&world).await;
    let (documents, folded) = (before.documents, fresh.writes.load(SeqCst));
    assert_eq!((documents, before.findings.differing), (DOCUMENTS as u64, 0));
    let begun = world.head();
    for task in &tasks {
        world.stack.send(*task, TaskCommand::Cancel { reason: CancelReason::Requested }).await;
    }
    projector.take(&world.events_behind(begun).await[..1]).await.unwrap();
    // As if the rest had been lost: each of these differs, and is looked at again.
    let end = Checkpoint { position: world.head(), event_id: Uuid::now_v7() };
    world.store.store(projector.table(), Vec::new(), end, 1).await.unwrap();
    world.store.loaded_bytes.store(0, SeqCst);
    let (after, fresh) = compared(&world).await;
    assert_eq!((after.documents, after.findings.differing), (documents, documents - 1));
    assert!(after.findings.named.values().all(|difference| *difference == Difference::Position));
    assert!(fresh.writes.load(SeqCst) > folded + 1, "what was cancelled was folded at once");
    for store in [&fresh, &world.store] {
        let loaded = store.loaded_bytes.load(SeqCst);
        assert!((1..=LOADED_BYTES_MAX).contains(&loaded), "{loaded} bytes were loaded at once");
    }
}

#[rstest]
#[case::dropped_from_a_file(Adapter::Sqlite, "DROP TABLE view_tasks_4_1", "no such table: view_tasks_4_1")]
#[case::changed_in_a_file(Adapter::Sqlite, "ALTER TABLE view_tasks_4_1 DROP COLUMN body", "no such column: body")]
#[case::dropped(Adapter::Postgres, "DROP TABLE view_tasks_4_1", "it is not in the database")]
#[case::changed(Adapter::Postgres, "ALTER TABLE view_tasks_4_1 DROP COLUMN body", "column \"body\" does not exist")]
#[tokio::test]
async fn a_table_that_was_damaged_is_told_of(#[case] adapter: Adapter, #[case] damage: &str, #[case] reason: &str) {
    let world = adapter.world().await;
    let (_, projector) = large_tasks(&world, 1).await;
    world.store.make_live(projector.table(), 1).await.unwrap();
    assert_eq!(compared(&world).await.0.unreadable, None);
    world.tamper(damage).await;
    let (comparison, _) = compared(&world).await;
    let told = comparison.unreadable.expect("nothing can be read from it");
    assert!(told.contains(reason), "{told}");
    assert_eq!((comparison.documents, comparison.findings.differing), (0, 0));
}

#[rstest]
#[case::of_a_file(Adapter::Sqlite, "DROP INDEX view_tasks_4_1_by_3")]
#[case::of_a_database(
    Adapter::Postgres,
    "DO $$ BEGIN EXECUTE 'DROP INDEX ' || (SELECT min(indexname) FROM pg_indexes \
    WHERE schemaname = current_schema() AND tablename = 'view_tasks_4_1' AND indexname NOT LIKE '%pkey'); END $$"
)]
#[tokio::test]
async fn an_index_that_was_dropped_is_told_of(#[case] adapter: Adapter, #[case] damage: &str) {
    let world = adapter.world().await;
    let (_, projector) = large_tasks(&world, 1).await;
    world.store.make_live(projector.table(), 1).await.unwrap();
    assert_eq!(compared(&world).await.0.lost_indexes, 0);
    world.tamper(damage).await;
    let (comparison, _) = compared(&world).await;
    assert_eq!((comparison.lost_indexes, comparison.findings.differing, comparison.unreadable), (1, 0, None));
}
