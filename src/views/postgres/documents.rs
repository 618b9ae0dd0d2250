//! Documents in their tables.
use bytes::BytesMut;
use marvin_domain::Position;
use marvin_projections::{Field, FieldKind, Key};
use std::error::Error;
use tokio_postgres::{
    Row,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use super::{Checkpoint, Found, PostgresViews, SealedDocument, StoreError, Table, ViewError, error_of, registry, sql};
use crate::postgres::Parameter;

/// A key as the statement's parameter.
#[derive(Debug)]
struct Stored<'a>(&'a Key);

impl ToSql for Stored<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Key::Id(id) => id.to_sql(ty, out),
            Key::Text(text) => text.to_sql(ty, out),
            Key::Integer(number) => number.to_sql(ty, out),
            Key::Null => Ok(IsNull::Yes),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::UUID, Type::TEXT, Type::INT8].contains(ty)
    }

    to_sql_checked!();
}

/// Without a statement nothing is asked for but the position.
pub async fn ask(
    views: &PostgresViews,
    table: &Table,
    statement: Option<sql::Statement>,
) -> Result<(Vec<Row>, Position), ViewError> {
    let Some(sql::Statement { sql, values }) = statement else {
        return views.read(table, "SELECT WHERE false", &[]).await;
    };
    let values: Vec<_> = values.iter().map(|(_, key)| Stored(key)).collect();
    let values: Vec<Parameter<'_>> = values.iter().map(|value| value as Parameter<'_>).collect();
    views.read(table, &sql, &values).await
}

/// One statement, and so one transaction. Answers whether it wrote: it does not unless `token` may, nor behind the checkpoint, nor
/// where the table does not stand as its writer left it.
///
/// It waits for whoever has the table's line, and then finds what that one left there: both the line and each document are looked
/// at as they are once they are locked.
pub async fn store(
    views: &PostgresViews,
    table: &Table,
    documents: &[SealedDocument],
    behind: Option<Position>,
    checkpoint: Checkpoint,
    token: u64,
) -> Result<bool, ViewError> {
    let (name, version, build) = registry::key(table);
    let (position, token) = (checkpoint.position.cast_signed(), token.cast_signed());
    let behind = behind.map(u64::cast_signed);
    let ids: Vec<_> = documents.iter().map(|document| document.id).collect();
    let positions: Vec<_> = documents.iter().map(|document| document.position.cast_signed()).collect();
    let bodies: Vec<_> = documents.iter().map(|document| document.body.as_slice()).collect();
    let keys: Vec<Vec<Stored<'_>>> = (0..table.fields.len())
        .map(|field| documents.iter().map(|document| Stored(&document.keys[field])).collect())
        .collect();
    let mut values: Vec<Parameter<'_>> =
        vec![&name, &version, &build, &token, &position, &checkpoint.event_id, &ids, &positions, &bodies, &behind];
    values.extend(keys.iter().map(|keys| keys as Parameter<'_>));
    let rows = views.postgres.query(&upsert(views, table), &values).await.map_err(error_of)?;
    Ok(rows[0].get(0))
}

fn upsert(views: &PostgresViews, table: &Table) -> String {
    let arrays: String = table
        .fields
        .iter()
        .zip(11..)
        .map(|(field, number)| format!(", ${number}::{}[]", sql::column_type(field.kind)))
        .collect();
    let changed: String = table
        .fields
        .iter()
        .map(|field| sql::quoted(&field.name))
        .map(|field| format!(", {field} = excluded.{field}"))
        .collect();
    let (name, fields) = (views.dialect().name_of(table), sql::field_columns(table));
    // A commit that a crash of the server takes back is made again: the checkpoint goes with it, and the writer does not go on where
    // it does not stand. So nobody waits for the disk.
    views.sql(&format!(
        "WITH moved AS ( \
             UPDATE $S.tables SET position = $5, event_id = $6, \
                 read_at = CASE state WHEN 'building' THEN clock_timestamp() ELSE read_at END \
             WHERE name = $1 AND version = $2 AND build = $3 AND token = $4 AND position <= $5 \
                 AND ($10::bigint IS NULL OR position = $10) \
                 AND state IN ('building', 'live') \
             RETURNING set_config('synchronous_commit', 'off', true) \
         ), written AS ( \
             INSERT INTO {name} AS d (id, position, body{fields}) \
             SELECT given.* FROM moved, unnest($7::uuid[], $8::bigint[], $9::bytea[]{arrays}) AS given \
             ON CONFLICT (id) DO UPDATE SET position = excluded.position, body = excluded.body{changed} \
             WHERE d.position < excluded.position \
         ) SELECT EXISTS (SELECT FROM moved)"
    ))
}

/// The documents of rows of [`sql::columns`] up to the first without a body, and whether there is one: that and all behind it are
/// too much for a page.
pub fn all(rows: &[Row], table: &Table) -> Result<(Vec<SealedDocument>, bool), StoreError> {
    let mut documents = Vec::with_capacity(rows.len());
    for row in rows {
        match document(row, table)? {
            Some(document) => documents.push(document),
            None => return Ok((documents, true)),
        }
    }
    Ok((documents, false))
}

fn document(row: &Row, table: &Table) -> Result<Option<SealedDocument>, tokio_postgres::Error> {
    let Some(body) = row.try_get(2)? else { return Ok(None) };
    let keys = (3..).zip(table.fields.iter()).map(|(column, field)| key(row, column, field));
    let (id, position) = (row.try_get(0)?, row.try_get::<_, i64>(1)?.cast_unsigned());
    Ok(Some(SealedDocument { id, position, body, keys: keys.collect::<Result<_, _>>()? }))
}

pub fn found(row: &Row) -> Result<Found, StoreError> {
    Ok(Found { id: row.try_get(0)?, sorted_by: if row.len() > 1 { row.try_get(1)? } else { None } })
}

fn key(row: &Row, column: usize, field: &Field) -> Result<Key, tokio_postgres::Error> {
    Ok(match field.kind {
        FieldKind::Id => row.try_get::<_, Option<_>>(column)?.map(Key::Id),
        FieldKind::Text => row.try_get::<_, Option<_>>(column)?.map(Key::Text),
        FieldKind::Integer | FieldKind::Time | FieldKind::Flag => {
            row.try_get::<_, Option<_>>(column)?.map(Key::Integer)
        }
    }
    .unwrap_or(Key::Null))
}
