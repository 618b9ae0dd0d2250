//! The reference of a rebuild: the pure fold over events that are decoded already, and plain JSON upserted in the same batches into
//! tables of the same columns and indexes. No log is read, nothing is sealed, no checkpoint is kept, nothing is read back.
use marvin::views::{
    Table, ViewId,
    projector::CATCH_UP_EVENTS,
    sql::{index_columns, where_of_index},
};
use marvin_domain::Envelope;
use marvin_projections::{Field, FieldKind, Fold, Key, RawDocument, Skips};
use rusqlite::{Connection, types::Value};
use std::{path::Path, sync::Arc, time::Instant};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::server::connect;

/// Where a bare loop writes documents.
pub trait Tables {
    /// Makes the projection's table anew.
    fn make(&mut self, fold: &dyn Fold);
    /// Inserts or replaces documents in one transaction.
    fn upsert(&mut self, fold: &dyn Fold, documents: &[RawDocument]);
    fn count(&mut self, fold: &dyn Fold) -> u64;
}

/// Seconds to fold and write it all, and how many documents each table has then.
pub fn rebuild(tables: &mut dyn Tables, events: &[Arc<Envelope>]) -> (f64, Vec<u64>) {
    let folds = marvin_projections::all();
    folds.iter().for_each(|fold| tables.make(&**fold));
    let start = Instant::now();
    for fold in &folds {
        // It keeps every document, so that none has to be loaded.
        let mut lane = fold.lane(usize::MAX);
        let is_of_concern = |event: &&Arc<Envelope>| fold.kinds().contains(&event.stream.kind);
        let of_concern: Vec<_> = events.iter().filter(is_of_concern).cloned().collect();
        for batch in of_concern.chunks(CATCH_UP_EVENTS) {
            let plan = fold.plan(batch, &Skips::default(), 1);
            let documents = lane.fold(Vec::new(), &plan.lanes[0]).expect("every event can be folded");
            tables.upsert(&**fold, &documents);
            lane.keep();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    (seconds, folds.iter().map(|fold| tables.count(&**fold)).collect())
}

fn body(document: &RawDocument) -> Vec<u8> {
    [document.facts.as_slice(), document.personal.as_deref().unwrap_or_default()].concat()
}

/// `CREATE TABLE` and its indexes, as the view stores have them.
fn create(fold: &dyn Fold, id: &str, bytes: &str, column_type: fn(FieldKind) -> &'static str) -> String {
    let (name, is_sqlite) = (fold.name(), id == "BLOB");
    let table = Table::of(ViewId::of(fold), 1);
    let end = if is_sqlite { " WITHOUT ROWID" } else { "" };
    let column = |field: &Field| format!(", {} {}", field.name, column_type(field.kind));
    let columns: String = fold.fields().iter().map(column).collect();
    let mut sql = format!(
        "DROP TABLE IF EXISTS bare_{name}; \
         CREATE TABLE bare_{name} (id {id} PRIMARY KEY, position bigint NOT NULL{columns}, body {bytes} NOT NULL){end};"
    );
    for (number, fields) in table.indexes.iter().enumerate() {
        let key = if is_sqlite { format!("{} DESC", fields.join(", ")) } else { index_columns(&table, fields) };
        let condition = where_of_index(&table, fields);
        sql += &format!("CREATE INDEX bare_{name}_{number} ON bare_{name} ({key}, id){condition};");
    }
    sql
}

fn replaced(fold: &dyn Fold) -> String {
    fold.fields().iter().map(|field| format!(", {0} = excluded.{0}", field.name)).collect()
}

fn names(fold: &dyn Fold) -> String {
    fold.fields().iter().map(|field| format!(", {}", field.name)).collect()
}

pub struct InSqlite(Connection);

impl InSqlite {
    pub fn create(path: &Path) -> Self {
        let connection = Connection::open(path).expect("a new file opens");
        connection.pragma_update(None, "journal_mode", "WAL").expect("a setting");
        connection.pragma_update(None, "synchronous", "NORMAL").expect("a setting");
        Self(connection)
    }
}

impl Tables for InSqlite {
    fn make(&mut self, fold: &dyn Fold) {
        let column = |kind| match kind {
            FieldKind::Id => "BLOB",
            FieldKind::Text => "TEXT",
            FieldKind::Integer | FieldKind::Time | FieldKind::Flag => "INTEGER",
        };
        self.0.execute_batch(&create(fold, "BLOB", "BLOB", column)).expect("a new table");
    }

    fn upsert(&mut self, fold: &dyn Fold, documents: &[RawDocument]) {
        let places: String = (4..).take(fold.fields().len()).map(|place| format!(", ?{place}")).collect();
        let sql = format!(
            "INSERT INTO bare_{} (id, position, body{}) VALUES (?1, ?2, ?3{places}) \
             ON CONFLICT (id) DO UPDATE SET position = excluded.position, body = excluded.body{}",
            fold.name(),
            names(fold),
            replaced(fold)
        );
        let transaction = self.0.transaction().expect("nobody else writes");
        let mut statement = transaction.prepare_cached(&sql).expect("the table is there");
        for document in documents {
            let mut values = vec![
                Value::Blob(document.id.as_bytes().to_vec()),
                Value::Integer(document.position.cast_signed()),
                Value::Blob(body(document)),
            ];
            values.extend(document.keys.iter().map(|key| match key {
                Key::Id(id) => Value::Blob(id.as_bytes().to_vec()),
                Key::Text(text) => Value::Text(text.clone()),
                Key::Integer(number) => Value::Integer(*number),
                Key::Null => Value::Null,
            }));
            statement.execute(rusqlite::params_from_iter(values)).expect("it fits the table");
        }
        drop(statement);
        transaction.commit().expect("nobody else writes");
    }

    fn count(&mut self, fold: &dyn Fold) -> u64 {
        let sql = format!("SELECT count(*) FROM bare_{}", fold.name());
        self.0.query_row(&sql, [], |row| row.get::<_, i64>(0)).expect("it is readable").cast_unsigned()
    }
}

/// One connection with one thread to itself, so that no answer waits for another thread to wake.
pub struct InPostgres {
    runtime: Runtime,
    client: Client,
}

impl InPostgres {
    pub fn connect(schema: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let client = runtime.block_on(async {
            let client = connect(schema).await;
            // As the view store commits: what a crash takes back is made again.
            client.batch_execute("SET synchronous_commit = off").await.expect("a setting");
            client
        });
        Self { runtime, client }
    }
}

fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Id => "uuid",
        FieldKind::Text => "text",
        FieldKind::Integer | FieldKind::Time | FieldKind::Flag => "bigint",
    }
}

#[derive(Debug)]
struct Parameter<'a>(&'a Key);

impl ToSql for Parameter<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self.0 {
            Key::Id(id) => id.to_sql(ty, out),
            Key::Text(text) => text.to_sql(ty, out),
            Key::Integer(number) => number.to_sql(ty, out),
            Key::Null => Ok(tokio_postgres::types::IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

impl Tables for InPostgres {
    fn make(&mut self, fold: &dyn Fold) {
        let sql = create(fold, "uuid", "bytea", column_type);
        self.runtime.block_on(self.client.batch_execute(&sql)).expect("a new table");
    }

    fn upsert(&mut self, fold: &dyn Fold, documents: &[RawDocument]) {
        let array = |(field, place): (&Field, usize)| format!(", ${place}::{}[]", column_type(field.kind));
        let arrays: String = fold.fields().iter().zip(4..).map(array).collect();
        let sql = format!(
            "INSERT INTO bare_{} (id, position, body{}) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]{arrays}) \
             ON CONFLICT (id) DO UPDATE SET position = excluded.position, body = excluded.body{}",
            fold.name(),
            names(fold),
            replaced(fold)
        );
        let ids: Vec<Uuid> = documents.iter().map(|document| document.id).collect();
        let positions: Vec<i64> = documents.iter().map(|document| document.position.cast_signed()).collect();
        let bodies: Vec<Vec<u8>> = documents.iter().map(body).collect();
        let of_field =
            |field| documents.iter().map(|document: &RawDocument| Parameter(&document.keys[field])).collect();
        let keys: Vec<Vec<Parameter<'_>>> = (0..fold.fields().len()).map(of_field).collect();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&ids, &positions, &bodies];
        values.extend(keys.iter().map(|keys| keys as &(dyn ToSql + Sync)));
        let statement = self.runtime.block_on(self.client.prepare(&sql)).expect("the table is there");
        self.runtime.block_on(self.client.execute(&statement, &values)).expect("it fits the table");
    }

    fn count(&mut self, fold: &dyn Fold) -> u64 {
        let sql = format!("SELECT count(*) FROM bare_{}", fold.name());
        let row = self.runtime.block_on(self.client.query_one(&sql, &[])).expect("it is readable");
        row.get::<_, i64>(0).cast_unsigned()
    }
}
