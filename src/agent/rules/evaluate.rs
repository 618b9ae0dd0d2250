//! Runs a rule set over the facts of one task: which rules match, and what they do, rendered and ready to be recorded.
use super::config::{Recipient, Severity};
use super::expression::{Expression, Scene};
use super::failure::{RuleFailure, Trouble};
use super::paths::Reads;
use super::template::{Template, ValueTemplate};
use super::value::{RESULT_BYTES_MAX, Room, too_large};
use super::{Facts, RuleSet, RulesOutput};
use cel::common::types::CelBool;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Characters of a notification's title after rendering; longer ones are cut.
pub const TITLE_CHARS_MAX: usize = 200;

/// Characters of a notification's body after rendering; longer ones are cut.
pub const BODY_CHARS_MAX: usize = 4_000;

/// What a rule does, compiled.
#[derive(Debug, Clone)]
pub(super) enum CompiledAction {
    Notify { to: Recipient, severity: Severity, title: Template, body: Template },
    Task { agent_id: Uuid, input: ValueTemplate },
    Output(ValueTemplate),
}

/// One rule, compiled.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub name: String,
    /// The condition as it was written.
    pub source: String,
    pub reads: Reads,
    pub when: Expression,
    pub then: Vec<CompiledAction>,
}

/// What the rules decided. It is complete: recorded once, its actions can be carried out again without evaluating again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub matched: Vec<String>,
    pub outputs: Vec<Value>,
    pub actions: Vec<Action>,
    /// Why each rule matched, or did not, in order. Left out where it would not fit, and by programs that did not tell it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explanation: Vec<Explained>,
}

/// Whether a rule matched: its condition, and what that looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    pub rule: String,
    pub matched: bool,
    pub when: String,
    /// By path, such as `input.total`: the value; of a list `{"items": 3}`, of an object `{"fields": 2}`, and of what is not there
    /// `{"missing": true}`.
    pub read: Map<String, Value>,
}

/// Something to do outside, with every text rendered; in the order of the rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Notify { to: Recipient, severity: Severity, title: String, body: String },
    Task { agent_id: Uuid, input: Value },
}

impl Evaluation {
    /// The output of the agent's task.
    pub fn output(&self) -> RulesOutput {
        RulesOutput { matched: self.matched.clone(), outputs: self.outputs.clone() }
    }
}

impl RuleSet {
    /// Tries every rule in order. The same facts always give the same evaluation.
    ///
    /// # Errors
    /// The first rule that fails, its place and why; nothing of the evaluation counts then. Costs at most about a second.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Result<Evaluation, RuleFailure> {
        let mut evaluation = Evaluation::default();
        let mut explanation = Vec::new();
        if self.rules.is_empty() {
            return Ok(evaluation);
        }
        let scene = Scene::new(facts, &self.patterns);
        let mut room = Room::new();
        for rule in &self.rules {
            let matched = matches(&rule.when, &scene).map_err(|trouble| trouble.at(&rule.name, "when"))?;
            explanation.push(Explained {
                rule: rule.name.clone(),
                matched,
                when: rule.source.clone(),
                read: rule.reads.look(facts),
            });
            if !matched {
                continue;
            }
            room.take(rule.name.len()).map_err(|trouble| trouble.at(&rule.name, "name"))?;
            evaluation.matched.push(rule.name.clone());
            for (i, action) in rule.then.iter().enumerate() {
                let run = perform(action, &scene, &mut room, &format!("then/{i}"), &mut evaluation);
                run.map_err(|(place, trouble)| trouble.at(&rule.name, &place))?;
            }
            check_size(&evaluation).map_err(|trouble| trouble.at(&rule.name, "then"))?;
        }
        evaluation.explanation = explanation;
        if check_size(&evaluation).is_err() {
            evaluation.explanation.clear();
        }
        Ok(evaluation)
    }
}

fn matches(when: &Expression, scene: &Scene<'_>) -> Result<bool, Trouble> {
    let answer = when.run(scene)?;
    let boolean = answer.downcast_ref::<CelBool>().map(|boolean| *boolean.inner());
    boolean.ok_or_else(|| {
        Trouble::failed(format!(
            "the condition must be true or false, not a value of type {}",
            answer.get_type().name()
        ))
    })
}

fn perform(
    action: &CompiledAction,
    scene: &Scene<'_>,
    room: &mut Room,
    place: &str,
    evaluation: &mut Evaluation,
) -> Result<(), (String, Trouble)> {
    match action {
        CompiledAction::Notify { to, severity, title, body } => {
            let at = |field: &str| format!("{place}/notify/{field}");
            let title =
                title.render(scene, room).and_then(|text| title_of(&text)).map_err(|trouble| (at("title"), trouble))?;
            let body = body
                .render(scene, room)
                .map(|text| cut(&text, BODY_CHARS_MAX, is_unprintable))
                .map_err(|trouble| (at("body"), trouble))?;
            room.take(title.len() + body.len()).map_err(|trouble| (place.to_owned(), trouble))?;
            evaluation.actions.push(Action::Notify { to: to.clone(), severity: *severity, title, body });
        }
        CompiledAction::Task { agent_id, input } => {
            let input = input.render(scene, room, &format!("{place}/task/input"))?;
            evaluation.actions.push(Action::Task { agent_id: *agent_id, input });
        }
        CompiledAction::Output(value) => {
            evaluation.outputs.push(value.render(scene, room, &format!("{place}/output"))?)
        }
    }
    Ok(())
}

fn title_of(text: &str) -> Result<String, Trouble> {
    let title = cut(text.trim(), TITLE_CHARS_MAX, char::is_control);
    if title.is_empty() { Err(Trouble::failed("the title came out empty")) } else { Ok(title) }
}

/// Lines and tabs belong into a body; other control characters come from the input and would only garble it.
fn is_unprintable(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// At most `chars_max` characters, the last of them an ellipsis where more were cut; what is `unwanted` becomes a space.
fn cut(text: &str, chars_max: usize, unwanted: impl Fn(char) -> bool) -> String {
    let printable = |c: char| if unwanted(c) { ' ' } else { c };
    if text.chars().nth(chars_max).is_none() {
        return text.chars().map(printable).collect();
    }
    text.chars().take(chars_max - 1).map(printable).chain(['…']).collect()
}

/// The room is an estimate while rendering; this is the size that counts, as it will be recorded.
fn check_size(evaluation: &Evaluation) -> Result<(), Trouble> {
    let size = serde_json::to_vec(evaluation).map(|bytes| bytes.len());
    if size.is_ok_and(|size| size <= RESULT_BYTES_MAX) { Ok(()) } else { Err(too_large()) }
}
