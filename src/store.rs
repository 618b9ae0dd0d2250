//! What every store behind a port may answer when it cannot do what was asked.
use std::{error::Error, sync::Arc};

/// A store did not do what was asked, or its answer was lost. It may be asked again: what is asked carries an id, or may be
/// repeated as it is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Space has to be made; then the same works again.
    #[error("the disk of the database is full")]
    Full(#[source] Source),
    /// Somebody else holds what is needed for longer than anyone waits.
    #[error("the database waited too long for a lock")]
    Busy(#[source] Source),
    /// No connection, or it was lost on the way: what was asked may have been done.
    #[error("the database cannot be reached")]
    Unreachable(#[source] Source),
    #[error("the database refused a statement")]
    Refused(#[source] Source),
    /// The transaction could not be committed, for a reason that struck the whole batch.
    #[error("the database could not commit: {0}")]
    Commit(String),
    #[error("the database is closed")]
    Closed,
}

/// Shared: one failure may strike a whole batch of callers.
type Source = Arc<dyn Error + Send + Sync>;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
        match error.sqlite_error_code() {
            Some(DiskFull) => Self::Full(Arc::new(error)),
            Some(DatabaseBusy | DatabaseLocked) => Self::Busy(Arc::new(error)),
            _ => Self::Refused(Arc::new(error)),
        }
    }
}

/// An error and everything that caused it, as one line: drivers say little by themselves, what the server said is their source.
pub fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words.lines().collect::<Vec<_>>().join(" ")
}
