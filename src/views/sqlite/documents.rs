//! Documents in their tables.
use marvin_projections::{FieldKind, Key};
use rusqlite::{
    Connection, OptionalExtension, Row, ToSql, params_from_iter,
    types::{ToSqlOutput, Type, ValueRef},
};
use uuid::Uuid;

use super::{DIALECT, Found, PAGE_BYTES_MAX, SealedDocument, Table, sql};

/// A key as it is stored.
struct Stored<'a>(&'a Key);

impl ToSql for Stored<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Key::Id(id) => ValueRef::Blob(id.as_bytes()),
            Key::Text(text) => ValueRef::Text(text.as_bytes()),
            Key::Integer(number) => ValueRef::Integer(*number),
            Key::Null => ValueRef::Null,
        }))
    }
}

pub fn load(connection: &Connection, table: &Table, ids: &[Uuid]) -> rusqlite::Result<Vec<SealedDocument>> {
    let sql = format!("SELECT {} FROM {} WHERE id = ?1", sql::columns(table), DIALECT.name_of(table));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(statement.query_row([id.as_bytes().as_slice()], |row| document(row, table)).optional()?);
    }
    Ok(found)
}

pub fn store(connection: &Connection, table: &Table, documents: &[SealedDocument]) -> rusqlite::Result<()> {
    let (name, fields) = (DIALECT.name_of(table), sql::field_columns(table));
    let places: String = (0..table.fields.len()).map(|index| format!(", ?{}", index + 4)).collect();
    let changed: String = table
        .fields
        .iter()
        .map(|field| sql::quoted(&field.name))
        .map(|field| format!(", {field} = excluded.{field}"))
        .collect();
    let sql = format!(
        "INSERT INTO {name} (id, position, body{fields}) VALUES (?1, ?2, ?3{places}) \
         ON CONFLICT (id) DO UPDATE SET position = excluded.position, body = excluded.body{changed} \
         WHERE position < excluded.position"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    for document in documents {
        let (id, position) = (document.id.as_bytes().as_slice(), document.position.cast_signed());
        let keys: Vec<Stored<'_>> = document.keys.iter().map(Stored).collect();
        let mut values: Vec<&dyn ToSql> = vec![&id, &position, &document.body];
        values.extend(keys.iter().map(|key| key as &dyn ToSql));
        statement.execute(values.as_slice())?;
    }
    Ok(())
}

/// At most `asked`, and whether some were left off for their bytes. Without a statement nothing is asked for.
pub fn list(
    connection: &Connection,
    table: &Table,
    statement: Option<sql::Statement>,
    asked: usize,
) -> rusqlite::Result<(Vec<SealedDocument>, bool)> {
    let Some(sql::Statement { sql, values }) = statement else { return Ok((Vec::new(), false)) };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values.iter().map(|(_, key)| Stored(key))))?;
    let (mut listed, mut bytes) = (Vec::new(), 0);
    while listed.len() < asked
        && let Some(row) = rows.next()?
    {
        let document = document(row, table)?;
        bytes += document.body.len();
        if bytes > PAGE_BYTES_MAX && !listed.is_empty() {
            return Ok((listed, true));
        }
        listed.push(document);
    }
    Ok((listed, false))
}

/// As [`list`], by ids.
pub fn find(connection: &Connection, statement: Option<sql::Statement>, asked: usize) -> rusqlite::Result<Vec<Found>> {
    let Some(sql::Statement { sql, values }) = statement else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(&sql)?;
    let is_sorted = statement.column_count() > 1;
    let values = values.iter().map(|(_, key)| Stored(key));
    let found = statement.query_map(params_from_iter(values), |row| {
        Ok(Found { id: id(row.get_ref(0)?, 0)?, sorted_by: if is_sorted { row.get(1)? } else { None } })
    })?;
    found.take(asked).collect()
}

fn document(row: &Row<'_>, table: &Table) -> rusqlite::Result<SealedDocument> {
    let keys = (3..).zip(table.fields.iter()).map(|(column, field)| key(row, column, field.kind));
    Ok(SealedDocument {
        id: id(row.get_ref(0)?, 0)?,
        position: row.get::<_, i64>(1)?.cast_unsigned(),
        body: row.get(2)?,
        keys: keys.collect::<rusqlite::Result<_>>()?,
    })
}

fn key(row: &Row<'_>, column: usize, kind: FieldKind) -> rusqlite::Result<Key> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Key::Null,
        value if kind == FieldKind::Id => Key::Id(id(value, column)?),
        _ if kind == FieldKind::Text => Key::Text(row.get(column)?),
        _ => Key::Integer(row.get(column)?),
    })
}

fn id(value: ValueRef<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let bytes = value.as_blob()?;
    Uuid::from_slice(bytes).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into()))
}
