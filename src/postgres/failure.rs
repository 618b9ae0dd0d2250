//! What a failed statement means for whoever asked.
use std::sync::Arc;
use tokio_postgres::{
    Error,
    error::{DbError, Severity, SqlState},
};

use crate::store::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        // Whatever it says, the session is over with it.
        let is_over = |error: &Error| {
            let severity = error.as_db_error().and_then(DbError::parsed_severity);
            matches!(severity, Some(Severity::Fatal | Severity::Panic))
        };
        if is_over(&error) {
            return Self::Unreachable(Arc::new(error));
        }
        let Some(state) = error.code() else {
            // No answer of the server: the connection failed, or a value could not be encoded.
            return if error.is_closed() || is_io(&error) {
                Self::Unreachable(Arc::new(error))
            } else {
                Self::Refused(Arc::new(error))
            };
        };
        // Classes and codes: PostgreSQL's documentation, appendix A.
        match state.code() {
            "53100" => Self::Full(Arc::new(error)),
            "55P03" | "57014" | "40P01" => Self::Busy(Arc::new(error)),
            "53300" => Self::Unreachable(Arc::new(error)),
            // A standby, or a primary that became one: the writer must find the new primary.
            code if code.starts_with("08") || *state == SqlState::READ_ONLY_SQL_TRANSACTION => {
                Self::Unreachable(Arc::new(error))
            }
            _ => Self::Refused(Arc::new(error)),
        }
    }
}

impl StoreError {
    /// Whether the server refused for this reason.
    pub fn is_of(&self, state: &SqlState) -> bool {
        let Self::Refused(error) = self else { return false };
        error.downcast_ref::<Error>().and_then(Error::code) == Some(state)
    }
}

/// Whether the bytes did not get through, which is not said by a kind of its own.
fn is_io(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}
