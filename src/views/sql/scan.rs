//! One select of a list, by one index.
//!
//! Without more being said, planners choose an index by what they believe of the keys, and take what passes several conditions for
//! spread evenly over the table: they may read all that one person has in order to find nothing. So the index is chosen here, and
//! all other conditions are written such that no index answers them.
//!
//! PostgreSQL's planner compares still more plans for the one index, among them to fetch all that passes and sort it, which it
//! takes for cheap where it believes that little passes. It does not see that a range of rows holds one key only; and an index is
//! all that has the rows of a range in order.
use marvin_projections::{Field, FieldKind};
use uuid::Uuid;

use super::{Condition, Dialect, Key, Order, Table, Values, quoted};

pub(super) struct Scan<'a> {
    has_opinions: bool,
    order: Order,
    before: Option<Uuid>,
    /// On the fields in front of what the index is sorted by: one key each. None without an index.
    held: Option<Vec<Condition<'a>>>,
    others: Vec<Condition<'a>>,
}

/// Whether lists may be sorted by the field. An index that ends in one is for those lists, and has it downwards.
pub fn is_number(field: &Field) -> bool {
    matches!(field.kind, FieldKind::Integer | FieldKind::Time)
}

/// What an index of these fields is of for a planner with opinions, but for the id that comes behind.
pub fn index_columns(table: &Table, index: &[String]) -> String {
    let mut fields: Vec<&Field> =
        index.iter().filter_map(|name| table.fields.iter().find(|field| field.name == *name)).collect();
    let sorted_by = fields.pop_if(|last| is_number(last));
    let key = key_of(fields.into_iter().map(|field| (field, quoted(&field.name))));
    let sorted_by = sorted_by.map(|field| format!("{} DESC NULLS LAST", quoted(&field.name)));
    key.into_iter().chain(sorted_by).collect::<Vec<_>>().join(", ")
}

/// Which documents an index of these fields has, as the end of its definition: nothing where it has all.
pub fn where_of_index(table: &Table, index: &[String]) -> String {
    let first = index.first().and_then(|name| table.fields.iter().find(|field| field.name == *name));
    first.filter(|field| field.is_rare).map(|field| format!(" WHERE {}", is_there(field))).unwrap_or_default()
}

fn is_there(field: &Field) -> String {
    format!("{} IS NOT NULL", quoted(&field.name))
}

/// One value for several: the one, or a number that is seldom the same for others.
fn key_of<'a>(values: impl Iterator<Item = (&'a Field, String)>) -> Option<String> {
    let values: Vec<_> = values.collect();
    if let [(_, value)] = &values[..] {
        return Some(value.clone());
    }
    values.into_iter().fold(None, |seed, (field, value)| {
        let function = match field.kind {
            FieldKind::Id => "uuid_hash_extended",
            FieldKind::Text => "hashtextextended",
            FieldKind::Integer | FieldKind::Time | FieldKind::Flag => "hashint8extended",
        };
        Some(format!("{function}({value}, {})", seed.unwrap_or_else(|| "0".to_owned())))
    })
}

/// A condition of which the planner believes nothing, not even that few documents pass it.
fn unjudged(clause: &str) -> String {
    format!("CASE WHEN {clause} THEN true END")
}

/// The fields that the first index has in front which has the documents under these conditions in order.
fn held_by<'a>(table: &'a Table, conditions: &[Condition<'_>], sorted_by: Option<&Field>) -> Option<&'a [String]> {
    let is_number = |name: &String| table.fields.iter().any(|field| field.name == *name && is_number(field));
    let in_front = |index: &'a Vec<String>| match (sorted_by, index.split_last()) {
        (None, Some((last, _))) if !is_number(last) => Some(index.as_slice()),
        (Some(field), Some((last, held))) if is_number(last) && field.name == *last => Some(held),
        _ => None,
    };
    let is_held = |name: &String| conditions.iter().any(|condition| condition.holds(name));
    table.indexes.iter().filter_map(in_front).find(|held| held.iter().all(is_held))
}

impl<'a> Scan<'a> {
    pub(super) fn of(
        dialect: Dialect<'_>,
        table: &Table,
        mut others: Vec<Condition<'a>>,
        order: Order,
        sorted_by: Option<&Field>,
        before: Option<Uuid>,
    ) -> Self {
        let held = held_by(table, &others, sorted_by).map(|names| {
            let mut held = Vec::with_capacity(names.len());
            for name in names {
                let position = others.iter().position(|condition| condition.holds(name));
                held.extend(position.map(|position| others.remove(position)));
            }
            held
        });
        Self { has_opinions: dialect.has_opinions, order, before, held, others }
    }

    /// What the index has in front, where the order must name it.
    pub(super) fn key_in_front(&self) -> Option<String> {
        let held = self.held.as_ref().filter(|_| self.has_opinions)?;
        key_of(held.iter().map(|condition| (condition.field(), quoted(&condition.field().name))))
    }

    pub(super) fn clauses(&self, values: &mut Values) -> Vec<String> {
        let mut clauses: Vec<String> = match &self.held {
            Some(held) if self.has_opinions => self.range(held, values),
            held => {
                let mut clauses: Vec<_> = held.iter().flatten().map(|condition| condition.clause(values)).collect();
                clauses.extend(self.before.map(|id| format!("id < {}", values.place(FieldKind::Id, Key::Id(id)))));
                clauses
            }
        };
        // No other document passes: this is how the planner comes to know that an index without them has all that is asked for.
        let first = self.held.iter().flatten().map(Condition::field).next();
        clauses.extend(first.filter(|field| field.is_rare).map(is_there));
        for condition in &self.others {
            let clause = condition.clause(values);
            clauses.push(match self.order {
                _ if self.held.is_none() => clause,
                Order::HighestThenOldest(name) | Order::LowestThenNewest(name) if condition.field().name == name => {
                    clause
                }
                // Neither changes what passes.
                _ if self.has_opinions => unjudged(&clause),
                _ => format!("+{clause}"),
            });
        }
        clauses
    }

    /// Keys that are equal, as a range that has nothing else in it.
    fn range(&self, held: &[Condition<'a>], values: &mut Values) -> Vec<String> {
        let (mut columns, mut places) = (Vec::new(), Vec::new());
        for condition in held {
            columns.push((condition.field(), quoted(&condition.field().name)));
            places.push((condition.field(), condition.place(values)));
        }
        let (Some(column), Some(key)) = (key_of(columns.iter().cloned()), key_of(places.iter().cloned())) else {
            return Vec::new();
        };
        let mut clauses = match (self.order, self.before) {
            (Order::Newest, Some(id)) => {
                let before = values.place(FieldKind::Id, Key::Id(id));
                vec![format!("({column}, id) < ({key}, {before})")]
            }
            (Order::Newest, None) => vec![format!("({column}, id) <= ({key}, '{}')", Uuid::max())],
            _ => vec![format!("{column} <= {key}")],
        };
        clauses.push(match self.order {
            Order::Newest => format!("({column}, id) >= ({key}, '{}')", Uuid::nil()),
            _ => format!("{column} >= {key}"),
        });
        if held.len() > 1 {
            // Others may have the same number by chance.
            let equal = columns.iter().zip(&places).map(|((_, column), (_, place))| format!("{column} = {place}"));
            clauses.push(unjudged(&equal.collect::<Vec<_>>().join(" AND ")));
        }
        clauses
    }
}
