//! What every store of checkpoints promises: what was kept comes back, with the event that stood there.
use marvin::log::{
    checkpoint::{Checkpoint, Checkpoints, postgres::PostgresCheckpoints, sqlite::SqliteCheckpoints},
    sqlite::SqliteLog,
};
use rstest::rstest;
use std::sync::Arc;
use uuid::Uuid;

use super::postgres::Database;

enum Adapter {
    Sqlite,
    Postgres,
}

struct Subject {
    _directory: Option<tempfile::TempDir>,
    checkpoints: Arc<dyn Checkpoints>,
}

impl Adapter {
    async fn checkpoints(&self) -> Subject {
        match self {
            Self::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
                let checkpoints = Arc::new(SqliteCheckpoints(log.database().clone()));
                Subject { _directory: Some(directory), checkpoints }
            }
            Self::Postgres => {
                let checkpoints = Arc::new(PostgresCheckpoints(Database::shared().prepare().await));
                Subject { _directory: None, checkpoints }
            }
        }
    }
}

#[rstest]
#[case::sqlite(Adapter::Sqlite)]
#[case::postgres(Adapter::Postgres)]
#[tokio::test]
async fn a_checkpoint_keeps_its_position_and_the_event_there_and_may_be_set_back(#[case] adapter: Adapter) {
    let subject = adapter.checkpoints().await;
    let checkpoints = &subject.checkpoints;
    assert_eq!(checkpoints.load("relay").await.unwrap(), None);
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    for checkpoint in [
        Checkpoint { position: 7, event_id: first },
        Checkpoint { position: 7, event_id: first },
        Checkpoint { position: 9, event_id: second },
        Checkpoint::START,
    ] {
        checkpoints.store("relay", checkpoint).await.unwrap();
        assert_eq!(checkpoints.load("relay").await.unwrap(), Some(checkpoint));
        assert_eq!(checkpoints.load("another").await.unwrap(), None);
    }
}
