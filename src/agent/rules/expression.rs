//! One CEL expression: guarded, parsed, checked and rewritten when it is configured; run against a scene later.
use super::Facts;
use super::budget::{self, Budget};
use super::failure::{self, Trouble};
use super::meter::{Meter, weight};
use super::names::Names;
use super::paths::{Reads, collect_paths};
use super::patterns::Patterns;
use super::syntax::{Flaw, check_depth};
use super::value::from_json;
use cel::common::ast::IdedExpr;
use cel::common::types::CelTimestamp;
use cel::common::value::CowVal;
use cel::{Context, Env, ExecutionError, Program, Value};
use std::sync::{Arc, LazyLock};

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Characters of all expressions of one rule set together: some hundred rules, parsed within a second.
pub const SOURCE_CHARS_MAX: usize = 100_000;

/// What the expressions of one rule set share while they are compiled.
#[derive(Debug)]
pub(super) struct Compiler {
    pub patterns: Patterns,
    chars_left: usize,
}

impl Compiler {
    pub fn new() -> Self {
        Self { patterns: Patterns::default(), chars_left: SOURCE_CHARS_MAX }
    }

    fn admit(&mut self, source: &str) -> Result<(), Flaw> {
        let left = self.chars_left.checked_sub(source.chars().count());
        self.chars_left = left.ok_or_else(|| {
            Flaw::new(0, format!("all expressions together have more than {SOURCE_CHARS_MAX} characters"))
        })?;
        Ok(())
    }
}

/// What an expression runs in: the facts by their names, and the budget that all expressions of one evaluation share.
pub(super) struct Scene<'v> {
    context: Context<'v, 'v>,
    pub budget: Budget,
}

impl<'v> Scene<'v> {
    pub fn new(facts: &Facts<'v>, patterns: &Arc<Patterns>) -> Self {
        let mut context = Context::with_env(Arc::clone(&STANDARD));
        context.add_variable_as_val("input", from_json(facts.input));
        context.add_variable_as_val("task", from_json(facts.task));
        context.add_variable_as_val("agent", from_json(facts.agent));
        context.add_variable_as_val("now", Box::new(CelTimestamp::from(facts.now.fixed_offset())));
        let budget = Budget::new();
        budget::install(&mut context, &budget, patterns).expect("no standard function has a name that begins with @");
        Self { context, budget }
    }
}

/// A checked expression.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    /// As it was written, for errors.
    written: IdedExpr,
    /// As it runs.
    metered: IdedExpr,
    weight: u64,
}

impl Expression {
    /// # Errors
    /// The first thing that is wrong with the expression, and where.
    pub fn compile(source: &str, compiler: &mut Compiler) -> Result<Self, Flaw> {
        check_depth(source)?;
        compiler.admit(source)?;
        let program = parse(source)?;
        let offset = |id| program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize);
        let written = program.expression().clone();
        Names { offset: &offset, loop_names: Vec::new(), loops_open: 0 }.check(&written)?;
        let metered = Meter { patterns: &mut compiler.patterns, offset: &offset }.rewrite(written.clone())?;
        Ok(Self { weight: weight(&written), written, metered })
    }

    /// The plain paths in it.
    pub fn reads(&self) -> Reads {
        Reads::of(&self.written)
    }

    pub fn run<'e, 'v>(&'e self, scene: &'e Scene<'v>) -> Result<CowVal<'e, 'v>, Trouble> {
        let outcome = scene.budget.charge(self.weight).and_then(|()| Value::resolve_val(&self.metered, &scene.context));
        // An expression may swallow errors, but an answer found after the money ran out is not its answer.
        if scene.budget.is_spent() {
            return Err(Trouble::too_costly());
        }
        outcome.map_err(|error| failure::in_words(&error, |key| self.path_of_missing(key, scene)))
    }

    /// How the rule wrote the key that is missing, where that is a plain path such as `input.customer.name`.
    fn path_of_missing(&self, key: &str, scene: &Scene<'_>) -> Option<String> {
        let mut paths = Vec::new();
        collect_paths(&self.written, key, &mut paths);
        let missing = |expr: &IdedExpr| matches!(Value::resolve_val(expr, &scene.context), Err(ExecutionError::NoSuchKey(name)) if *name == key);
        let culprit = paths.iter().find(|(_, expr)| missing(expr)).or(paths.first());
        culprit.map(|(path, _)| path.clone())
    }
}

/// Parses what the depth check let through.
fn parse(source: &str) -> Result<Program, Flaw> {
    STANDARD.compile(source).map_err(|errors| {
        let is_syntax = |message: &str| message.starts_with("Syntax error");
        let first = errors.errors.iter().find(|error| is_syntax(&error.msg)).or(errors.errors.first());
        first.map_or_else(
            || Flaw::new(0, "not a valid expression"),
            |error| Flaw::new(offset_of(source, error.pos), parse_error_in_words(&error.msg)),
        )
    })
}

/// The parser counts lines and columns from 1, columns in characters.
fn offset_of(source: &str, (line, column): (isize, isize)) -> usize {
    let lines_before = usize::try_from(line - 1).unwrap_or(0);
    let before: usize = source.split_inclusive('\n').take(lines_before).map(|line| line.chars().count()).sum();
    before + usize::try_from(column - 1).unwrap_or(0)
}

fn parse_error_in_words(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    let quoted = message.split('\'').nth(1).unwrap_or_default();
    match message {
        m if m.contains("input '<EOF>'") => "the expression ends too early".into(),
        m if m.starts_with("mismatched input") || m.starts_with("extraneous input") => {
            format!("`{quoted}` does not belong here")
        }
        m if m.starts_with("no viable alternative") => "this cannot be read as an expression".into(),
        m if m.starts_with("token recognition") => "this character cannot be read".into(),
        m if m.starts_with("invalid string literal") || m.starts_with("invalid bytes literal") => {
            "this text holds an escape that is no character".into()
        }
        m if m.starts_with("Incomplete") => "the expression is not complete".into(),
        other => other.to_owned(),
    }
}
