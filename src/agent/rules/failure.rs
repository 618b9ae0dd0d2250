//! Why an evaluation stopped, in words a person can act on. Never quotes a value: a failure is kept where the input may not be.
use cel::ExecutionError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Marks an error of the metering functions as spent budget; cannot be written in an expression.
pub(super) const BUDGET_FUNCTION: &str = "@budget";
/// Marks an error of the metering functions whose message is already in words.
pub(super) const WORDS_FUNCTION: &str = "@words";

/// What kind of failure it was; the `code` of the task's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The rule and the input do not go together: a key is missing, a type is wrong. Repeating fails again.
    RuleFailed,
    /// The rule would take too long over an input of this size.
    RuleTooCostly,
    /// The rules produced more than one result may hold.
    ResultTooLarge,
}

impl FailureCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RuleFailed => "rule_failed",
            Self::RuleTooCostly => "rule_too_costly",
            Self::ResultTooLarge => "result_too_large",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An evaluation stopped; nothing of it counts. `place` is within the rule: `when`, or `then/0/notify/body`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule \"{rule}\", {place}: {reason}")]
pub struct RuleFailure {
    pub code: FailureCode,
    pub rule: String,
    pub place: String,
    pub reason: String,
}

/// A failure that does not yet know which rule it happened in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub code: FailureCode,
    pub reason: String,
}

impl Trouble {
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { code: FailureCode::RuleFailed, reason: reason.into() }
    }

    pub fn too_costly() -> Self {
        let reason = "this would take too long over an input of this size; go through fewer items or nest fewer all, exists, map and filter";
        Self { code: FailureCode::RuleTooCostly, reason: reason.into() }
    }

    pub fn too_large(reason: impl Into<String>) -> Self {
        Self { code: FailureCode::ResultTooLarge, reason: reason.into() }
    }

    pub fn at(self, rule: &str, place: &str) -> RuleFailure {
        RuleFailure { code: self.code, rule: rule.into(), place: place.into(), reason: self.reason }
    }
}

/// Puts an error of the evaluator into words. `key_path` finds how the rule wrote a key that is missing.
pub(super) fn in_words(error: &ExecutionError, key_path: impl Fn(&str) -> Option<String>) -> Trouble {
    let reason = match error {
        ExecutionError::FunctionError { function, .. } if function == BUDGET_FUNCTION => return Trouble::too_costly(),
        ExecutionError::FunctionError { function, message } if function == WORDS_FUNCTION => message.clone(),
        ExecutionError::FunctionError { function, .. } => function_in_words(function),
        ExecutionError::NoSuchKey(key) => match key_path(key) {
            Some(path) => format!("unknown key `{path}`; has({path}) tells whether it is there"),
            None => "a key that was asked for is not there".into(),
        },
        ExecutionError::NoSuchOverload(overload) => mismatch(overload.function(), overload.argument_types()),
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            mismatch(operator, &[left.type_of().to_string(), right.type_of().to_string()])
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("a value of type {} cannot be compared with one of type {}", left.type_of(), right.type_of())
        }
        ExecutionError::UnexpectedType { want, .. } if want == "iterable" => {
            "only a list or an object can be gone through".into()
        }
        ExecutionError::UnexpectedType { got, want } => {
            format!("a value of type {want} is needed here, not of type {}", plain_type(got))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".into(),
        ExecutionError::Overflow(..) => "a number or a time leaves the range it can have".into(),
        ExecutionError::IndexOutOfBounds(_) => "a list has no element at the position asked for".into(),
        ExecutionError::DuplicateKey(_) => "an object is given the same key twice".into(),
        ExecutionError::UnsupportedKeyType(_) => "only texts, whole numbers and booleans can be keys".into(),
        ExecutionError::UndeclaredReference(name) => format!("unknown name `{name}`"),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("{expected} arguments are needed, {actual} were given")
        }
        _ => "the values do not go together with what is done to them".into(),
    };
    Trouble::failed(reason)
}

fn mismatch(function: &str, types: &[String]) -> String {
    let types: Vec<&str> = types.iter().map(|name| plain_type(name)).collect();
    match (function, types.as_slice()) {
        ("_._" | "_[_]", [owner, ..]) => format!("a value of type {owner} has nothing inside to select"),
        ("_&&_" | "_||_" | "!_", _) => "&&, || and ! need true or false on both sides".into(),
        (operator, [left, right]) if operator_sign(operator).is_some() => {
            format!("{} cannot be applied to {left} and {right}", operator_sign(operator).unwrap_or_default())
        }
        ("-_", [only]) => format!("- cannot be applied to {only}"),
        (name, types) => format!("{name}() cannot be applied to ({})", types.join(", ")),
    }
}

fn operator_sign(function: &str) -> Option<&str> {
    match function {
        "add" => Some("+"),
        "sub" => Some("-"),
        "mul" => Some("*"),
        "div" => Some("/"),
        "rem" => Some("%"),
        "@in" => Some("in"),
        _ => function.strip_prefix('_')?.strip_suffix('_'),
    }
}

fn plain_type(name: &str) -> &str {
    match name {
        "null_type" => "null",
        "google.protobuf.Timestamp" => "timestamp",
        "google.protobuf.Duration" => "duration",
        other => other,
    }
}

fn function_in_words(function: &str) -> String {
    match function {
        "timestamp" => "timestamp() needs a time such as 2026-11-22T09:30:00Z, between the years 1 and 9999".into(),
        "duration" => "duration() needs a span such as 90s, 15m or 24h, below 292 years".into(),
        "timezone" => "that time zone is not known; write Europe/Vienna, or an offset such as +01:00".into(),
        "value" => "the optional value is not there; orValue(…) gives it a default".into(),
        "int" | "uint" | "double" | "bool" | "string" => format!("{function}() was given something it cannot convert"),
        other => format!("{other}() failed on this value"),
    }
}
