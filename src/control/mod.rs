//! The control socket: how commands on the machine reach the process that owns the data directory.
//!
//! A Unix stream socket in that directory, for its owner alone: whoever can connect could read the files as well. One
//! connection asks one thing: a line of JSON, answered by a line of JSON when it is done, before which come blanks that say that it is
//! being worked on. It owns no work of its own and
//! decides nothing; `upkeep`, `doctor` and `views::admin` do what is asked.
mod client;
mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

use crate::{
    dispatch::Dispatcher,
    doctor::{Compared, Doctor, Examination},
    log::tail::Tail,
    stores::Stores,
    upkeep::Upkeep,
    views::admin::{Projections, Standing},
};

pub use client::{ControlError, ask};
pub use server::listen;

/// While the server works on a request, it sends a blank so often: JSON may begin with any number of them.
const ALIVE_INTERVAL: Duration = Duration::from_secs(2);
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
    /// Answered at once: it is done behind that. Asking again does not begin it again.
    Rebuild {
        projection: String,
    },
    CancelRebuild {
        projection: String,
    },
    Projections,
    Examine,
    /// Ends, without an answer, when the client hangs up.
    CompareViews,
}

impl Request {
    /// Whether nobody is served by its end but the client.
    fn ends_with_its_client(&self) -> bool {
        matches!(self, Self::CompareViews)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    BackedUp {
        events: u64,
        key_file: PathBuf,
    },
    Rotated {
        keys: u64,
        key_file: PathBuf,
    },
    /// How the one that was asked about stands, or all of them.
    Projections {
        standings: Vec<Standing>,
    },
    Examined(Examination),
    Compared(Compared),
    Failed {
        reason: String,
    },
}

/// What carries requests out.
#[derive(Clone)]
pub struct Hands {
    pub upkeep: Arc<Upkeep>,
    pub doctor: Arc<Doctor>,
    pub projections: Arc<Projections>,
}

impl Hands {
    /// `projections` are those of this process.
    pub fn of(stores: &Stores, projections: Arc<Projections>) -> Self {
        Self { upkeep: stores.upkeep.clone(), doctor: stores.doctor.clone(), projections }
    }

    /// On stores that this process opened and does not serve from: nobody in it keeps tables up, so nobody is woken.
    pub fn on(stores: &Stores) -> Self {
        let dispatcher = Dispatcher::new(stores.log.clone(), stores.codec.clone());
        let (views, duties) = (stores.views.clone(), stores.duties.clone());
        let (folds, tail) = (marvin_projections::all(), Tail::new(stores.log.clone(), stores.codec.clone()));
        let projections = Projections::new(views, duties, dispatcher, &folds, tail, Arc::new(Notify::new()));
        Self::of(stores, Arc::new(projections))
    }
}

impl Answer {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }
}

/// Does what is asked, in this process.
pub async fn perform(request: Request, hands: &Hands) -> Answer {
    let Hands { upkeep, doctor, projections } = hands;
    let key_file = upkeep.key_file().to_owned();
    let one = |standing| Answer::Projections { standings: vec![standing] };
    match request {
        Request::BackUp { directory } if !directory.is_absolute() => {
            Answer::failed(format!("{} is not an absolute path", directory.display()))
        }
        Request::BackUp { directory } => {
            told(upkeep.back_up(directory).await.map(|events| Answer::BackedUp { events, key_file }))
        }
        Request::RotateKeys => told(upkeep.rotate_keys().await.map(|keys| Answer::Rotated { keys, key_file })),
        Request::Rebuild { projection } => told(projections.rebuild(&projection).await.map(one)),
        Request::CancelRebuild { projection } => told(projections.cancel(&projection).await.map(one)),
        Request::Projections => told(projections.all().await.map(|standings| Answer::Projections { standings })),
        Request::Examine => told(doctor.examine().await.map(Answer::Examined)),
        Request::CompareViews => told(doctor.compare().await.map(Answer::Compared)),
    }
}

fn told(done: Result<Answer, impl Error>) -> Answer {
    done.unwrap_or_else(|error| Answer::failed(sentence(&error)))
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
