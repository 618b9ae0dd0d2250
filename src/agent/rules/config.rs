//! How rules are written down, and how a configuration becomes these types with a pointer to everything that is wrong in it.
use super::template::escape_pointer;
use crate::error::FieldError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Rules of one agent: more than people can keep in mind, few enough to run at once.
pub const RULES_MAX: usize = 200;

/// Actions of one rule.
pub const ACTIONS_MAX: usize = 20;

/// Characters of a rule's name, as of every name in the API.
pub const NAME_CHARS_MAX: usize = 200;

/// Rules, tried in order; every rule whose `when` is true does what its `then` says.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(rename = "RulesConfig", deny_unknown_fields)]
pub struct RulesConfig<R = RuleConfig> {
    #[schemars(length(max = 200))]
    pub rules: Vec<R>,
}

/// One rule.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(rename = "Rule", deny_unknown_fields)]
pub struct RuleConfig<A = ActionConfig> {
    /// Unique among the rules of the agent.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// A CEL expression that is true or false; sees `input`, `task`, `agent` and `now`.
    #[schemars(length(min = 1, max = 4096))]
    pub when: String,
    #[schemars(length(max = 20))]
    pub then: Vec<A>,
}

/// What a rule does. Its texts may hold `{{ CEL }}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Action")]
pub enum ActionConfig {
    /// Tell somebody.
    Notify(NotifyConfig),
    /// Give another agent a task.
    Task(TaskConfig),
    /// Add a value to the output.
    Output(Value),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(rename = "Notify", deny_unknown_fields)]
pub struct NotifyConfig {
    pub to: Recipient,
    pub severity: Severity,
    pub title: String,
    pub body: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(rename = "Task", deny_unknown_fields)]
pub struct TaskConfig {
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub agent_id: Uuid,
    pub input: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Success,
    Warning,
    Critical,
}

/// The roles a notification may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Admin,
    Operator,
    Member,
    Auditor,
    Integrator,
}

impl Role {
    const ALL: [(&'static str, Role); 5] = [
        ("admin", Self::Admin),
        ("operator", Self::Operator),
        ("member", Self::Member),
        ("auditor", Self::Auditor),
        ("integrator", Self::Integrator),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, role)| *role == self).map_or("member", |(name, _)| name)
    }
}

/// Whom to notify: `requester`, a user's id, or `role:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = RECIPIENT_PATTERN))]
pub enum Recipient {
    Requester,
    User(Uuid),
    Role(Role),
}

const RECIPIENT_PATTERN: &str =
    "^(requester|role:(admin|operator|member|auditor|integrator)|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$";

impl TryFrom<String> for Recipient {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "requester" {
            return Ok(Self::Requester);
        }
        if let Some(name) = text.strip_prefix("role:") {
            let role = Role::ALL.iter().find(|(known, _)| *known == name);
            return role
                .map(|(_, role)| Self::Role(*role))
                .ok_or_else(|| "the roles are admin, operator, member, auditor and integrator".into());
        }
        // Only the written form with hyphens, as everywhere in the API.
        let id = Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
        id.map(Self::User).ok_or_else(|| "write requester, the id of a user, or role: and the name of a role".into())
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> String {
        match recipient {
            Recipient::Requester => "requester".into(),
            Recipient::User(id) => id.to_string(),
            Recipient::Role(role) => format!("role:{}", role.as_str()),
        }
    }
}

/// Reads a configuration whole, going on after an error so that all of them are told at once.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub errors: Vec<FieldError>,
}

impl Reader {
    pub fn refuse(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError::new(pointer, detail));
    }

    /// The rules with their pointers; a rule that cannot be read is left out.
    pub fn rules(&mut self, config: &Value) -> Vec<(String, RuleConfig<Value>)> {
        let Some(config) = self.part::<RulesConfig<Value>>(config, "", &["rules"]) else { return Vec::new() };
        if config.rules.len() > RULES_MAX {
            self.refuse("/rules", format!("an agent has at most {RULES_MAX} rules"));
            return Vec::new();
        }
        let pointed = config.rules.iter().enumerate().map(|(i, rule)| (format!("/rules/{i}"), rule));
        pointed
            .filter_map(|(pointer, rule)| {
                Some((pointer.clone(), self.part(rule, &pointer, &["name", "when", "then"])?))
            })
            .collect()
    }

    /// The actions of one rule with their pointers; an action that cannot be read is left out.
    pub fn actions(&mut self, rule: &RuleConfig<Value>, pointer: &str) -> Vec<(String, ActionConfig)> {
        if rule.then.len() > ACTIONS_MAX {
            self.refuse(format!("{pointer}/then"), format!("a rule has at most {ACTIONS_MAX} actions"));
            return Vec::new();
        }
        let pointed = rule.then.iter().enumerate().map(|(i, action)| (format!("{pointer}/then/{i}"), action));
        pointed.filter_map(|(pointer, action)| Some((pointer.clone(), self.action(action, &pointer)?))).collect()
    }

    fn action(&mut self, action: &Value, pointer: &str) -> Option<ActionConfig> {
        let single = action.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
        let Some((kind, value)) = single else {
            self.refuse(pointer, "an action is an object with one field: notify, task or output");
            return None;
        };
        let below = format!("{pointer}/{}", escape_pointer(kind));
        match kind.as_str() {
            "notify" => self.part(value, &below, &["to", "severity", "title", "body"]).map(ActionConfig::Notify),
            "task" => self.part(value, &below, &["agent_id", "input"]).map(ActionConfig::Task),
            "output" => Some(ActionConfig::Output(value.clone())),
            _ => {
                self.refuse(below, "an action is notify, task or output");
                None
            }
        }
    }

    /// One object with these fields and no others.
    fn part<T: DeserializeOwned>(&mut self, value: &Value, pointer: &str, fields: &[&str]) -> Option<T> {
        let Some(object) = value.as_object() else {
            self.refuse(pointer, format!("an object with {} is needed here", fields.join(", ")));
            return None;
        };
        for unknown in object.keys().filter(|key| !fields.contains(&key.as_str())) {
            self.refuse(
                format!("{pointer}/{}", escape_pointer(unknown)),
                format!("unknown field; there are {}", fields.join(", ")),
            );
        }
        let missing: Vec<&str> = fields.iter().copied().filter(|field| !object.contains_key(*field)).collect();
        if !missing.is_empty() {
            self.refuse(pointer, format!("missing: {}", missing.join(", ")));
            return None;
        }
        // Field by field, so that each wrong one is told.
        let wrong = |error: serde_path_to_error::Error<serde_json::Error>| {
            let path: String = error.path().iter().filter_map(segment).collect();
            FieldError::new(format!("{pointer}{path}"), error.into_inner().to_string())
        };
        serde_path_to_error::deserialize(value).map_err(|error| self.errors.push(wrong(error))).ok()
    }
}

fn segment(segment: &serde_path_to_error::Segment) -> Option<String> {
    use serde_path_to_error::Segment;
    match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(format!("/{}", escape_pointer(key))),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}
