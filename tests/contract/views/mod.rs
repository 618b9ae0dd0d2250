//! What every view store promises: a registry of tables, one writer a table, documents and checkpoint together, lists by index.
use marvin::{
    log::checkpoint::Checkpoint,
    views::{
        Filter, ListQuery, Order, SealedDocument, State, Table, TableRow, ViewId, ViewStore, postgres::PostgresViews,
        sqlite::SqliteViews,
    },
};
use marvin_projections::{Field, Key};
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

use super::{postgres::Database, wait::DEADLINE};

mod documents;
mod dropping;
mod fencing;
mod lists;
mod plans;
mod registry;
mod shared;
mod weather;

const FIELDS: &[Field] = &[
    Field::text("kind"),
    Field::integer("rank"),
    Field::id("owner").rare(),
    Field::time("due_at"),
    Field::flag("unread"),
];
const VIEW: ViewId = ViewId {
    name: "things",
    version: 1,
    fields: FIELDS,
    indexes: &[&["kind", "rank"], &["kind"], &["rank"], &["owner", "unread"]],
};
/// The same projection, of a program that knows it otherwise.
const NEXT: ViewId = ViewId {
    version: 2,
    fields: const { &[Field::id("owner"), Field::text("colour")] },
    indexes: &[&["colour"]],
    ..VIEW
};

#[derive(Debug, Clone, Copy)]
enum Adapter {
    Sqlite,
    Postgres,
}

/// An empty store.
struct Subject {
    store: Arc<dyn ViewStore>,
    at: Place,
}

/// Where it is, for who changes it from outside.
enum Place {
    Directory(tempfile::TempDir),
    Database(Database),
}

impl Adapter {
    async fn subject(self) -> Subject {
        match self {
            Self::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let store = Arc::new(SqliteViews::open(&directory.path().join("views.db")).unwrap());
                Subject { store, at: Place::Directory(directory) }
            }
            Self::Postgres => {
                let database = Database::shared();
                let store = Arc::new(PostgresViews::new(database.prepare().await));
                Subject { store, at: Place::Database(database) }
            }
        }
    }
}

/// What the writer of these tests writes under.
const TOKEN: u64 = 7;

impl Subject {
    /// A table that is being built, taken over by the writer.
    async fn begun(&self, view: ViewId) -> Table {
        let table = self.store.begin(view, 0).await.unwrap().table;
        self.store.take_over(&table, TOKEN).await.unwrap();
        table
    }

    async fn live(&self, view: ViewId) -> Table {
        let table = self.begun(view).await;
        self.store.make_live(&table, TOKEN).await.unwrap();
        table
    }

    async fn put(&self, table: &Table, documents: Vec<SealedDocument>, position: u64) {
        self.store.store(table, documents, at(position), TOKEN).await.unwrap();
    }

    /// Changes the tables as somebody who knows nothing of Marvin.
    async fn tamper(&self, sqlite: &str, postgres: &str) {
        match &self.at {
            Place::Directory(directory) => {
                let connection = rusqlite::Connection::open(directory.path().join("views.db")).unwrap();
                connection.busy_timeout(DEADLINE).unwrap();
                connection.execute_batch(sqlite).unwrap();
            }
            Place::Database(database) => database.views_stranger().await.batch_execute(postgres).await.unwrap(),
        }
    }

    /// The table's line; none when it is not in the registry.
    async fn row(&self, table: &Table) -> Option<TableRow> {
        self.store.tables().await.unwrap().into_iter().find(|row| row.table == *table)
    }

    /// What stands in the registry, in its order.
    async fn states(&self) -> Vec<(String, State)> {
        let rows = self.store.tables().await.unwrap();
        rows.into_iter().map(|row| (row.table.to_string(), row.state)).collect()
    }

    async fn all(&self, table: &Table) -> Vec<SealedDocument> {
        self.store.list(table, newest(Vec::new(), None, 1_000)).await.unwrap().documents
    }
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A document of [`VIEW`] at position 1.
fn document(number: u128, kind: &str, rank: i64) -> SealedDocument {
    let owner = id(number % 2);
    let keys =
        vec![kind.into(), rank.into(), owner.into(), Key::Integer(rank.saturating_mul(1_000)), (rank > 0).into()];
    SealedDocument { id: id(number), position: 1, body: vec![1, 2, 3], keys }
}

fn at(position: u64) -> Checkpoint {
    Checkpoint { position, event_id: Uuid::from_u128(u128::from(position) << 64) }
}

fn newest(filters: Vec<Filter>, before: Option<u128>, limit: u32) -> ListQuery {
    ListQuery { filters, order: Order::Newest, before: before.map(id), limit }
}

fn numbers(documents: &[SealedDocument]) -> Vec<u128> {
    documents.iter().map(|document| document.id.as_u128()).collect()
}
