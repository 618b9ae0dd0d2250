//! The `insight` kind of agent: hands a task's series to the analysis, off the async threads.
use async_trait::async_trait;
use schemars::schema_for;
use serde_json::Value;

use super::{InsightConfig, InsightInput, InsightOutput, analyse, check_config, check_input};
use crate::{
    agent::{AgentHandler, KindDescription, Run, RunError, TaskFailure, Trial, Tried, compute},
    error::FieldError,
};

#[derive(Debug)]
pub struct InsightAgent;

async fn analysed(config: &Value, input: &Value) -> Result<Value, TaskFailure> {
    let refused = |errors: Vec<FieldError>| {
        let first = errors.first().map(|error| format!("{} {}", error.pointer, error.detail)).unwrap_or_default();
        TaskFailure::lasting("input_refused", first)
    };
    let (config, input) = (check_config(config).map_err(refused)?, check_input(input).map_err(refused)?);
    let output = compute(move || analyse(&config, &input)).await?;
    Ok(serde_json::to_value(output).expect("finite numbers and texts are JSON"))
}

#[async_trait]
impl AgentHandler for InsightAgent {
    fn describe(&self) -> KindDescription {
        KindDescription {
            kind: "insight",
            title: "Insight",
            description: "Forecasts a series of numbers and points out its unusual values.",
            config_schema: schema_for!(InsightConfig).to_value(),
            input_schema: schema_for!(InsightInput).to_value(),
            output_schema: schema_for!(InsightOutput).to_value(),
            can_try: true,
        }
    }

    fn check_config(&self, config: &Value) -> Result<(), Vec<FieldError>> {
        check_config(config).map(drop)
    }

    fn check_input(&self, _config: &Value, input: &Value) -> Result<(), Vec<FieldError>> {
        check_input(input).map(drop)
    }

    async fn run(&self, run: &mut Run) -> Result<Value, RunError> {
        Ok(analysed(&run.assignment.config, &run.assignment.input).await?)
    }

    async fn attempt(&self, trial: &Trial<'_>) -> Option<Result<Tried, TaskFailure>> {
        let output = analysed(trial.config, trial.input).await;
        Some(output.map(|output| Tried { output, explanation: None }))
    }
}
