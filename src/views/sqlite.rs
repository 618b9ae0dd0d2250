//! Views in one SQLite file that may be deleted at any time.
use async_trait::async_trait;
use marvin_projections::Key;
use rusqlite::{
    Connection, OptionalExtension, Row, ToSql, params, params_from_iter,
    types::{ToSqlOutput, Value, ValueRef},
};
use std::path::Path;
use uuid::Uuid;

use super::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, SealedDocument, ViewError, ViewId, ViewStore};
use crate::{
    log::checkpoint::{
        Checkpoint,
        sqlite::{checkpoint_at, kept},
    },
    sqlite::{Database, Durability, Inspected, OpenError},
    store::StoreError,
};

mod migrations {
    refinery::embed_migrations!("migrations/sqlite/views");
}

#[derive(Debug, Clone)]
pub struct SqliteViews {
    database: Database,
}

impl SqliteViews {
    /// Opens `views.db`, or makes it.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is then left as it is, and may be deleted.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::prepare(Self::inspect(path)?)
    }

    /// Opens `views.db` without writing to it.
    ///
    /// # Errors
    /// See [`Inspected::open`].
    pub fn inspect(path: &Path) -> Result<Inspected, OpenError> {
        Inspected::open(path, Durability::Crash, migrations::migrations::runner())
    }

    /// The tables of views in a file that was only looked at, each with its checkpoint.
    ///
    /// # Errors
    /// See [`Inspected::look`].
    pub fn kept(inspected: &Inspected) -> Result<Vec<(String, Checkpoint)>, OpenError> {
        kept(inspected, "view")
    }

    /// Drops the table of a view with its checkpoint, as [`kept`](Self::kept) names it: the log builds it anew.
    ///
    /// # Errors
    /// When the store cannot be reached; then both still stand.
    pub async fn forget(&self, table: &str) -> Result<(), StoreError> {
        let table = table.to_owned();
        self.database
            .write(move |connection| {
                connection.execute("DELETE FROM checkpoints WHERE view = ?1", [&table])?;
                connection.execute_batch(&format!("DROP TABLE IF EXISTS \"{}\"", table.replace('"', "\"\"")))?;
                Ok(())
            })
            .await
    }

    /// # Errors
    /// See [`Inspected::prepare`].
    pub fn prepare(inspected: Inspected) -> Result<Self, OpenError> {
        Ok(Self { database: inspected.prepare()? })
    }

    /// The file.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

/// A projection's name and fields are constants of the program, so they may stand in SQL.
fn table(view: ViewId) -> String {
    format!("view_{}_{}", view.name, view.version)
}

fn columns(view: ViewId) -> String {
    view.fields.iter().map(|field| format!(", \"{field}\"")).collect()
}

/// A UUID as the 16 bytes it is stored as.
fn blob(id: Uuid) -> Value {
    Value::Blob(id.as_bytes().to_vec())
}

struct Stored<'a>(&'a Key);

impl ToSql for Stored<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Key::Text(text) => ValueRef::Text(text.as_bytes()),
            Key::Integer(number) => ValueRef::Integer(*number),
            Key::Null => ValueRef::Null,
        }))
    }
}

fn value(key: &Key) -> Value {
    match key {
        Key::Text(text) => Value::Text(text.clone()),
        Key::Integer(number) => Value::Integer(*number),
        Key::Null => Value::Null,
    }
}

#[async_trait]
impl ViewStore for SqliteViews {
    async fn ensure(&self, view: ViewId) -> Result<(), ViewError> {
        let (table, columns) = (table(view), columns(view));
        self.database
            .write(move |connection| {
                // The body stands last: a field behind it would be read through all of its pages.
                let mut sql = format!(
                    "CREATE TABLE IF NOT EXISTS {table} \
                     (id BLOB PRIMARY KEY, position INTEGER NOT NULL{columns}, body BLOB NOT NULL) WITHOUT ROWID;"
                );
                for index in view.indexes {
                    let (name, fields) = (index.join("_and_"), index.join("\", \""));
                    sql += &format!("CREATE INDEX IF NOT EXISTS {table}_by_{name} ON {table} (\"{fields}\", id);");
                }
                Ok(connection.execute_batch(&sql).map_err(StoreError::from)?)
            })
            .await
    }

    async fn checkpoint(&self, view: ViewId) -> Result<Option<Checkpoint>, ViewError> {
        self.database
            .read(move |connection| {
                let found = connection
                    .prepare_cached("SELECT position, event_id FROM checkpoints WHERE view = ?1")
                    .and_then(|mut select| select.query_row([table(view)], |row| checkpoint_at(row, 0)).optional());
                Ok(found.map_err(StoreError::from)?)
            })
            .await
    }

    async fn load(&self, view: ViewId, ids: &[Uuid]) -> Result<Vec<SealedDocument>, ViewError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| {
                let sql = format!("SELECT id, position, body{} FROM {} WHERE id = ?1", columns(view), table(view));
                let mut statement = connection.prepare_cached(&sql).map_err(StoreError::from)?;
                let mut found = Vec::with_capacity(ids.len());
                for id in ids {
                    let row = statement.query_row([blob(id)], |row| document(row, view)).optional();
                    found.extend(row.map_err(StoreError::from)?);
                }
                Ok(found)
            })
            .await
    }

    async fn store(
        &self,
        view: ViewId,
        documents: Vec<SealedDocument>,
        checkpoint: Checkpoint,
    ) -> Result<(), ViewError> {
        self.database
            .write(move |connection| Ok(store(connection, view, &documents, checkpoint).map_err(StoreError::from)?))
            .await
    }

    async fn list(&self, view: ViewId, query: ListQuery) -> Result<Vec<SealedDocument>, ViewError> {
        let (mut clauses, mut values) = conditions(view, &query.filters)?;
        if let Some(before) = query.before {
            values.push(blob(before));
            clauses.push(format!("id < ?{}", values.len()));
        }
        let order = match query.order {
            Order::Newest => "id DESC".to_owned(),
            Order::HighestThenOldest(field) => format!("\"{}\" DESC, id", known(view, field)?),
        };
        let sql = format!(
            "SELECT id, position, body{} FROM {}{} ORDER BY {order} LIMIT {}",
            columns(view),
            table(view),
            where_clause(&clauses),
            query.limit.clamp(1, PAGE_DOCUMENTS_MAX),
        );
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).map_err(StoreError::from)?;
                let rows = statement
                    .query_map(params_from_iter(values), |row| document(row, view))
                    .map_err(StoreError::from)?;
                Ok(rows.collect::<rusqlite::Result<_>>().map_err(StoreError::from)?)
            })
            .await
    }

    async fn count(&self, view: ViewId, filters: Vec<Filter>) -> Result<u64, ViewError> {
        let (clauses, values) = conditions(view, &filters)?;
        let sql = format!("SELECT count(*) FROM {}{}", table(view), where_clause(&clauses));
        self.database
            .read(move |connection| {
                let count: i64 = connection
                    .prepare_cached(&sql)
                    .and_then(|mut statement| statement.query_row(params_from_iter(values), |row| row.get(0)))
                    .map_err(StoreError::from)?;
                Ok(count.cast_unsigned())
            })
            .await
    }
}

fn store(
    connection: &Connection,
    view: ViewId,
    documents: &[SealedDocument],
    checkpoint: Checkpoint,
) -> rusqlite::Result<()> {
    let places: String = (0..view.fields.len()).map(|index| format!(", ?{}", index + 4)).collect();
    let sql = format!(
        "INSERT OR REPLACE INTO {} (id, position, body{}) VALUES (?1, ?2, ?3{places})",
        table(view),
        columns(view)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    for document in documents {
        let (id, position) = (blob(document.id), document.position.cast_signed());
        let keys: Vec<Stored<'_>> = document.keys.iter().map(Stored).collect();
        let mut values: Vec<&dyn ToSql> = vec![&id, &position, &document.body];
        values.extend(keys.iter().map(|key| key as &dyn ToSql));
        statement.execute(values.as_slice())?;
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO checkpoints (view, position, event_id) VALUES (?1, ?2, ?3)")?
        .execute(params![table(view), checkpoint.position.cast_signed(), checkpoint.event_id.as_bytes()])?;
    Ok(())
}

fn known(view: ViewId, field: &'static str) -> Result<&'static str, ViewError> {
    if view.fields.contains(&field) { Ok(field) } else { Err(ViewError::UnknownField(field)) }
}

fn conditions(view: ViewId, filters: &[Filter]) -> Result<(Vec<String>, Vec<Value>), ViewError> {
    let (mut clauses, mut values) = (Vec::new(), Vec::new());
    for filter in filters {
        match filter {
            Filter::In(field, keys) => {
                let first = values.len() + 1;
                values.extend(keys.iter().map(value));
                let places: Vec<String> = (first..=values.len()).map(|index| format!("?{index}")).collect();
                clauses.push(format!("\"{}\" IN ({})", known(view, field)?, places.join(", ")));
            }
            Filter::AtMost(field, bound) => {
                values.push(Value::Integer(*bound));
                clauses.push(format!("\"{}\" <= ?{}", known(view, field)?, values.len()));
            }
        }
    }
    Ok((clauses, values))
}

fn where_clause(clauses: &[String]) -> String {
    if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) }
}

fn document(row: &Row<'_>, view: ViewId) -> rusqlite::Result<SealedDocument> {
    let id: Vec<u8> = row.get(0)?;
    let id = Uuid::from_slice(&id).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error.to_string().into())
    })?;
    let keys = (0..view.fields.len())
        .map(|index| {
            Ok(match row.get::<_, Value>(index + 3)? {
                Value::Text(text) => Key::Text(text),
                Value::Integer(number) => Key::Integer(number),
                _ => Key::Null,
            })
        })
        .collect::<rusqlite::Result<_>>()?;
    Ok(SealedDocument { id, position: row.get::<_, i64>(1)?.cast_unsigned(), body: row.get(2)?, keys })
}
