//! What every store of a log's histories promises: one from the first moment, another one for each draw, the newest named.
use marvin::log::{
    checkpoint::Checkpoint,
    incarnation::{Incarnations, sqlite::SqliteIncarnations},
    sqlite::SqliteLog,
};
use rstest::rstest;
use std::sync::Arc;
use uuid::Uuid;

struct Subject {
    directory: tempfile::TempDir,
    incarnations: Arc<dyn Incarnations>,
}

fn sqlite_in(directory: tempfile::TempDir) -> Subject {
    let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
    Subject { directory, incarnations: Arc::new(SqliteIncarnations(log.database().clone())) }
}

fn sqlite() -> Subject {
    sqlite_in(tempfile::tempdir().unwrap())
}

impl Subject {
    fn reopen(self) -> Self {
        let Self { directory, incarnations } = self;
        drop(incarnations);
        sqlite_in(directory)
    }
}

#[rstest]
#[case::sqlite(sqlite())]
#[tokio::test]
async fn a_log_has_a_history_from_the_first_moment_and_another_one_after_each_draw(#[case] subject: Subject) {
    let first = subject.incarnations.newest().await.unwrap();
    assert_eq!(first.behind, Checkpoint::START);
    assert!((chrono::Utc::now() - first.drawn_at).num_hours() == 0, "{first:?}");
    let subject = subject.reopen();
    assert_eq!(subject.incarnations.newest().await.unwrap(), first, "opening draws none");
    let behind = Checkpoint { position: 9, event_id: Uuid::now_v7() };
    let (second, third) =
        (subject.incarnations.draw(behind).await.unwrap(), subject.incarnations.draw(behind).await.unwrap());
    assert_eq!((second.behind, third.behind), (behind, behind));
    assert_eq!(std::collections::BTreeSet::from([first.id, second.id, third.id]).len(), 3);
    assert_eq!(subject.reopen().incarnations.newest().await.unwrap(), third);
    assert_ne!(sqlite().incarnations.newest().await.unwrap().id, first.id, "no two logs share one");
}

#[tokio::test]
async fn a_history_is_never_rewritten_in_sqlite() {
    let subject = sqlite();
    let connection = rusqlite::Connection::open(subject.directory.path().join("log.db")).unwrap();
    for statement in ["UPDATE incarnations SET position = 7", "DELETE FROM incarnations"] {
        assert!(connection.execute_batch(statement).unwrap_err().to_string().contains("append-only"), "{statement}");
    }
}
