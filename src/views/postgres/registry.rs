//! The registry: which tables there are, how far each came, and who may write to it.
use marvin_domain::Position;
use marvin_projections::Field;
use std::time::Duration;
use tokio_postgres::{Error, Row, Transaction};

use super::{
    ABSENCE_MIN, Checkpoint, PostgresViews, STATEMENT_TIMEOUT, State, Stopped, Table, TableRow, ViewError, ViewId,
    error_of, settle,
    sql::{column_type, index_columns, quoted, where_of_index},
};
/// What [`row`] reads.
const COLUMNS: &str = "name, version, build, fields, state, position, event_id, token, stopped_at, stopped_reason, begun_at, target, \
                       (extract(epoch FROM clock_timestamp() - read_at) * 1000)::bigint, indexes";
/// One table's line, by its [`key`].
const IS_TABLE: &str = "name = $1 AND version = $2 AND build = $3";
pub const POSITION: &str = "SELECT position FROM $S.tables WHERE name = $1 AND version = $2 AND build = $3";

/// What a table's line stands under.
pub fn key(table: &Table) -> (&str, i64, i64) {
    (&table.name, table.version.into(), table.build.into())
}

/// Every table.
pub fn tables() -> String {
    // In the order of bytes, whatever the database's collation is.
    format!("SELECT {COLUMNS} FROM $S.tables ORDER BY name COLLATE \"C\", version, build")
}

/// None when this program does not understand the line.
pub fn row(row: &Row) -> Option<TableRow> {
    let fields: Vec<Field> = serde_json::from_str(row.get(3)).ok()?;
    let indexes: Vec<Vec<String>> = serde_json::from_str(row.get(13)).ok()?;
    let number = |column| u32::try_from(row.get::<_, i64>(column)).ok();
    let (name, version, build) = (row.get(0), number(1)?, number(2)?);
    let table = Table { name, version, build, fields: fields.into(), indexes: indexes.into() };
    let stopped = row.get::<_, Option<i64>>(8).map(|position| Stopped {
        position: position.cast_unsigned(),
        reason: row.get::<_, Option<_>>(9).unwrap_or_default(),
    });
    Some(TableRow {
        table,
        state: State::parse(row.get(4))?,
        checkpoint: checkpoint(row, 5),
        token: row.get::<_, i64>(7).cast_unsigned(),
        stopped,
        begun_at: row.get(10),
        target: row.get::<_, i64>(11).cast_unsigned(),
        unread_for: Duration::from_millis(row.get::<_, i64>(12).max(0).cast_unsigned()),
    })
}

fn checkpoint(row: &Row, column: usize) -> Checkpoint {
    Checkpoint { position: row.get::<_, i64>(column).cast_unsigned(), event_id: row.get(column + 1) }
}

pub async fn begin(views: &PostgresViews, view: ViewId, target: Position) -> Result<TableRow, ViewError> {
    let mut client = views.postgres.client().await?;
    let beginning = async {
        let transaction = client.transaction().await?;
        let begun = begin_in(views, &transaction, view, target.cast_signed()).await?;
        transaction.commit().await?;
        Ok::<_, Error>(begun)
    };
    let answered = tokio::time::timeout(STATEMENT_TIMEOUT, beginning).await;
    settle(client, answered).map_err(error_of)?.ok_or(ViewError::Gone)
}

async fn begin_in(
    views: &PostgresViews,
    transaction: &Transaction<'_>,
    view: ViewId,
    target: i64,
) -> Result<Option<TableRow>, Error> {
    let (name, version) = (view.name, i64::from(view.version));
    // Who begins a table of this view waits here for others who do, and sees below what they began.
    let last = views.sql(
        "INSERT INTO $S.builds (name, version, last) VALUES ($1, $2, 0) \
         ON CONFLICT (name, version) DO UPDATE SET last = builds.last RETURNING last",
    );
    let last: i64 = transaction.query_one(&last, &[&name, &version]).await?.get(0);
    let unfinished = views.sql(&format!(
        "SELECT {COLUMNS} FROM $S.tables WHERE name = $1 AND version = $2 AND state IN ('building', 'cancelled') \
         ORDER BY state, build DESC LIMIT 1"
    ));
    let unfinished = transaction.query_opt(&unfinished, &[&name, &version]).await?.as_ref().and_then(row);
    let table = match unfinished {
        Some(building) if building.state == State::Building => return Ok(Some(building)),
        Some(cancelled) => cancelled.table,
        None => {
            let build = u32::try_from(last + 1).unwrap_or(u32::MAX);
            let table = Table::of(view, build);
            make(views, transaction, &table).await?;
            table
        }
    };
    let (name, version, build) = key(&table);
    let begun = views.sql(&format!(
        "UPDATE $S.tables SET state = 'building', begun_at = clock_timestamp(), target = $4, read_at = clock_timestamp() \
         WHERE {IS_TABLE} RETURNING {COLUMNS}"
    ));
    Ok(transaction.query_opt(&begun, &[&name, &version, &build, &target]).await?.as_ref().and_then(row))
}

/// Makes the table, and a line for it.
async fn make(views: &PostgresViews, transaction: &Transaction<'_>, table: &Table) -> Result<(), Error> {
    transaction.batch_execute(&definition(&views.dialect().name_of(table), table)).await?;
    let (name, version, build) = key(table);
    let count = views.sql("UPDATE $S.builds SET last = $3 WHERE name = $1 AND version = $2");
    transaction.execute(&count, &[&name, &version, &build]).await?;
    let insert = views.sql(
        "INSERT INTO $S.tables \
             (name, version, build, fields, indexes, state, position, event_id, token, begun_at, target, read_at) \
         VALUES ($1, $2, $3, $4, $5, 'building', 0, '00000000-0000-0000-0000-000000000000', 0, clock_timestamp(), 0, \
             clock_timestamp())",
    );
    let (fields, indexes) = table.described();
    transaction.execute(&insert, &[&name, &version, &build, &fields, &indexes]).await?;
    Ok(())
}

fn definition(name: &str, table: &Table) -> String {
    let columns: String =
        table.fields.iter().map(|field| format!(", {} {}", quoted(&field.name), column_type(field.kind))).collect();
    // What is sealed does not compress: trying would only cost time.
    let mut sql = format!(
        "CREATE TABLE {name} (id uuid PRIMARY KEY, position bigint NOT NULL{columns}, body bytea NOT NULL); \
         ALTER TABLE {name} ALTER COLUMN body SET STORAGE EXTERNAL;"
    );
    for index in &table.indexes[..] {
        // The server finds a name for the index that fits.
        sql +=
            &format!(" CREATE INDEX ON {name} ({}, id){};", index_columns(table, index), where_of_index(table, index));
    }
    sql
}

/// The token that stands on a table that may be written to, and how far it came.
pub async fn kept_up(views: &PostgresViews, table: &Table) -> Result<(u64, Position), ViewError> {
    let (name, version, build) = key(table);
    let sql = format!("SELECT state, token, position FROM $S.tables WHERE {IS_TABLE}");
    let rows = views.query(&sql, &[&name, &version, &build]).await?;
    match rows.first() {
        Some(row) if State::parse(row.get(0)).is_some_and(State::is_kept_up) => {
            Ok((row.get::<_, i64>(1).cast_unsigned(), row.get::<_, i64>(2).cast_unsigned()))
        }
        _ => Err(ViewError::Gone),
    }
}

pub async fn take_over(views: &PostgresViews, table: &Table, token: u64) -> Result<Checkpoint, ViewError> {
    let (name, version, build) = key(table);
    let sql = format!(
        "UPDATE $S.tables SET token = $4 WHERE {IS_TABLE} AND token <= $4 AND state IN ('building', 'live') \
         RETURNING position, event_id"
    );
    let taken = views.query(&sql, &[&name, &version, &build, &token.cast_signed()]).await?;
    match taken.first() {
        Some(row) => Ok(checkpoint(row, 0)),
        None => Err(kept_up(views, table).await.map_or_else(|error| error, |_| ViewError::Fenced)),
    }
}

pub async fn make_live(views: &PostgresViews, table: &Table, token: u64) -> Result<(), ViewError> {
    let (name, version, build) = key(table);
    let sql = "SELECT $S.make_live($1, $2, $3, $4)";
    let verdict = views.query(sql, &[&name, &version, &build, &token.cast_signed()]).await?;
    match verdict[0].get(0) {
        "yes" => Ok(()),
        "fenced" => Err(ViewError::Fenced),
        _ => Err(ViewError::Gone),
    }
}

pub async fn stop(views: &PostgresViews, table: &Table, token: u64, stopped: &Stopped) -> Result<(), ViewError> {
    let (name, version, build) = key(table);
    let (position, token) = (stopped.position.cast_signed(), token.cast_signed());
    let sql = format!(
        "UPDATE $S.tables SET stopped_at = $5, stopped_reason = $6 \
         WHERE {IS_TABLE} AND token = $4 AND state IN ('building', 'live') RETURNING token"
    );
    let done = views.query(&sql, &[&name, &version, &build, &token, &position, &stopped.reason]).await?;
    match done.is_empty() {
        false => Ok(()),
        true => Err(kept_up(views, table).await.map_or_else(|error| error, |_| ViewError::Fenced)),
    }
}

pub async fn resume(views: &PostgresViews, table: &Table) -> Result<(), ViewError> {
    change(views, table, &format!("UPDATE $S.tables SET stopped_at = NULL, stopped_reason = NULL WHERE {IS_TABLE}"))
        .await
}

pub async fn cancel(views: &PostgresViews, table: &Table) -> Result<(), ViewError> {
    let update = "UPDATE $S.tables SET state = 'cancelled', read_at = clock_timestamp()";
    change(views, table, &format!("{update} WHERE {IS_TABLE} AND state = 'building'")).await
}

pub async fn retire(views: &PostgresViews, table: &Table) -> Result<(), ViewError> {
    let update = "UPDATE $S.tables SET state = 'retired', read_at = clock_timestamp()";
    change(views, table, &format!("{update} WHERE {IS_TABLE} AND state IN ('building', 'cancelled')")).await
}

/// # Errors
/// `Gone` when it changes nothing.
async fn change(views: &PostgresViews, table: &Table, update: &str) -> Result<(), ViewError> {
    let (name, version, build) = key(table);
    let done = views.query(&format!("{update} RETURNING token"), &[&name, &version, &build]).await?;
    if done.is_empty() { Err(ViewError::Gone) } else { Ok(()) }
}

pub async fn lost_indexes(views: &PostgresViews, table: &Table) -> Result<u64, ViewError> {
    // Without the one of ids.
    let sql = "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid \
               WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relname = $2 AND indisvalid AND NOT indisprimary";
    let rows = views.query(sql, &[&views.schema, &table.to_string()]).await?;
    let there = rows.first().map_or(0, |row| row.get::<_, i64>(0)).unsigned_abs();
    Ok((table.indexes.len() as u64).saturating_sub(there))
}

pub async fn drop_table(views: &PostgresViews, table: &Table) -> Result<(), ViewError> {
    let mut client = views.postgres.client().await?;
    let (name, version, build) = key(table);
    let dropping = async {
        let transaction = client.transaction().await?;
        // First, as a writer locks the table before its line.
        transaction.batch_execute(&format!("DROP TABLE IF EXISTS {}", views.dialect().name_of(table))).await?;
        let delete = views.sql(&format!("DELETE FROM $S.tables WHERE {IS_TABLE}"));
        transaction.execute(&delete, &[&name, &version, &build]).await?;
        transaction.commit().await
    };
    let answered = tokio::time::timeout(STATEMENT_TIMEOUT, dropping).await;
    settle(client, answered).map_err(error_of)
}

pub async fn read_by_now(views: &PostgresViews, tables: &[Table]) -> Result<(), ViewError> {
    let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
    let versions: Vec<i64> = tables.iter().map(|table| table.version.into()).collect();
    let builds: Vec<i64> = tables.iter().map(|table| table.build.into()).collect();
    let absence_min_ms = i64::try_from(ABSENCE_MIN.as_millis()).unwrap_or(i64::MAX);
    let sql = "SELECT $S.read_by_now($1, $2, $3, $4)";
    views.query(sql, &[&names, &versions, &builds, &absence_min_ms]).await.map(drop)
}
