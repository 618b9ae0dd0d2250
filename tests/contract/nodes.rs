//! What stands beside the log in its database, empty, as two nodes see it.
use marvin::{log::sqlite::SqliteLog, postgres::Postgres, sqlite};
use std::sync::Arc;

use super::postgres::Database;

pub enum Adapter {
    Sqlite,
    Postgres,
}

/// A file has one process, so there both are the same.
pub struct Nodes<S: ?Sized> {
    _directory: Option<tempfile::TempDir>,
    pub nodes: [Arc<S>; 2],
}

impl Adapter {
    pub async fn nodes<S: ?Sized>(
        &self,
        on_sqlite: impl FnOnce(sqlite::Database) -> Arc<S>,
        on_postgres: impl Fn(Postgres) -> Arc<S>,
    ) -> Nodes<S> {
        match self {
            Self::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let log = SqliteLog::open(&directory.path().join("log.db")).unwrap();
                let one = on_sqlite(log.database().clone());
                Nodes { _directory: Some(directory), nodes: [one.clone(), one] }
            }
            Self::Postgres => {
                let database = Database::shared();
                let (one, other) = (database.prepare().await, database.prepare().await);
                Nodes { _directory: None, nodes: [on_postgres(one), on_postgres(other)] }
            }
        }
    }
}
