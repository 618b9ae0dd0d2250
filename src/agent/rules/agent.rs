//! The `rules` kind of agent: decides once, records the decision, then carries out each action as a step of its own.
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use marvin_domain::{Misfit, user::Standing};
use marvin_projections::users::Users;
use moka::sync::Cache;
use schemars::schema_for;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

use super::{
    Action, Evaluation, Facts, Recipient, RuleFailure, RuleSet, RulesConfig, RulesInput, RulesOutput, Severity, compile,
};
use crate::{
    agent::{AgentHandler, KindDescription, Run, RunError, TaskFailure, Trial, Tried, compute, run::Effect},
    error::FieldError,
    time::rfc3339,
    views::{Filter, ListQuery, Order, PAGE_DOCUMENTS_MAX, query::Views},
};

/// People that one action may notify: an append holds all of their notifications.
const RECIPIENTS_MAX: usize = 1_000;

/// Bytes of configurations, as JSON, whose compiled rules are kept. Compiling takes longer than most evaluations.
const KEPT_BYTES_MAX: u64 = 1024 * 1024;

/// What somebody wrote is kept no longer than their key is, should they be erased.
const KEPT_FOR: Duration = Duration::from_secs(1);

pub struct RulesAgent {
    views: Views,
    /// By configuration.
    compiled: Cache<String, Arc<RuleSet>>,
}

impl RulesAgent {
    /// `views` tells who holds a role.
    pub fn new(views: Views) -> Self {
        let weight = |config: &String, _: &Arc<RuleSet>| u32::try_from(config.len()).unwrap_or(u32::MAX);
        let compiled = Cache::builder().weigher(weight).max_capacity(KEPT_BYTES_MAX).time_to_live(KEPT_FOR).build();
        Self { views, compiled }
    }

    /// Compiles and evaluates off the async threads: a rule may take up to a second.
    async fn evaluated(
        &self,
        config: &Value,
        input: Value,
        task: Value,
        agent: Value,
        now: DateTime<Utc>,
    ) -> Result<Evaluation, TaskFailure> {
        let (compiled, config) = (self.compiled.clone(), config.to_string());
        compute(move || {
            let rules = compiled_once(&compiled, config)?;
            Ok(rules.evaluate(&Facts { input: &input, task: &task, agent: &agent, now })?)
        })
        .await?
    }

    async fn recipients(&self, to: &Recipient, run: &Run) -> Result<Vec<Uuid>, TaskFailure> {
        match to {
            Recipient::Requester => Ok(vec![run.assignment.requested_by]),
            Recipient::User(id) if run.standing(*id).await? == Standing::Active => Ok(vec![*id]),
            Recipient::User(id) => Err(TaskFailure::lasting("unknown_recipient", format!("there is no user {id}"))),
            Recipient::Role(role) => self.holders(role.as_str()).await,
        }
    }

    async fn holders(&self, role: &str) -> Result<Vec<Uuid>, TaskFailure> {
        let unavailable = |error: crate::views::ViewError| TaskFailure::passing("views_unavailable", error.to_string());
        let (mut holders, mut before) = (Vec::new(), None);
        loop {
            let filters = vec![Filter::is("status", "active")];
            let query = ListQuery { filters, order: Order::Newest, before, limit: PAGE_DOCUMENTS_MAX };
            let users = self.views.list::<Users>(query).await.map_err(unavailable)?.documents;
            let Some(last) = users.last() else { return Ok(holders) };
            before = Some(last.id);
            holders.extend(
                users.iter().filter(|user| user.roles.iter().any(|held| held.as_str() == role)).map(|user| user.id),
            );
            if holders.len() > RECIPIENTS_MAX {
                let message = format!("more than {RECIPIENTS_MAX} people hold the role {role}");
                return Err(TaskFailure::lasting("too_many_recipients", message));
            }
        }
    }

    async fn carry_out(&self, action: Action, run: &mut Run) -> Result<(), RunError> {
        match action {
            Action::Notify { to, severity, title, body } => {
                let recipients = self.recipients(&to, run).await?;
                let result = json!({ "recipients": recipients.len() });
                let effect = |recipient| Effect::Notify {
                    recipient,
                    severity: severity.into(),
                    title: title.clone(),
                    body: body.clone(),
                };
                let effects = recipients.into_iter().map(effect).collect();
                run.record("notify", "Send a notification", result, effects).await
            }
            Action::Task { agent_id, input } => {
                let max_attempts = run.check_submission(agent_id, &input).await?;
                let effect = Effect::Submit { agent_id, input, max_attempts };
                run.record("task", "Start a task", json!({ "agent_id": agent_id }), vec![effect]).await
            }
        }
    }
}

fn compiled_once(kept: &Cache<String, Arc<RuleSet>>, config: String) -> Result<Arc<RuleSet>, TaskFailure> {
    if let Some(rules) = kept.get(&config) {
        return Ok(rules);
    }
    let written = serde_json::from_str(&config).expect("it was JSON");
    let rules = compile(&written).map_err(|errors| {
        let first = errors.first().map(|error| format!("{} {}", error.pointer, error.detail)).unwrap_or_default();
        TaskFailure::lasting("config_refused", first)
    })?;
    let rules = Arc::new(rules);
    kept.insert(config, rules.clone());
    Ok(rules)
}

impl From<Severity> for marvin_domain::notification::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Success => Self::Success,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

impl From<RuleFailure> for TaskFailure {
    fn from(failure: RuleFailure) -> Self {
        Self::lasting(failure.code.as_str(), failure.to_string())
    }
}

#[async_trait]
impl AgentHandler for RulesAgent {
    fn describe(&self) -> KindDescription {
        KindDescription {
            kind: "rules",
            title: "Rules",
            description: "Applies conditions written in CEL to an input and notifies, starts tasks or answers values.",
            config_schema: schema_for!(RulesConfig).to_value(),
            input_schema: schema_for!(RulesInput).to_value(),
            output_schema: schema_for!(RulesOutput).to_value(),
            can_try: true,
        }
    }

    fn check_config(&self, config: &Value) -> Result<(), Vec<FieldError>> {
        compile(config).map(drop)
    }

    fn check_input(&self, _config: &Value, _input: &Value) -> Result<(), Vec<FieldError>> {
        Ok(())
    }

    async fn run(&self, run: &mut Run) -> Result<Value, RunError> {
        let evaluation: Evaluation = match run.recorded() {
            Some(recorded) => serde_json::from_value(recorded)
                .map_err(|error| TaskFailure::lasting("journal_unreadable", Misfit::from(error).to_string()))?,
            None => {
                let given = &run.assignment;
                let task = json!({
                    "id": given.task_id, "requested_by": given.requested_by, "priority": given.priority,
                    "attempt": given.attempt, "created_at": rfc3339(given.submitted_at),
                });
                let agent = json!({ "id": given.agent_id, "name": given.agent_name, "kind": "rules" });
                let input = given.input.clone();
                let mut evaluation = self.evaluated(&given.config, input, task, agent, given.started_at).await?;
                evaluation.explanation.retain(|explained| explained.matched);
                let result = serde_json::to_value(&evaluation).expect("an evaluation is JSON");
                run.record_with_next("evaluate", "Evaluate the rules", result)?;
                evaluation
            }
        };
        let output = serde_json::to_value(evaluation.output()).expect("an output is JSON");
        for action in evaluation.actions {
            if run.recorded().is_none() {
                self.carry_out(action, run).await?;
            }
        }
        Ok(output)
    }

    async fn attempt(&self, trial: &Trial<'_>) -> Option<Result<Tried, TaskFailure>> {
        let task = json!({
            "id": Uuid::nil(), "requested_by": trial.requested_by, "priority": 5, "attempt": 1,
            "created_at": rfc3339(trial.now),
        });
        let agent = json!({ "id": trial.agent_id, "name": trial.agent_name, "kind": "rules" });
        let evaluation = self.evaluated(trial.config, trial.input.clone(), task, agent, trial.now).await;
        Some(evaluation.map(|evaluation| Tried {
            output: serde_json::to_value(evaluation.output()).expect("an output is JSON"),
            explanation: Some(serde_json::to_value(evaluation.explanation).expect("an explanation is JSON")),
        }))
    }
}
