//! Callbacks of webhook agents: whoever was given the address answers the task, once. The address is the credential.
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use garde::Validate;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    api::{Api, done, sentence},
    json::Json,
    problem::{Problem, RETRY_AFTER_S},
};
use crate::{
    agent::webhook::callback::{CallbackError, Tale},
    error::FieldError,
};

/// Longest code of a failure, in characters: a name, not a sentence.
const CODE_CHARS_MAX: usize = 64;
/// Longest message, in characters: a page of text.
const MESSAGE_CHARS_MAX: usize = 4_000;

/// One of the two.
#[derive(Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct TellTask {
    /// May be null, which is not the same as absent.
    #[serde(default, deserialize_with = "present")]
    output: Option<Value>,
    #[garde(dive)]
    error: Option<TellError>,
}

#[derive(Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct TellError {
    code: String,
    #[serde(default)]
    #[garde(length(chars, max = MESSAGE_CHARS_MAX))]
    message: String,
    #[serde(default)]
    retry: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl TellTask {
    fn tale(self) -> Result<Tale, Problem> {
        let refused = |pointer: &str, detail: String| {
            Problem::unprocessable("Some values were refused.", vec![FieldError::new(pointer, detail)])
        };
        match (self.output, self.error) {
            (Some(output), None) => Ok(Tale::Output(output)),
            (None, Some(TellError { code, message, retry })) => {
                let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                if code.is_empty() || code.len() > CODE_CHARS_MAX || !code.bytes().all(fits) {
                    let detail = format!("must be 1 to {CODE_CHARS_MAX} lowercase letters, digits and underscores");
                    return Err(refused("/error/code", detail));
                }
                Ok(Tale::Failed { code, message, retry })
            }
            _ => Err(refused("", "must hold an output or an error, and not both".to_owned())),
        }
    }
}

/// `POST /api/v1/callbacks/{token}`: records the answer; 409 when there is one, or the task has ended.
pub async fn tell(api: Data<Api>, token: Path<String>, body: Json<TellTask>) -> Result<HttpResponse, Problem> {
    let tale = body.into_inner().tale()?;
    Ok(done(&api.callbacks.tell(&token, tale).await?))
}

impl From<CallbackError> for Problem {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Unknown => Self::not_found(),
            CallbackError::Early => {
                Self::unavailable("The call that this answers is not recorded yet. Try again.", RETRY_AFTER_S)
            }
            CallbackError::TooLarge(reason) => Self::unprocessable(sentence(&reason), Vec::new()),
            CallbackError::Dispatch(error) => error.into(),
            CallbackError::Read(error) => error.into(),
        }
    }
}
