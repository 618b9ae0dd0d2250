//! Checks that an expression names only what there is, so that a misspelt name is refused when it is written, not when it runs.
use super::syntax::Flaw;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr};
use std::ops::RangeInclusive;

/// What every expression sees.
pub const ROOT_NAMES: [&str; 4] = ["input", "task", "agent", "now"];

/// Loops within loops: two reach every pair; a third is the slip that makes a small input expensive.
pub const LOOPS_NESTED_MAX: usize = 2;

const TYPE_NAMES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];
const LOOP_MACROS: [&str; 8] = ["all", "exists", "exists_one", "existsOne", "map", "filter", "optMap", "optFlatMap"];

/// Functions called as `f(x)`, and how many arguments they take.
fn global_arity(name: &str) -> Option<RangeInclusive<usize>> {
    match name {
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "size" | "string" | "timestamp" | "type"
        | "uint" => Some(1..=1),
        "matches" => Some(2..=2),
        _ => None,
    }
}

/// Functions called as `x.f()`, and how many arguments they take beside `x`.
fn member_arity(name: &str) -> Option<RangeInclusive<usize>> {
    match name {
        "contains" | "endsWith" | "startsWith" | "matches" | "or" | "orValue" => Some(1..=1),
        "hasValue" | "size" | "value" => Some(0..=0),
        "getDate" | "getDayOfMonth" | "getDayOfWeek" | "getDayOfYear" | "getFullYear" | "getHours"
        | "getMilliseconds" | "getMinutes" | "getMonth" | "getSeconds" => Some(0..=1),
        _ => None,
    }
}

/// Functions called as `optional.f()`.
fn optional_arity(name: &str) -> Option<RangeInclusive<usize>> {
    match name {
        "none" => Some(0..=0),
        "of" | "ofNonZeroValue" => Some(1..=1),
        _ => None,
    }
}

/// Walks one expression with the names its loops have introduced so far.
pub(super) struct Names<'e> {
    /// Where each node was written, for errors.
    pub offset: &'e dyn Fn(u64) -> usize,
    pub loop_names: Vec<&'e str>,
    pub loops_open: usize,
}

impl<'e> Names<'e> {
    pub fn check(&mut self, expr: &'e IdedExpr) -> Result<(), Flaw> {
        match &expr.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.ident(expr.id, name),
            Expr::Select(select) => self.check(&select.operand),
            Expr::Call(call) => self.call(expr.id, call),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.check(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => self.check(&entry.key).and_then(|()| self.check(&entry.value)),
                EntryExpr::StructField(field) => self.check(&field.value),
            }),
            Expr::Comprehension(loops) => self.comprehension(expr.id, loops),
            Expr::Struct(message) => {
                Err(self
                    .flaw(expr.id, format!("there is no message type {}; write {{\"key\": value}}", message.type_name)))
            }
            Expr::Unspecified => Err(self.flaw(expr.id, "the expression is not complete")),
        }
    }

    fn ident(&self, id: u64, name: &str) -> Result<(), Flaw> {
        let absolute = name.strip_prefix('.');
        let root = ROOT_NAMES.contains(&absolute.unwrap_or(name));
        // Names that begin with @ or # are the macros' own; nobody can write them.
        let local = self.loop_names.contains(&name) || name.starts_with(['@', '#']) || TYPE_NAMES.contains(&name);
        if root || local {
            Ok(())
        } else {
            Err(self.flaw(id, format!("unknown name `{name}`; there are {}", ROOT_NAMES.join(", "))))
        }
    }

    fn call(&mut self, id: u64, call: &'e CallExpr) -> Result<(), Flaw> {
        let name = call.func_name.as_str();
        let is_optional = |target: &IdedExpr| target.expr == Expr::Ident("optional".into());
        let arity = match call.target.as_deref() {
            Some(target) if is_optional(target) => optional_arity(name),
            Some(_) => member_arity(name),
            None if name.starts_with(['_', '@', '!', '-']) => Some(call.args.len()..=call.args.len()),
            None => global_arity(name),
        };
        let arity = arity.ok_or_else(|| self.flaw(id, unknown_function(name)))?;
        if !arity.contains(&call.args.len()) {
            return Err(self.flaw(id, format!("{name}() takes {} arguments, not {}", span(&arity), call.args.len())));
        }
        if let Some(target) = call.target.as_deref().filter(|target| !is_optional(target)) {
            self.check(target)?;
        }
        call.args.iter().try_for_each(|arg| self.check(arg))
    }

    fn comprehension(&mut self, id: u64, loops: &'e ComprehensionExpr) -> Result<(), Flaw> {
        self.check(&loops.iter_range)?;
        self.check(&loops.accu_init)?;
        // optMap is a loop over nothing that only gives a value a name.
        let is_loop = loops.iter_var != "#unused";
        self.loops_open += usize::from(is_loop);
        if self.loops_open > LOOPS_NESTED_MAX {
            return Err(self.flaw(id, format!("all, exists, map and filter nest at most {LOOPS_NESTED_MAX} deep")));
        }
        self.loop_names.extend([loops.iter_var.as_str(), loops.accu_var.as_str()]);
        [&loops.loop_cond, &loops.loop_step, &loops.result].into_iter().try_for_each(|part| self.check(part))?;
        self.loop_names.truncate(self.loop_names.len() - 2);
        self.loops_open -= usize::from(is_loop);
        Ok(())
    }

    fn flaw(&self, id: u64, detail: impl std::fmt::Display) -> Flaw {
        Flaw::new((self.offset)(id), detail)
    }
}

fn span(arity: &RangeInclusive<usize>) -> String {
    if arity.start() == arity.end() {
        arity.start().to_string()
    } else {
        format!("{} to {}", arity.start(), arity.end())
    }
}

fn unknown_function(name: &str) -> String {
    match name {
        "has" => "has() takes one selection, as in has(input.amount)".into(),
        name if LOOP_MACROS.contains(&name) => {
            format!("{name}() follows a list and takes a name and an expression, as in input.items.{name}(x, x.ok)")
        }
        name => format!("there is no function {name}()"),
    }
}
