//! What is wrong with one value of a request, a configuration or an input. Every layer that checks values answers with these.
use serde::Serialize;

/// One refused value: where it stands (RFC 6901 JSON Pointer, empty for the whole document) and why, in words a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}
