//! The registry: which tables there are, how far each came, and who may write to it.
use chrono::DateTime;
use marvin_domain::Position;
use marvin_projections::{Field, FieldKind};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

use super::{
    ABSENCE_MIN, Checkpoint, DIALECT, NOW_MS, State, Stopped, StoreError, Table, TableRow, ViewError, ViewId,
    checkpoint_at,
    sql::{quoted, where_of_index},
};

/// One table's line.
const IS_TABLE: &str = "name = ?1 AND version = ?2 AND build = ?3";

/// The state of a table that is being cleared away: nobody sees it any more.
const DROPPED: &str = "dropped";
/// Documents that are deleted at once: about ten milliseconds. An index of a million goes in twenty.
const PIECE_DOCUMENTS: u32 = 1_000;

/// Every table whose line this program understands.
pub fn tables(connection: &Connection) -> rusqlite::Result<Vec<TableRow>> {
    let sql = format!(
        "SELECT name, version, build, fields, state, position, event_id, token, stopped_at, stopped_reason, begun_at, target, \
         {NOW_MS} - read_at, indexes FROM tables ORDER BY name, version, build"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], row)?.filter_map(Result::transpose);
    rows.collect()
}

fn row(row: &Row<'_>) -> rusqlite::Result<Option<TableRow>> {
    let fields: Option<Vec<Field>> = serde_json::from_str(&row.get::<_, String>(3)?).ok();
    let indexes: Option<Vec<Vec<String>>> = serde_json::from_str(&row.get::<_, String>(13)?).ok();
    let state = State::parse(&row.get::<_, String>(4)?);
    let (Some(fields), Some(indexes), Some(state)) = (fields, indexes, state) else { return Ok(None) };
    let (name, version, build) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let table = Table { name, version, build, fields: fields.into(), indexes: indexes.into() };
    let stopped_at: Option<i64> = row.get(8)?;
    let stopped = match stopped_at {
        Some(position) => Some(Stopped { position: position.cast_unsigned(), reason: row.get(9)? }),
        None => None,
    };
    Ok(Some(TableRow {
        table,
        state,
        checkpoint: checkpoint_at(row, 5)?,
        token: row.get::<_, i64>(7)?.cast_unsigned(),
        stopped,
        begun_at: DateTime::from_timestamp_millis(row.get(10)?).unwrap_or_default(),
        target: row.get::<_, i64>(11)?.cast_unsigned(),
        unread_for: Duration::from_millis(row.get::<_, i64>(12)?.max(0).cast_unsigned()),
    }))
}

pub fn begin(connection: &Connection, view: ViewId, target: Position) -> Result<TableRow, ViewError> {
    let found = |state| -> Result<Option<Table>, StoreError> {
        let rows = tables(connection)?;
        Ok(rows.into_iter().rfind(|row| row.table.is_of(view) && row.state == state).map(|row| row.table))
    };
    let table = match (found(State::Building)?, found(State::Cancelled)?) {
        (Some(building), _) => building,
        (None, Some(cancelled)) => {
            take_up(connection, &cancelled, target).map_err(StoreError::from)?;
            cancelled
        }
        (None, None) => make(connection, view, target).map_err(StoreError::from)?,
    };
    let rows = tables(connection).map_err(StoreError::from)?;
    rows.into_iter().find(|row| row.table == table).ok_or(ViewError::Gone)
}

fn take_up(connection: &Connection, table: &Table, target: Position) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE tables SET state = 'building', begun_at = {NOW_MS}, target = ?4, read_at = {NOW_MS} WHERE {IS_TABLE}"
    );
    connection.execute(&sql, params![table.name, table.version, table.build, target.cast_signed()])?;
    Ok(())
}

fn make(connection: &Connection, view: ViewId, target: Position) -> rusqlite::Result<Table> {
    let build = connection.query_row(
        "INSERT INTO builds (name, version, last) VALUES (?1, ?2, 1) \
         ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last",
        params![view.name, view.version],
        |row| row.get(0),
    )?;
    let table = Table::of(view, build);
    let name = DIALECT.name_of(&table);
    let columns: String =
        table.fields.iter().map(|field| format!(", {} {}", quoted(&field.name), column_type(field.kind))).collect();
    // The body stands last: a field behind it would be read through all of its pages.
    let mut sql = format!(
        "CREATE TABLE {name} (id BLOB PRIMARY KEY, position INTEGER NOT NULL{columns}, body BLOB NOT NULL) \
         STRICT, WITHOUT ROWID;"
    );
    for (number, fields) in (1..).zip(&table.indexes[..]) {
        let index = quoted(&format!("{table}_by_{number}"));
        let condition = where_of_index(&table, fields);
        let fields: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
        // Downwards in the last field, which lists may be sorted by from the highest on; where they ask for one key of it, the
        // direction is of no account.
        sql += &format!("CREATE INDEX {index} ON {name} ({} DESC, id){condition};", fields.join(", "));
    }
    connection.execute_batch(&sql)?;
    let sql = format!(
        "INSERT INTO tables \
             (name, version, build, fields, indexes, state, position, event_id, token, begun_at, target, read_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, 'building', 0, zeroblob(16), 0, {NOW_MS}, ?6, {NOW_MS})"
    );
    let (fields, indexes) = table.described();
    connection.execute(&sql, params![table.name, table.version, table.build, fields, indexes, target.cast_signed()])?;
    Ok(table)
}

fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Id => "BLOB",
        FieldKind::Text => "TEXT",
        FieldKind::Integer | FieldKind::Time | FieldKind::Flag => "INTEGER",
    }
}

/// How far the table came; none when it is not in the registry.
pub fn checkpoint(connection: &Connection, table: &Table) -> rusqlite::Result<Option<Checkpoint>> {
    let sql = format!("SELECT position, event_id FROM tables WHERE {IS_TABLE} AND state <> '{DROPPED}'");
    connection
        .prepare_cached(&sql)?
        .query_row(params![table.name, table.version, table.build], |row| checkpoint_at(row, 0))
        .optional()
}

/// The token that stands on a table that may be written to, and how far it came.
fn kept_up(connection: &Connection, table: &Table) -> Result<(u64, Checkpoint), ViewError> {
    let sql = format!("SELECT state, token, position, event_id FROM tables WHERE {IS_TABLE}");
    let found = connection
        .prepare_cached(&sql)
        .and_then(|mut select| {
            let row = |row: &Row<'_>| {
                let state = State::parse(&row.get::<_, String>(0)?);
                Ok((state, row.get::<_, i64>(1)?.cast_unsigned(), checkpoint_at(row, 2)?))
            };
            select.query_row(params![table.name, table.version, table.build], row).optional()
        })
        .map_err(StoreError::from)?;
    match found {
        Some((Some(state), token, checkpoint)) if state.is_kept_up() => Ok((token, checkpoint)),
        _ => Err(ViewError::Gone),
    }
}

/// How far a table came that `token` may write to.
pub fn held(connection: &Connection, table: &Table, token: u64) -> Result<Checkpoint, ViewError> {
    match kept_up(connection, table)? {
        (stands, checkpoint) if stands == token => Ok(checkpoint),
        _ => Err(ViewError::Fenced),
    }
}

pub fn take_over(connection: &Connection, table: &Table, token: u64) -> Result<Checkpoint, ViewError> {
    let (stands, checkpoint) = kept_up(connection, table)?;
    if stands > token {
        return Err(ViewError::Fenced);
    }
    let sql = format!("UPDATE tables SET token = ?4 WHERE {IS_TABLE}");
    connection
        .execute(&sql, params![table.name, table.version, table.build, token.cast_signed()])
        .map_err(StoreError::from)?;
    Ok(checkpoint)
}

pub fn move_to(connection: &Connection, table: &Table, checkpoint: Checkpoint) -> rusqlite::Result<()> {
    let Checkpoint { position, event_id } = checkpoint;
    let sql = format!(
        "UPDATE tables SET position = ?4, event_id = ?5, \
             read_at = CASE state WHEN 'building' THEN {NOW_MS} ELSE read_at END \
         WHERE {IS_TABLE}"
    );
    connection.prepare_cached(&sql)?.execute(params![
        table.name,
        table.version,
        table.build,
        position.cast_signed(),
        event_id.as_bytes()
    ])?;
    Ok(())
}

pub fn make_live(connection: &Connection, table: &Table, token: u64) -> Result<(), ViewError> {
    held(connection, table, token)?;
    let sql = format!(
        "UPDATE tables SET state = CASE build WHEN ?3 THEN 'live' ELSE 'retired' END, \
             read_at = CASE build WHEN ?3 THEN {NOW_MS} ELSE read_at END \
         WHERE name = ?1 AND version = ?2 AND (state = 'live' OR build = ?3)"
    );
    connection.execute(&sql, params![table.name, table.version, table.build]).map_err(StoreError::from)?;
    Ok(())
}

/// # Errors
/// `Gone` unless it is being built.
pub fn cancel(connection: &Connection, table: &Table) -> Result<(), ViewError> {
    let sql =
        format!("UPDATE tables SET state = 'cancelled', read_at = {NOW_MS} WHERE {IS_TABLE} AND state = 'building'");
    let changed =
        connection.execute(&sql, params![table.name, table.version, table.build]).map_err(StoreError::from)?;
    if changed == 0 { Err(ViewError::Gone) } else { Ok(()) }
}

pub fn retire(connection: &Connection, table: &Table) -> Result<(), ViewError> {
    let sql = format!(
        "UPDATE tables SET state = 'retired', read_at = {NOW_MS} WHERE {IS_TABLE} AND state IN ('building', 'cancelled')"
    );
    let changed =
        connection.execute(&sql, params![table.name, table.version, table.build]).map_err(StoreError::from)?;
    if changed == 0 { Err(ViewError::Gone) } else { Ok(()) }
}

pub fn set_stopped(connection: &Connection, table: &Table, stopped: Option<&Stopped>) -> Result<(), ViewError> {
    let (position, reason) = stopped.map(|stopped| (stopped.position.cast_signed(), stopped.reason.as_str())).unzip();
    let sql =
        format!("UPDATE tables SET stopped_at = ?4, stopped_reason = ?5 WHERE {IS_TABLE} AND state <> '{DROPPED}'");
    let changed = connection
        .execute(&sql, params![table.name, table.version, table.build, position, reason])
        .map_err(StoreError::from)?;
    if changed == 0 { Err(ViewError::Gone) } else { Ok(()) }
}

pub fn lost_indexes(connection: &Connection, table: &Table) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL";
    let there: i64 = connection.prepare_cached(sql)?.query_row([table.to_string()], |row| row.get(0))?;
    Ok((table.indexes.len() as u64).saturating_sub(there.unsigned_abs()))
}

/// Nobody sees the table from then on.
pub fn begin_drop(connection: &Connection, table: &Table) -> Result<(), StoreError> {
    let sql = format!("UPDATE tables SET state = '{DROPPED}' WHERE {IS_TABLE}");
    connection.execute(&sql, params![table.name, table.version, table.build])?;
    Ok(())
}

/// Takes another piece of a table away, or what is left of it. Answers whether it is gone.
pub fn go_on_dropping(connection: &Connection, table: &Table) -> Result<bool, StoreError> {
    let (name, key) = (DIALECT.name_of(table), params![table.name, table.version, table.build]);
    let is_there = connection.prepare_cached(&format!("SELECT 1 FROM tables WHERE {IS_TABLE}"))?.exists(key)?;
    if !is_there {
        return Ok(true);
    }
    let index = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL LIMIT 1";
    let index = connection.prepare_cached(index)?.query_row([table.to_string()], |row| row.get::<_, String>(0));
    if let Some(index) = index.optional()? {
        connection.execute_batch(&format!("DROP INDEX {}", quoted(&index)))?;
        return Ok(false);
    }
    let delete = format!("DELETE FROM {name} WHERE id IN (SELECT id FROM {name} ORDER BY id LIMIT {PIECE_DOCUMENTS})");
    if connection.prepare_cached(&delete)?.execute([])? == PIECE_DOCUMENTS as usize {
        return Ok(false);
    }
    connection.execute_batch(&format!("DROP TABLE {name}"))?;
    connection.execute(&format!("DELETE FROM tables WHERE {IS_TABLE}"), key)?;
    Ok(true)
}

/// Tables that are being cleared away, by no more than what stands for their names.
pub fn dropped(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut select = connection.prepare("SELECT name, version, build FROM tables WHERE state = ?1")?;
    let tables = select.query_map([DROPPED], |row| {
        let (name, version, build) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Table { name, version, build, fields: [].into(), indexes: [].into() })
    })?;
    tables.collect()
}

/// Notes that somebody is there. Where the note before is far back nobody was, and what passed since counts for no table.
pub fn forgive_absence(connection: &Connection) -> rusqlite::Result<()> {
    let forgive = format!(
        "UPDATE tables SET read_at = min(read_at + {NOW_MS} - notes.noted_at, {NOW_MS}) \
         FROM notes WHERE {NOW_MS} - notes.noted_at > {}",
        ABSENCE_MIN.as_millis()
    );
    connection.execute(&forgive, [])?;
    connection.execute(&format!("UPDATE notes SET noted_at = {NOW_MS}"), []).map(drop)
}

pub fn read_by_now(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    let sql = format!("UPDATE tables SET read_at = {NOW_MS} WHERE {IS_TABLE}");
    connection.execute(&sql, params![table.name, table.version, table.build]).map(drop)
}
