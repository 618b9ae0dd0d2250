//! The `webhook` kind of agent: hands a task to somebody's HTTP address, and takes the answer at once or by a callback.
//!
//! What is sent carries the id of the step that it is for, the same in every attempt, so the receiver can tell a repetition. What
//! came of it is a step of the journal before it is anything else. The one repetition that cannot be excluded is that of a call
//! whose answer was not recorded any more.
use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

mod call;
pub mod callback;
mod judge;
mod signature;
mod token;

use super::{AgentHandler, KindDescription, ReferenceError, Run, RunError, TaskFailure};
use crate::{
    egress::{Egress, EgressError},
    error::FieldError,
    secrets::Secrets,
};
use callback::{Callbacks, Told};
use marvin_domain::secret::SecretName;

/// What steps of this kind are called.
const STEP_KIND: &str = "webhook";

/// Whom to call, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where tasks are sent by POST: https:// or http://, public unless the operator allows its network.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// The secret that calls are signed with (Standard Webhooks: whsec_ and a key in base64); unsigned without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub secret_name: Option<String>,
    /// Whether the answer to the call is the output, or comes later to the callback address that the call names.
    #[serde(default)]
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Sync,
    Callback,
}

/// The ways out of this process, and back in, that a call takes.
#[derive(Clone)]
pub struct Outside {
    pub egress: Egress,
    pub secrets: Secrets,
    pub callbacks: Arc<Callbacks>,
}

pub struct WebhookAgent {
    outside: Outside,
}

impl WebhookAgent {
    pub fn new(outside: Outside) -> Self {
        Self { outside }
    }

    fn read_config(&self, config: &Value) -> Result<WebhookConfig, Vec<FieldError>> {
        let Value::Object(fields) = config else { return Err(vec![FieldError::new("", "must be an object")]) };
        let mut errors = Vec::new();
        let unknown = fields.keys().filter(|field| !["url", "secret_name", "mode"].contains(&field.as_str()));
        errors.extend(unknown.map(|field| {
            let pointer = field.replace('~', "~0").replace('/', "~1");
            FieldError::new(format!("/{pointer}"), "is not known here")
        }));
        let refuse = |errors: &mut Vec<_>, field: &str, detail: String| {
            errors.push(FieldError::new(format!("/{field}"), detail));
        };
        let url = text(fields, "url").unwrap_or_default().unwrap_or_default();
        match self.outside.egress.check(url) {
            Ok(()) => {}
            Err(EgressError::Blocked) => {
                let detail = "is not public; whoever runs this server may allow its network with MARVIN_EGRESS_ALLOW";
                refuse(&mut errors, "url", detail.to_owned());
            }
            Err(error) => refuse(&mut errors, "url", error.to_string()),
        }
        let secret_name = match text(fields, "secret_name").map(|name| name.map(SecretName::parse)) {
            Ok(Some(Err(error))) => {
                refuse(&mut errors, "secret_name", error.to_string());
                None
            }
            Ok(name) => name.and_then(Result::ok),
            Err(()) => {
                refuse(&mut errors, "secret_name", "must be a text".to_owned());
                None
            }
        };
        let mode = match fields.get("mode").and_then(Value::as_str) {
            None if !fields.contains_key("mode") => Mode::Sync,
            Some("sync") => Mode::Sync,
            Some("callback") => Mode::Callback,
            _ => {
                refuse(&mut errors, "mode", "must be sync or callback".to_owned());
                Mode::Sync
            }
        };
        let secret_name = secret_name.map(String::from);
        if errors.is_empty() { Ok(WebhookConfig { url: url.to_owned(), secret_name, mode }) } else { Err(errors) }
    }

    /// The answer to the call is the output.
    async fn ask(&self, config: &WebhookConfig, run: &mut Run) -> Result<Value, RunError> {
        if let Some(output) = run.recorded() {
            return Ok(output);
        }
        let answer = call::send(&self.outside, config, run, None).await?;
        let output = judge::output(&answer)?;
        run.record(STEP_KIND, "answer", output.clone(), Vec::new()).await?;
        Ok(output)
    }

    /// The call is taken on, and answered later. Once it was taken on it is not made again, but for a round after an answer that
    /// asked for it: each round is two steps, the call and what was told of it.
    async fn hand_over(&self, config: &WebhookConfig, run: &mut Run) -> Result<Value, RunError> {
        let (callbacks, task) = (self.outside.callbacks.clone(), run.assignment.task_id);
        loop {
            let call = run.next_step();
            if run.recorded().is_none() {
                let answer = call::send(&self.outside, config, run, Some(callbacks.url(task, call))).await?;
                run.record(STEP_KIND, "accepted", json!({ "status": answer.status }), Vec::new()).await?;
            }
            let told = callbacks.wait(task, call + 1).await?;
            run.pass_step();
            match told {
                Told::Output(output) => return Ok(output),
                Told::Failed { failure, is_acted_on: false } => return Err(failure.into()),
                Told::Failed { .. } => {}
            }
        }
    }
}

/// A text, if the field is there and not null.
fn text<'a>(fields: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, ()> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(()),
    }
}

#[async_trait]
impl AgentHandler for WebhookAgent {
    fn describe(&self) -> KindDescription {
        let any = |what: &str| json!({ "description": what });
        KindDescription {
            kind: "webhook",
            title: "Webhook",
            description: "Hands tasks to an address of yours and takes its answer, at once or by a callback.",
            config_schema: schema_for!(WebhookConfig).to_value(),
            input_schema: any("Any JSON value: the receiver gets it as it is."),
            output_schema: any("What the receiver answers, as it is."),
            can_try: false,
        }
    }

    fn check_config(&self, config: &Value) -> Result<(), Vec<FieldError>> {
        self.read_config(config).map(drop)
    }

    async fn check_references(&self, config: &Value) -> Result<(), ReferenceError> {
        let config = self.read_config(config).map_err(ReferenceError::Refused)?;
        let Some(name) = config.secret_name else { return Ok(()) };
        let refused = |detail: &str| ReferenceError::Refused(vec![FieldError::new("/secret_name", detail)]);
        match signature::key(&self.outside.secrets, &name).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.retry => Err(ReferenceError::Unavailable(failure.message)),
            Err(failure) => Err(refused(&failure.message)),
        }
    }

    fn check_input(&self, _config: &Value, _input: &Value) -> Result<(), Vec<FieldError>> {
        Ok(())
    }

    async fn run(&self, run: &mut Run) -> Result<Value, RunError> {
        // An agent may have been made where more was allowed.
        let config = self.read_config(&run.assignment.config).map_err(|errors| {
            let first = errors.first().map(|error| format!("{} {}", error.pointer, error.detail)).unwrap_or_default();
            TaskFailure::lasting("webhook_blocked", format!("the agent's configuration cannot be used: {first}"))
        })?;
        match config.mode {
            Mode::Sync => self.ask(&config, run).await,
            Mode::Callback => self.hand_over(&config, run).await,
        }
    }
}
