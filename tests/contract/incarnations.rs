//! What every store of a log's histories promises: one from the first moment, another one for each draw, the newest named.
use marvin::log::{
    checkpoint::Checkpoint,
    incarnation::{Incarnations, postgres::PostgresIncarnations, sqlite::SqliteIncarnations},
    sqlite::SqliteLog,
};
use rstest::rstest;
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

use super::postgres::Database;

enum Adapter {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

fn sqlite() -> Adapter {
    Adapter::Sqlite(tempfile::tempdir().unwrap())
}

fn postgres() -> Adapter {
    Adapter::Postgres(Database::shared())
}

impl Adapter {
    /// As after a restart, from the second time on.
    async fn open(&self) -> Arc<dyn Incarnations> {
        match self {
            Self::Sqlite(directory) => {
                let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
                Arc::new(SqliteIncarnations(log.database().clone()))
            }
            Self::Postgres(database) => Arc::new(PostgresIncarnations(database.prepare().await)),
        }
    }

    /// The words in which a statement of somebody else is refused.
    async fn refusal(&self, statement: &str) -> String {
        match self {
            Self::Sqlite(directory) => {
                let connection = rusqlite::Connection::open(directory.path().join("log.db")).unwrap();
                connection.execute_batch(statement).unwrap_err().to_string()
            }
            Self::Postgres(database) => {
                let refused = database.stranger().await.batch_execute(statement).await.unwrap_err();
                refused.as_db_error().unwrap().message().to_owned()
            }
        }
    }
}

#[rstest]
#[case::sqlite(sqlite(), sqlite())]
#[case::postgres(postgres(), postgres())]
#[tokio::test]
async fn a_log_has_a_history_from_the_first_moment_and_another_one_after_each_draw(
    #[case] adapter: Adapter,
    #[case] other: Adapter,
) {
    let incarnations = adapter.open().await;
    let first = incarnations.newest().await.unwrap();
    assert_eq!(first.behind, Checkpoint::START);
    assert!((chrono::Utc::now() - first.drawn_at).num_hours() == 0, "{first:?}");
    drop(incarnations);
    let incarnations = adapter.open().await;
    assert_eq!(incarnations.newest().await.unwrap(), first, "opening draws none");
    let behind = Checkpoint { position: 9, event_id: Uuid::now_v7() };
    let (second, third) = (incarnations.draw(behind).await.unwrap(), incarnations.draw(behind).await.unwrap());
    assert_eq!((second.behind, third.behind), (behind, behind));
    assert_eq!(BTreeSet::from([first.id, second.id, third.id]).len(), 3);
    drop(incarnations);
    assert_eq!(adapter.open().await.newest().await.unwrap(), third);
    assert_ne!(other.open().await.newest().await.unwrap().id, first.id, "no two logs share one");
}

/// There is no other statement that would call no trigger of deletions.
#[tokio::test]
async fn a_history_in_a_file_is_never_replaced() {
    let adapter = sqlite();
    let first = adapter.open().await.newest().await.unwrap();
    for statement in [
        "INSERT OR REPLACE INTO incarnations SELECT id, 7, event_id, drawn_at FROM incarnations",
        "REPLACE INTO incarnations (rowid, id, position, event_id, drawn_at) \
         SELECT rowid, randomblob(16), 7, event_id, drawn_at FROM incarnations",
    ] {
        assert!(adapter.refusal(statement).await.contains("append-only"), "{statement}");
    }
    assert_eq!(adapter.open().await.newest().await.unwrap(), first);
}

#[rstest]
#[case::sqlite(sqlite())]
#[case::postgres(postgres())]
#[tokio::test]
async fn a_history_is_never_rewritten(#[case] adapter: Adapter) {
    drop(adapter.open().await);
    for statement in ["UPDATE incarnations SET position = 7", "DELETE FROM incarnations"] {
        assert!(adapter.refusal(statement).await.contains("append-only"), "{statement}");
    }
}
