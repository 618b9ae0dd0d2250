//! Filters as conditions of a statement.
use marvin_projections::{Field, Key};

use super::{Filter, Table, Values, ViewError, column_type, quoted, scan::is_number};

/// Scans of one list; filters that would take more are answered by one scan and a sort, as the documents of many parents are.
const SCANS_MAX: usize = 8;

/// A filter whose field and keys are known to fit.
#[derive(Debug, Clone)]
pub(super) enum Condition<'a> {
    /// One key at least, each once.
    In(&'a Field, Vec<&'a Key>),
    /// What stands in this column of another table.
    EachOf(&'a Field, String),
    AtMost(&'a Field, i64),
}

impl Condition<'_> {
    pub(super) fn field(&self) -> &Field {
        match self {
            Self::In(field, _) | Self::EachOf(field, _) | Self::AtMost(field, _) => field,
        }
    }

    /// Whether the field of this name is to have one key.
    pub(super) fn holds(&self, name: &str) -> bool {
        let is_one = match self {
            Self::In(_, keys) => keys.len() == 1,
            Self::EachOf(..) => true,
            Self::AtMost(..) => false,
        };
        is_one && self.field().name == name
    }

    /// Where the one key stands.
    pub(super) fn place(&self, values: &mut Values) -> String {
        match self {
            Self::In(field, keys) => places(field, keys, values),
            Self::EachOf(_, column) => column.clone(),
            Self::AtMost(field, bound) => values.place(field.kind, Key::Integer(*bound)),
        }
    }

    pub(super) fn clause(&self, values: &mut Values) -> String {
        let (field, place) = (quoted(&self.field().name), self.place(values));
        match self {
            Self::In(_, keys) if keys.len() > 1 => format!("{field} IN ({place})"),
            Self::In(..) | Self::EachOf(..) => format!("{field} = {place}"),
            Self::AtMost(..) => format!("{field} <= {place}"),
        }
    }
}

pub(super) fn where_clause(clauses: &[String]) -> String {
    if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) }
}

pub(super) fn field<'a>(table: &'a Table, name: &'static str) -> Result<&'a Field, ViewError> {
    table.fields.iter().find(|field| field.name == name).ok_or(ViewError::UnknownField(name))
}

/// None when no document can pass them.
pub(super) fn conditions<'a>(table: &'a Table, filters: &'a [Filter]) -> Result<Option<Vec<Condition<'a>>>, ViewError> {
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
            Condition::EachOf(..) => true,
            Condition::AtMost(field, _) => is_number(field),
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
pub(super) fn combined(conditions: Vec<Condition<'_>>) -> Vec<Vec<Condition<'_>>> {
    let keys = |condition: &Condition<'_>| match condition {
        Condition::In(_, keys) => keys.len(),
        Condition::EachOf(..) | Condition::AtMost(..) => 1,
    };
    if conditions.iter().map(keys).fold(1, usize::saturating_mul) > SCANS_MAX {
        return vec![conditions];
    }
    let mut scans = vec![Vec::with_capacity(conditions.len())];
    for condition in conditions {
        let choices = match condition {
            Condition::In(field, keys) => keys.into_iter().map(|key| Condition::In(field, vec![key])).collect(),
            other => vec![other],
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
    scans
}

/// Has keys of which a document may have one or another come from tables of their own, which are answered beside the conditions.
pub(super) fn each_of<'a>(conditions: &mut [Condition<'a>], values: &mut Values) -> Vec<String> {
    let mut tables = Vec::new();
    for condition in conditions {
        let Condition::In(field, keys) = condition else { continue };
        if keys.len() > 1 {
            let (places, kind) = (places(field, keys, values), column_type(field.kind));
            let name = format!("keys_{}", tables.len());
            tables.push(format!("(SELECT DISTINCT unnest(ARRAY[{places}]::{kind}[]) AS key) AS {name}"));
            *condition = Condition::EachOf(field, format!("{name}.key"));
        }
    }
    tables
}

/// Filled up with the last one, so that there are few statements, whatever the number of keys.
fn places(field: &Field, keys: &[&Key], values: &mut Values) -> String {
    let padded = (0..keys.len().next_power_of_two()).map(|index| keys[index.min(keys.len() - 1)]);
    padded.map(|key| values.place(field.kind, key.clone())).collect::<Vec<_>>().join(", ")
}
