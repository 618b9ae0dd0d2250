//! The control socket: how commands on the machine reach the process that owns the data directory.
//!
//! A Unix stream socket in that directory, for its owner alone: whoever can connect could read the files as well. One
//! connection asks one thing: a line of JSON, answered by a line of JSON when it is done. It owns no work of its own and
//! decides nothing; `upkeep` does what is asked.
mod client;
mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    path::{Path, PathBuf},
};

use crate::upkeep::{Upkeep, UpkeepError};

pub use client::{ControlError, ask};
pub use server::listen;

/// A request: a path of at most 4,096 bytes, each of which JSON may write as six, and its frame.
const REQUEST_BYTES_MAX: u64 = 32 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    BackUp {
        /// Absolute: the process that answers has another working directory.
        directory: PathBuf,
    },
    RotateKeys,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    BackedUp { events: u64, key_file: PathBuf },
    Rotated { keys: u64, key_file: PathBuf },
    Failed { reason: String },
}

impl Answer {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }
}

/// Does what is asked, in this process.
pub async fn perform(request: Request, upkeep: &Upkeep) -> Answer {
    let key_file = upkeep.key_file().to_owned();
    let done = match request {
        Request::BackUp { directory } if !directory.is_absolute() => {
            return Answer::failed(format!("{} is not an absolute path", directory.display()));
        }
        Request::BackUp { directory } => {
            upkeep.back_up(directory).await.map(|events| Answer::BackedUp { events, key_file })
        }
        Request::RotateKeys => upkeep.rotate_keys().await.map(|keys| Answer::Rotated { keys, key_file }),
    };
    done.unwrap_or_else(|error: UpkeepError| Answer::failed(sentence(&error)))
}

fn socket_in(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// An error and what caused it, as one sentence.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
