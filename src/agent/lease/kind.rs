//! The `worker` kind of agent: its tasks are done by programs outside, which lease them and answer for them over HTTP.
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    agent::{AgentHandler, KindDescription, Run, RunError},
    error::FieldError,
};

#[derive(Debug)]
pub struct WorkerAgent;

#[async_trait]
impl AgentHandler for WorkerAgent {
    fn describe(&self) -> KindDescription {
        KindDescription {
            kind: "worker",
            title: "Worker",
            description: "Hands its tasks to programs of your own, which lease them and answer over HTTP.",
            config_schema: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
            input_schema: json!({ "description": "Whatever the program understands" }),
            output_schema: json!({ "description": "Whatever the program answers" }),
            can_try: false,
        }
    }

    fn is_leased(&self) -> bool {
        true
    }

    fn check_config(&self, config: &Value) -> Result<(), Vec<FieldError>> {
        let Value::Object(fields) = config else {
            return Err(vec![FieldError::new("", "must be an object, and an empty one")]);
        };
        let pointer = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        match fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(vec![FieldError::new(pointer(name), "is not known here; a worker has no configuration")]),
        }
    }

    fn check_input(&self, _config: &Value, _input: &Value) -> Result<(), Vec<FieldError>> {
        Ok(())
    }

    /// Nobody in this process claims a task that is leased.
    async fn run(&self, _run: &mut Run) -> Result<Value, RunError> {
        Err(RunError::Lost)
    }
}
