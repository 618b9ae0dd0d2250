//! The `rules` agent's decisions: which rules match an input, and what they do. Pure: the same rules over the same facts decide the
//! same, without a clock, a network or a store; carrying actions out, and recording that they were, is the caller's.
//!
//! Conditions and the `{{ … }}` of texts are CEL. Whole numbers of the input are `int`, others `double`; the two compare and
//! calculate with each other, so `input.amount > 10` holds for 12 and for 12.5 (dividing two whole numbers drops the fraction).
//! `now` is a timestamp. A key that is missing, a type that does not fit or a division by zero fails the evaluation with the rule,
//! the place and the reason; `has(input.key)` asks first.
//!
//! Everything is bounded: expressions are refused when configured if too long or nested, and while they run they pay from one
//! budget for all they copy, compare and go through. It never quotes an input's values in a failure.
pub mod agent;
mod budget;
mod compile;
mod config;
mod evaluate;
mod expression;
mod failure;
#[cfg(test)]
mod limits_tests;
mod meter;
mod names;
mod paths;
mod patterns;
mod syntax;
mod template;
#[cfg(test)]
mod tests;
mod value;

pub use compile::compile;
pub use config::{ActionConfig, NotifyConfig, Recipient, Role, RuleConfig, RulesConfig, Severity, TaskConfig};
pub use evaluate::{Action, Evaluation, Explained};
pub use failure::{FailureCode, RuleFailure};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The compiled rules of one agent. Costs time to compile and none to keep: share it between tasks.
#[derive(Debug, Clone)]
pub struct RuleSet {
    rules: Vec<evaluate::Rule>,
    patterns: Arc<patterns::Patterns>,
}

/// What the rules see of one task.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub input: &'a Value,
    pub task: &'a Value,
    pub agent: &'a Value,
    pub now: DateTime<Utc>,
}

/// The input of a task: any JSON value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RulesInput(pub Value);

/// The output of a task: the names of the rules that matched, and the values of their output actions, both in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RulesOutput {
    pub matched: Vec<String>,
    pub outputs: Vec<Value>,
}
