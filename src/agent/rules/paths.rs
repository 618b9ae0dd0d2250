//! The plain paths of an expression, such as `input.customer.name`: what they read says why a rule matched, or did not, and which
//! key was missing.
use super::Facts;
use crate::time::rfc3339;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::{Map, Value, json};

/// Paths of one condition that are told of; a condition that reads more explains little by them.
const PATHS_MAX: usize = 20;

/// Characters of a text that is told of; longer ones are cut.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug, Clone)]
enum Part {
    Key(String),
    Index(usize),
}

/// The paths that an expression reads, in the order in which they are written.
#[derive(Debug, Clone)]
pub(super) struct Reads(Vec<(String, Vec<Part>)>);

impl Reads {
    pub fn of(written: &IdedExpr) -> Self {
        let mut found = Vec::new();
        collect(written, &mut found);
        Self(found)
    }

    /// What stands at each path. Of a list or an object only how long it is, and `{"missing": true}` where there is nothing.
    pub fn look(&self, facts: &Facts<'_>) -> Map<String, Value> {
        self.0.iter().map(|(path, parts)| (path.clone(), look(parts, facts))).collect()
    }
}

fn look(parts: &[Part], facts: &Facts<'_>) -> Value {
    let Some((Part::Key(root), rest)) = parts.split_first() else { return missing() };
    let start = match root.as_str() {
        "input" => facts.input,
        "task" => facts.task,
        "agent" => facts.agent,
        _ => return Value::String(rfc3339(facts.now)),
    };
    let found = rest.iter().try_fold(start, |value, part| match part {
        Part::Key(key) => value.get(key),
        Part::Index(index) => value.get(index),
    });
    found.map_or_else(missing, in_short)
}

fn missing() -> Value {
    json!({ "missing": true })
}

fn in_short(value: &Value) -> Value {
    match value {
        Value::Array(items) => json!({ "items": items.len() }),
        Value::Object(fields) => json!({ "fields": fields.len() }),
        Value::String(text) if text.chars().nth(TEXT_CHARS_MAX).is_some() => {
            Value::String(text.chars().take(TEXT_CHARS_MAX - 1).chain(['…']).collect())
        }
        other => other.clone(),
    }
}

fn collect(expr: &IdedExpr, found: &mut Vec<(String, Vec<Part>)>) {
    if let (Some(path), Some(parts)) = (path_of(expr), parts_of(expr)) {
        if found.len() < PATHS_MAX && found.iter().all(|(known, _)| *known != path) {
            found.push((path, parts));
        }
        return;
    }
    match &expr.expr {
        Expr::Select(select) => collect(&select.operand, found),
        Expr::Call(call) => {
            call.target.iter().for_each(|target| collect(target, found));
            call.args.iter().for_each(|arg| collect(arg, found));
        }
        Expr::Comprehension(loops) => {
            [&loops.iter_range, &loops.accu_init, &loops.loop_step, &loops.result]
                .into_iter()
                .for_each(|part| collect(part, found));
        }
        Expr::List(list) => list.elements.iter().for_each(|element| collect(element, found)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| {
            if let EntryExpr::MapEntry(entry) = &entry.expr {
                collect(&entry.key, found);
                collect(&entry.value, found);
            }
        }),
        _ => {}
    }
}

/// The parts of a path that begins at a fact; a name of a loop's own is none.
fn parts_of(expr: &IdedExpr) -> Option<Vec<Part>> {
    match &expr.expr {
        Expr::Ident(name) => {
            ["input", "task", "agent", "now"].contains(&name.as_str()).then(|| vec![Part::Key(name.clone())])
        }
        Expr::Select(select) => {
            let mut parts = parts_of(&select.operand)?;
            parts.push(Part::Key(select.field.clone()));
            Some(parts)
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [owner, key] = call.args.as_slice() else { return None };
            let mut parts = parts_of(owner)?;
            parts.push(match &key.expr {
                Expr::Literal(LiteralValue::String(text)) => Part::Key(text.inner().to_owned()),
                Expr::Literal(LiteralValue::Int(int)) => Part::Index(usize::try_from(*int.inner()).ok()?),
                _ => return None,
            });
            Some(parts)
        }
        _ => None,
    }
}

/// Every plain path in `expr` that ends in `key`, with the part of the tree that reads it.
pub(super) fn collect_paths<'e>(expr: &'e IdedExpr, key: &str, found: &mut Vec<(String, &'e IdedExpr)>) {
    match &expr.expr {
        Expr::Select(select) => {
            if let Some(path) = path_of(expr).filter(|_| select.field == key && !select.test) {
                found.push((path, expr));
            }
            collect_paths(&select.operand, key, found);
        }
        Expr::Call(call) => {
            if let Some(path) =
                path_of(expr).filter(|_| matches!(call.args.last(), Some(last) if literal_text(last) == Some(key)))
            {
                found.push((path, expr));
            }
            call.target.iter().for_each(|target| collect_paths(target, key, found));
            call.args.iter().for_each(|arg| collect_paths(arg, key, found));
        }
        Expr::Comprehension(loops) => {
            [&loops.iter_range, &loops.accu_init, &loops.loop_step, &loops.result]
                .into_iter()
                .for_each(|part| collect_paths(part, key, found));
        }
        Expr::List(list) => list.elements.iter().for_each(|element| collect_paths(element, key, found)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| {
            if let EntryExpr::MapEntry(entry) = &entry.expr {
                collect_paths(&entry.key, key, found);
                collect_paths(&entry.value, key, found);
            }
        }),
        _ => {}
    }
}

/// How a plain path is written.
fn path_of(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) if !name.starts_with('@') => Some(name.clone()),
        Expr::Select(select) => path_of(&select.operand).map(|owner| format!("{owner}.{}", select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [owner, key] => Some(format!("{}[{}]", path_of(owner)?, literal_in_brackets(key)?)),
            _ => None,
        },
        _ => None,
    }
}

fn literal_text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn literal_in_brackets(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Literal(LiteralValue::Int(int)) => Some(int.inner().to_string()),
        _ => literal_text(expr).map(|text| format!("{text:?}")),
    }
}
