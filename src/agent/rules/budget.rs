//! What one evaluation may cost, and the functions through which a rewritten expression pays. Their names begin with `@`, which
//! nobody can write in an expression.
use super::failure::{BUDGET_FUNCTION, WORDS_FUNCTION};
use super::patterns::Patterns;
use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelOptional, CelString, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::{Context, DeclarationError, ExecutionError, FunctionContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Units one evaluation of a whole rule set may cost. A unit is one step, one value looked at or 8 bytes of text, and took 0.2 µs
/// in a debug build: an evaluation ends within about a second. 100,000 items may be gone through once or twice, 10,000 often.
pub const COST_UNITS_MAX: u64 = 5_000_000;

/// Bytes of text that cost one unit: copying and comparing them is that much cheaper than a step.
const TEXT_BYTES_PER_UNIT: usize = 8;

pub(super) const COST: &str = "@cost";
pub(super) const HEAD: &str = "@head";
pub(super) const KEY: &str = "@key";
pub(super) const EACH: &str = "@each";
pub(super) const MATCHES: &str = "@matches";
pub(super) const ADD: &str = "@add";
pub(super) const SUB: &str = "@sub";
pub(super) const MUL: &str = "@mul";
pub(super) const DIV: &str = "@div";
pub(super) const MOD: &str = "@mod";

type Outcome<'c, 'v> = Result<CowVal<'c, 'v>, ExecutionError>;

/// What is left. Once spent it stays spent, so an expression that swallows the error, as `||` may, still ends at once.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(COST_UNITS_MAX)))
    }

    pub fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    pub fn charge(&self, units: u64) -> Result<(), ExecutionError> {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(units);
        self.0.store(left, Ordering::Relaxed);
        if left == 0 { Err(ExecutionError::function_error(BUDGET_FUNCTION, "spent")) } else { Ok(()) }
    }

    /// Charges for a value and all that it holds; stops counting when the budget is spent.
    pub fn charge_deep(&self, value: &dyn Val) -> Result<(), ExecutionError> {
        self.charge_head(value)?;
        if let Some(list) = value.downcast_ref::<CelList>() {
            list.inner().iter().try_for_each(|item| self.charge_deep(item.as_ref()))
        } else if let Some(map) = value.downcast_ref::<CelMap>() {
            map.inner().iter().try_for_each(|(key, value)| {
                self.charge_head(key.inner())?;
                self.charge_deep(value.as_ref())
            })
        } else if let Some(inner) = value.downcast_ref::<CelOptional>().and_then(CelOptional::option) {
            self.charge_deep(inner)
        } else {
            Ok(())
        }
    }

    /// Charges for a value without what a list or an object holds.
    fn charge_head(&self, value: &dyn Val) -> Result<(), ExecutionError> {
        let text = value.downcast_ref::<CelString>().map(|text| text.inner().len());
        let bytes = text.or_else(|| value.downcast_ref::<CelBytes>().map(|bytes| bytes.inner().len()));
        self.charge(1 + (bytes.unwrap_or(0) / TEXT_BYTES_PER_UNIT) as u64)
    }
}

/// Makes the paying functions known to `context`.
pub(super) fn install(
    context: &mut Context<'_, '_>,
    budget: &Budget,
    patterns: &Arc<Patterns>,
) -> Result<(), DeclarationError> {
    let mut add = |name: &'static str,
                   run: for<'c, 'v> fn(&Budget, &Patterns, Vec<CowVal<'c, 'v>>) -> Outcome<'c, 'v>| {
        let (budget, patterns) = (budget.clone(), Arc::clone(patterns));
        let function: Box<dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> + Send + Sync> =
            Box::new(move |call| run(&budget, &patterns, std::mem::take(&mut call.args)));
        context.add_function(name, function)
    };
    add(COST, |budget, _, args| pass(args, |value| budget.charge_deep(value)))?;
    add(HEAD, |budget, _, args| pass(args, |value| budget.charge_head(value)))?;
    add(KEY, |budget, _, args| pass(args, |value| charge_key(budget, value)))?;
    add(EACH, |budget, _, args| each(budget, args))?;
    add(MATCHES, matches)?;
    add(ADD, |budget, _, args| {
        arithmetic(budget, args, |a, b| Some(a.as_adder()?.add(b).map(CowVal::into_owned)), "_+_")
    })?;
    add(SUB, |budget, _, args| {
        arithmetic(budget, args, |a, b| Some(a.as_subtractor()?.sub(b).map(CowVal::into_owned)), "_-_")
    })?;
    add(MUL, |budget, _, args| {
        arithmetic(budget, args, |a, b| Some(a.as_multiplier()?.mul(b).map(CowVal::into_owned)), "_*_")
    })?;
    add(DIV, |budget, _, args| {
        arithmetic(budget, args, |a, b| Some(a.as_divider()?.div(b).map(CowVal::into_owned)), "_/_")
    })?;
    add(MOD, |budget, _, args| {
        arithmetic(budget, args, |a, b| Some(a.as_modder()?.modulo(b).map(CowVal::into_owned)), "_%_")
    })
}

/// Charges for the only argument and hands it back as it came.
fn pass<'c, 'v>(args: Vec<CowVal<'c, 'v>>, charge: impl Fn(&dyn Val) -> Result<(), ExecutionError>) -> Outcome<'c, 'v> {
    let [value] = take(args)?;
    charge(value.as_ref())?;
    Ok(value)
}

/// The evaluator copies the whole list into its error about a fractional position, so such a position never gets there.
fn charge_key(budget: &Budget, key: &dyn Val) -> Result<(), ExecutionError> {
    if key.downcast_ref::<CelDouble>().is_some_and(|double| double.inner().fract() != 0.0) {
        return Err(ExecutionError::function_error(WORDS_FUNCTION, "a position or key must be a whole number"));
    }
    budget.charge_deep(key)
}

/// Charges for going through a list or an object, `round` units and a copy of the item each time. An object is gone through by its
/// keys in order, so that the same input gives the same answer.
fn each<'c, 'v>(budget: &Budget, args: Vec<CowVal<'c, 'v>>) -> Outcome<'c, 'v> {
    let [items, round] = take(args)?;
    budget.charge_deep(items.as_ref())?;
    let count = items.as_sizer().map_or(0, |sizer| *sizer.size().inner()).unsigned_abs();
    let round = round.downcast_ref::<CelInt>().map_or(1, |round| round.inner().unsigned_abs());
    budget.charge(count.saturating_mul(round))?;
    let Some(map) = items.downcast_ref::<CelMap>() else { return Ok(items) };
    let mut keys: Vec<_> = map.inner().keys().cloned().collect();
    keys.sort();
    let keys: Vec<Box<dyn Val + 'v>> = keys.iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}

fn matches<'c, 'v>(budget: &Budget, patterns: &Patterns, args: Vec<CowVal<'c, 'v>>) -> Outcome<'c, 'v> {
    let [text, number] = take(args)?;
    let pattern = number.downcast_ref::<CelInt>().and_then(|number| patterns.get(*number.inner()));
    let (Some(text), Some(pattern)) = (text.downcast_ref::<CelString>(), pattern) else {
        let types = vec![text.get_type().name().to_owned(), "string".to_owned()];
        return Err(ExecutionError::no_such_overload("matches", types));
    };
    budget.charge((text.inner().len() as u64).saturating_mul(pattern.units_per_byte).saturating_add(1))?;
    Ok(CowVal::owned(CelBool::from(pattern.regex.is_match(text.inner()))))
}

type Operation = for<'v> fn(&(dyn Val + 'v), &(dyn Val + 'v)) -> Option<Result<Box<dyn Val + 'v>, ExecutionError>>;

/// Charges for both operands and applies the operator. JSON knows one kind of number and writes 12 for 12.0, so a whole number
/// that meets a fractional one counts as fractional here, where CEL itself would refuse.
fn arithmetic<'c, 'v>(
    budget: &Budget,
    args: Vec<CowVal<'c, 'v>>,
    operation: Operation,
    operator: &str,
) -> Outcome<'c, 'v> {
    let [left, right] = take(args)?;
    budget.charge_deep(left.as_ref())?;
    budget.charge_deep(right.as_ref())?;
    let left_is_double = left.downcast_ref::<CelDouble>().is_some();
    let right_is_double = right.downcast_ref::<CelDouble>().is_some();
    let left = if right_is_double { as_double(left) } else { left };
    let right = if left_is_double { as_double(right) } else { right };
    let mismatch = || {
        let types = vec![left.get_type().name().to_owned(), right.get_type().name().to_owned()];
        ExecutionError::no_such_overload(operator, types)
    };
    operation(left.as_ref(), right.as_ref()).ok_or_else(mismatch)?.map(CowVal::Owned)
}

fn as_double<'c, 'v>(value: CowVal<'c, 'v>) -> CowVal<'c, 'v> {
    let int = value.downcast_ref::<CelInt>().map(|int| *int.inner() as f64);
    let number = int.or_else(|| value.downcast_ref::<CelUInt>().map(|uint| *uint.inner() as f64));
    number.map_or(value, |number| CowVal::owned(CelDouble::from(number)))
}

fn take<'c, 'v, const N: usize>(args: Vec<CowVal<'c, 'v>>) -> Result<[CowVal<'c, 'v>; N], ExecutionError> {
    let given = args.len();
    args.try_into().map_err(|_| ExecutionError::invalid_argument_count(N, given))
}
