//! Lists as statements that both databases understand.
//!
//! A list whose filter takes one of several keys is made of ordered scans, one a key: an index answers each in order, where it could
//! answer their combination only by sorting all of it.
use marvin_projections::{FieldKind, Key};

use super::{Filter, ListQuery, Order, PAGE_BYTES_MAX, PAGE_DOCUMENTS_MAX, Table, ViewError};

mod condition;
mod scan;
use condition::{Condition, combined, conditions, each_of, field, where_clause};
use scan::{Scan, is_number};
pub use scan::{index_columns, where_of_index};

/// Documents that lists are cut off at: the next one above what is asked. Few, because a statement is planned and kept for each;
/// a literal in it, because a plan for an unknown number expects a tenth of the table.
const CUTS: [u32; 4] = [11, 51, 201, PAGE_DOCUMENTS_MAX];

/// How a database is spoken to.
#[derive(Debug, Clone, Copy)]
pub struct Dialect<'a> {
    /// What a parameter's number stands behind.
    pub mark: char,
    /// The schema that the tables are in, if they must be told by it.
    pub schema: Option<&'a str>,
    /// Whether a planner must be kept from comparing plans by what it believes of the keys: see `Scan`.
    pub has_opinions: bool,
    /// Whether all rows of a statement are sent once it is asked, so that the statement itself must leave off what is too much.
    pub sends_all: bool,
}

/// What a list is to answer of each document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The [`columns`].
    Documents,
    /// The same, but the bodies only of those that would fit however many of them the list holds. Cheaper than to add up how many
    /// fit, and enough for most pages.
    SmallDocuments,
    /// Its id, and behind that the field that the list is sorted by, if it is.
    Ids,
}

impl Dialect<'_> {
    /// The table, as it stands in a statement.
    pub fn name_of(self, table: &Table) -> String {
        let name = quoted(&table.to_string());
        self.schema.map_or(name.clone(), |schema| format!("{}.{name}", quoted(schema)))
    }
}

/// SQL with its parameters in order, and of which kind of field each is.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub sql: String,
    pub values: Vec<(FieldKind, Key)>,
}

/// `name` as the database's name of a thing, whatever is in it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `, "a", "b"`: the table's fields, to stand behind other columns.
pub fn field_columns(table: &Table) -> String {
    table.fields.iter().map(|field| format!(", {}", quoted(&field.name))).collect()
}

/// The type of a field's column, for databases that have types.
pub fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Id => "uuid",
        FieldKind::Text => "text",
        FieldKind::Integer | FieldKind::Time | FieldKind::Flag => "bigint",
    }
}

/// The columns of a document, in the order in which adapters read them.
pub fn columns(table: &Table) -> String {
    format!("id, position, body{}", field_columns(table))
}

/// The documents that `query` asks for, in order, and perhaps some behind them: take [`asked`]. Those of a dialect that sends all
/// have no body from where they would be too many bytes. None when no document can pass the filters.
///
/// # Errors
/// `UnknownField`.
pub fn list(
    dialect: Dialect<'_>,
    table: &Table,
    query: &ListQuery,
    wanted: Wanted,
) -> Result<Option<Statement>, ViewError> {
    let sorted_by = match query.order {
        Order::Newest => None,
        Order::HighestThenOldest(name) | Order::LowestThenNewest(name) => {
            let field = field(table, name)?;
            if wanted == Wanted::Ids && !is_number(field) {
                return Err(ViewError::UnknownField(name));
            }
            Some(field)
        }
    };
    let limit = CUTS.into_iter().find(|cut| *cut >= query.limit).unwrap_or(PAGE_DOCUMENTS_MAX);
    let columns = match (wanted, sorted_by) {
        (Wanted::Documents, _) => columns(table),
        (Wanted::SmallDocuments, _) => {
            let body =
                format!("CASE WHEN octet_length(body) <= {} THEN body END AS body", PAGE_BYTES_MAX / limit as usize);
            format!("id, position, {body}{}", field_columns(table))
        }
        (Wanted::Ids, None) => "id".to_owned(),
        (Wanted::Ids, Some(field)) => format!("id, {}", quoted(&field.name)),
    };
    let Some(mut conditions) = conditions(table, &query.filters)? else { return Ok(None) };
    let before = query.before.filter(|_| query.order == Order::Newest);
    let mut values = Values { mark: dialect.mark, given: Vec::new() };
    let keys = if dialect.has_opinions { each_of(&mut conditions, &mut values) } else { Vec::new() };
    let scans = if dialect.has_opinions { vec![conditions] } else { combined(conditions) };
    let mut selects = Vec::with_capacity(scans.len());
    let mut order = String::new();
    for conditions in scans {
        let scan = Scan::of(dialect, table, conditions, query.order, sorted_by, before);
        let (clauses, from) = (scan.clauses(&mut values), dialect.name_of(table));
        selects.push(format!("SELECT {columns} FROM {from}{}", where_clause(&clauses)));
        order = order_by(query.order, scan.key_in_front());
    }
    // Several are read side by side, each in order, until there are enough.
    let mut sql = format!("{} ORDER BY {order} LIMIT {limit}", selects.join(" UNION ALL "));
    if !keys.is_empty() {
        let (keys, order) = (keys.join(", "), order_by(query.order, None));
        sql = format!("SELECT scan.* FROM {keys}, LATERAL ({sql}) AS scan ORDER BY {order} LIMIT {limit}");
    }
    if dialect.sends_all && wanted == Wanted::Documents {
        sql = within_bytes(table, &sql);
    }
    Ok(Some(Statement { sql, values: values.given }))
}

/// What has no key in the field is lower than all that have one. `held` is what an index has in front, if that must be named: it is
/// the same throughout, and in the direction in which the index is read.
fn order_by(order: Order, held: Option<String>) -> String {
    let (field, direction) = match order {
        Order::Newest => (String::new(), " DESC"),
        Order::HighestThenOldest(name) => (format!("{} DESC NULLS LAST, ", quoted(name)), ""),
        Order::LowestThenNewest(name) => (format!("{} NULLS FIRST, ", quoted(name)), " DESC"),
    };
    let held = held.map_or_else(String::new, |held| format!("{held}{direction}, "));
    format!("{held}{field}id{direction}")
}

/// How many documents `query` asks for, of those that [`list`] finds.
pub fn asked(query: &ListQuery) -> usize {
    query.limit.clamp(1, PAGE_DOCUMENTS_MAX) as usize
}

/// `sql`, a list of documents, with the bodies of as many of the first ones as fit, and of one at least. To know how long a body is
/// the server need not read it.
fn within_bytes(table: &Table, sql: &str) -> String {
    format!(
        "SELECT id, position, CASE WHEN \"bytes so far\" <= {PAGE_BYTES_MAX} OR \"bytes so far\" = octet_length(body) THEN body END{} \
         FROM (SELECT listed.*, sum(octet_length(body)) OVER (ROWS UNBOUNDED PRECEDING) AS \"bytes so far\" \
         FROM ({sql}) AS listed) AS listed",
        field_columns(table)
    )
}

/// The parameters of a statement while it is written.
struct Values {
    mark: char,
    given: Vec<(FieldKind, Key)>,
}

impl Values {
    fn place(&mut self, kind: FieldKind, key: Key) -> String {
        self.given.push((kind, key));
        format!("{}{}", self.mark, self.given.len())
    }
}
