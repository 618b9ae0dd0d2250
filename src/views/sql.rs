//! Lists and counts as statements that both databases understand.
//!
//! A list whose filter takes one of several keys is a union of ordered scans, one a key, each cut off at the page's end: an index
//! answers each in order, where it could answer their combination only by sorting all of it.
use marvin_projections::{Field, FieldKind, Key};

use super::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, SealedDocument, Table, ViewError};

/// Scans of one list; filters that would take more are answered by one scan and a sort, as the documents of many parents are.
const SCANS_MAX: usize = 8;
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
    /// The column whose indexes lists with conditions are ordered by: the id, or a copy of it.
    pub id_in_lists: &'static str,
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

/// The columns of a document, in the order in which adapters read them. `id` is the one that its id is taken from.
pub fn columns(table: &Table, id: &str) -> String {
    format!("{id} AS id, position, body{}", field_columns(table))
}

/// The documents that `query` asks for, in order, and perhaps some behind them: see [`cut`].
/// None when no document can pass the filters.
///
/// # Errors
/// `UnknownField`.
pub fn list(dialect: Dialect<'_>, table: &Table, query: &ListQuery) -> Result<Option<Statement>, ViewError> {
    // What has no key in the field is lower than all that have one.
    let order = match query.order {
        Order::Newest => "id DESC".to_owned(),
        Order::HighestThenOldest(name) => format!("{} DESC NULLS LAST, id", quoted(&field(table, name)?.name)),
        Order::LowestThenNewest(name) => format!("{} NULLS FIRST, id DESC", quoted(&field(table, name)?.name)),
    };
    // A name behind ORDER BY is that of a column of the answer, which this one is.
    let is_of_all = query.filters.is_empty() && query.order == Order::Newest;
    let id = if is_of_all { "id" } else { dialect.id_in_lists };
    let limit = CUTS.into_iter().find(|cut| *cut >= query.limit).unwrap_or(PAGE_DOCUMENTS_MAX);
    let tail = format!(" ORDER BY {order} LIMIT {limit}");
    let Some(scans) = scans(table, &query.filters)? else { return Ok(None) };
    let before = query.before.filter(|_| query.order == Order::Newest);
    let mut values = Values { mark: dialect.mark, given: Vec::new() };
    let mut selects = Vec::with_capacity(scans.len());
    for scan in scans {
        let mut clauses: Vec<String> = scan.iter().map(|condition| condition.clause(&mut values)).collect();
        clauses.extend(before.map(|before| format!("{id} < {}", values.place(FieldKind::Id, Key::Id(before)))));
        let from = dialect.name_of(table);
        selects.push(format!("SELECT {} FROM {from}{}{tail}", columns(table, id), where_clause(&clauses)));
    }
    let sql = if selects.len() == 1 {
        selects.remove(0)
    } else {
        let scans: Vec<_> = selects.iter().map(|select| format!("SELECT * FROM ({select}) AS scan")).collect();
        scans.join(" UNION ALL ") + &tail
    };
    Ok(Some(Statement { sql, values: values.given }))
}

/// What `query` asked for of what [`list`] found.
pub fn cut(mut found: Vec<SealedDocument>, query: &ListQuery) -> Vec<SealedDocument> {
    found.truncate(query.limit.clamp(1, PAGE_DOCUMENTS_MAX) as usize);
    found
}

/// How many documents pass the filters. None when no document can.
///
/// # Errors
/// `UnknownField`.
pub fn count(dialect: Dialect<'_>, table: &Table, filters: &[Filter]) -> Result<Option<Statement>, ViewError> {
    let Some(conditions) = conditions(table, filters)? else { return Ok(None) };
    let mut values = Values { mark: dialect.mark, given: Vec::new() };
    let clauses: Vec<String> = conditions.iter().map(|condition| condition.clause(&mut values)).collect();
    let sql = format!("SELECT count(*) FROM {}{}", dialect.name_of(table), where_clause(&clauses));
    Ok(Some(Statement { sql, values: values.given }))
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

/// A filter whose field and keys are known to fit.
#[derive(Debug, Clone)]
enum Condition<'a> {
    /// One key at least, each once.
    In(&'a Field, Vec<&'a Key>),
    AtMost(&'a Field, i64),
}

impl Condition<'_> {
    fn clause(&self, values: &mut Values) -> String {
        match self {
            Self::In(field, keys) if keys.len() == 1 => {
                format!("{} = {}", quoted(&field.name), values.place(field.kind, keys[0].clone()))
            }
            Self::In(field, keys) => {
                // Filled up with the last one, so that there are few statements, whatever the number of keys.
                let padded = (0..keys.len().next_power_of_two()).map(|index| keys[index.min(keys.len() - 1)]);
                let places: Vec<_> = padded.map(|key| values.place(field.kind, key.clone())).collect();
                format!("{} IN ({})", quoted(&field.name), places.join(", "))
            }
            Self::AtMost(field, bound) => {
                format!("{} <= {}", quoted(&field.name), values.place(field.kind, Key::Integer(*bound)))
            }
        }
    }
}

fn where_clause(clauses: &[String]) -> String {
    if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) }
}

fn field<'a>(table: &'a Table, name: &'static str) -> Result<&'a Field, ViewError> {
    table.fields.iter().find(|field| field.name == name).ok_or(ViewError::UnknownField(name))
}

/// None when no document can pass them.
fn conditions<'a>(table: &'a Table, filters: &'a [Filter]) -> Result<Option<Vec<Condition<'a>>>, ViewError> {
    let mut conditions = Vec::with_capacity(filters.len());
    for filter in filters {
        let (name, condition) = match filter {
            Filter::In(name, keys) => {
                let mut distinct: Vec<&Key> = Vec::with_capacity(keys.len());
                for key in keys.iter().filter(|key| **key != Key::Null) {
                    if !distinct.contains(&key) {
                        distinct.push(key);
                    }
                }
                (*name, Condition::In(field(table, name)?, distinct))
            }
            Filter::AtMost(name, bound) => (*name, Condition::AtMost(field(table, name)?, *bound)),
        };
        let fits = match &condition {
            Condition::In(field, keys) => keys.iter().all(|key| field.kind.takes(key)),
            Condition::AtMost(field, _) => matches!(field.kind, FieldKind::Integer | FieldKind::Time),
        };
        if !fits {
            return Err(ViewError::UnknownField(name));
        }
        conditions.push(condition);
    }
    let is_empty = |condition: &Condition<'_>| matches!(condition, Condition::In(_, keys) if keys.is_empty());
    Ok(if conditions.iter().any(is_empty) { None } else { Some(conditions) })
}

/// Every combination of one key a filter, when there are few of them.
fn scans<'a>(table: &'a Table, filters: &'a [Filter]) -> Result<Option<Vec<Vec<Condition<'a>>>>, ViewError> {
    let Some(conditions) = conditions(table, filters)? else { return Ok(None) };
    let keys = |condition: &Condition<'_>| match condition {
        Condition::In(_, keys) => keys.len(),
        Condition::AtMost(..) => 1,
    };
    if conditions.iter().map(keys).fold(1, usize::saturating_mul) > SCANS_MAX {
        return Ok(Some(vec![conditions]));
    }
    let mut scans = vec![Vec::with_capacity(conditions.len())];
    for condition in conditions {
        let choices = match condition {
            Condition::In(field, keys) => keys.into_iter().map(|key| Condition::In(field, vec![key])).collect(),
            at_most @ Condition::AtMost(..) => vec![at_most],
        };
        let mut combined = Vec::with_capacity(scans.len() * choices.len());
        for scan in &scans {
            for choice in &choices {
                let mut scan = scan.clone();
                scan.push(choice.clone());
                combined.push(scan);
            }
        }
        scans = combined;
    }
    Ok(Some(scans))
}
