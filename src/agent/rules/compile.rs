//! Turns a configuration into a rule set, or into everything that is wrong with it.
use super::RuleSet;
use super::config::{ActionConfig, NAME_CHARS_MAX, Reader, RuleConfig};
use super::evaluate::{CompiledAction, Rule};
use super::expression::{Compiler, Expression};
use super::syntax::Flaw;
use super::template::{Template, ValueTemplate};
use super::value::RESULT_DEPTH_MAX;
use crate::error::FieldError;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// Compiles everything at once, so that evaluating meets no expression that cannot be read.
///
/// # Errors
/// Each thing that is wrong, with a pointer into `config`; for an expression also with its column, counted from 1.
pub fn compile(config: &Value) -> Result<RuleSet, Vec<FieldError>> {
    let mut builder = Builder { reader: Reader::default(), compiler: Compiler::new() };
    let mut names = HashSet::new();
    let mut rules = Vec::new();
    for (pointer, rule) in builder.reader.rules(config) {
        builder.check_name(&rule.name, &pointer);
        if !names.insert(rule.name.clone()) {
            builder.reader.refuse(format!("{pointer}/name"), "another rule before this one has the same name");
        }
        rules.extend(builder.rule(&rule, &pointer));
    }
    if !builder.reader.errors.is_empty() {
        return Err(builder.reader.errors);
    }
    Ok(RuleSet { rules, patterns: Arc::new(builder.compiler.patterns) })
}

struct Builder {
    reader: Reader,
    compiler: Compiler,
}

impl Builder {
    fn check_name(&mut self, name: &str, pointer: &str) {
        let detail = if name.trim().is_empty() {
            "a rule needs a name".into()
        } else if name.chars().count() > NAME_CHARS_MAX {
            format!("a name has at most {NAME_CHARS_MAX} characters")
        } else if name.chars().any(char::is_control) {
            "a name has no control characters".into()
        } else {
            return;
        };
        self.reader.refuse(format!("{pointer}/name"), detail);
    }

    fn rule(&mut self, rule: &RuleConfig<Value>, pointer: &str) -> Option<Rule> {
        let when = self.expression(&rule.when, &format!("{pointer}/when"));
        let actions = self.reader.actions(rule, pointer);
        let then = actions.into_iter().filter_map(|(pointer, action)| self.action(action, &pointer)).collect();
        let when = when?;
        Some(Rule { name: rule.name.clone(), source: rule.when.clone(), reads: when.reads(), when, then })
    }

    fn action(&mut self, action: ActionConfig, pointer: &str) -> Option<CompiledAction> {
        match action {
            ActionConfig::Notify(notify) => {
                let title = self.text(&notify.title, &format!("{pointer}/notify/title"));
                let body = self.text(&notify.body, &format!("{pointer}/notify/body"));
                Some(CompiledAction::Notify { to: notify.to, severity: notify.severity, title: title?, body: body? })
            }
            ActionConfig::Task(task) => {
                let input = self.value(&task.input, format!("{pointer}/task/input"))?;
                Some(CompiledAction::Task { agent_id: task.agent_id, input })
            }
            ActionConfig::Output(value) => self.value(&value, format!("{pointer}/output")).map(CompiledAction::Output),
        }
    }

    fn expression(&mut self, source: &str, pointer: &str) -> Option<Expression> {
        Expression::compile(source, &mut self.compiler).map_err(|flaw| self.flaw(pointer, &flaw, source)).ok()
    }

    fn text(&mut self, text: &str, pointer: &str) -> Option<Template> {
        if text.trim().is_empty() {
            self.reader.refuse(pointer, "a text is needed here");
            return None;
        }
        let compiled = Template::compile(text, &mut self.compiler);
        compiled.map_err(|flaws| flaws.iter().for_each(|flaw| self.flaw(pointer, flaw, text))).ok()
    }

    fn value(&mut self, value: &Value, pointer: String) -> Option<ValueTemplate> {
        if depth(value) > RESULT_DEPTH_MAX {
            self.reader.refuse(pointer, format!("a value nests at most {RESULT_DEPTH_MAX} levels deep"));
            return None;
        }
        let compiled = ValueTemplate::compile(value, &pointer, &mut self.compiler);
        compiled.map_err(|flaws| flaws.iter().for_each(|(pointer, flaw, text)| self.flaw(pointer, flaw, text))).ok()
    }

    fn flaw(&mut self, pointer: &str, flaw: &Flaw, text: &str) {
        self.reader.refuse(pointer, flaw.in_words(text));
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
