//! Whether the process should get work, and what in it is slow, behind, stopped or unreachable. Parts report themselves.
use marvin_domain::Position;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Characters of the reason why something is not well: all of any that this program gives, and little enough for a log's line and
/// for one answer about all views. What a damaged row says of itself may be in it, and be of any length.
pub const REASON_CHARS_MAX: usize = 500;

/// The reason, or its first [`REASON_CHARS_MAX`] characters.
pub fn bounded(mut reason: String) -> String {
    if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
        reason.truncate(end);
    }
    reason
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Starting,
    Serving,
    /// About to end: what runs is finished, nothing new should come.
    Draining,
}

/// One part that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Degraded {
    pub name: String,
    pub reason: String,
    /// For a reader of the log: how far it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// One is shared by all of the process. It holds one entry a name, so it stays as small as the number of parts.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    database_lost: bool,
    degraded: BTreeMap<String, Degraded>,
}

impl Health {
    /// The start is over. A process that drains stays so.
    pub fn serve(&self) {
        let mut state = self.state();
        if state.phase == Phase::Starting {
            state.phase = Phase::Serving;
        }
    }

    pub fn drain(&self) {
        self.state().phase = Phase::Draining;
    }

    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Whether the database can be reached; assumed until told otherwise.
    pub fn database(&self, reachable: bool) {
        self.state().database_lost = !reachable;
    }

    pub fn is_database_lost(&self) -> bool {
        self.state().database_lost
    }

    /// Names a part that is not well, and why. The same name again replaces what was said of it.
    pub fn degrade(&self, name: &str, reason: impl Into<String>, position: Option<Position>) {
        let degraded = Degraded { name: name.to_owned(), reason: bounded(reason.into()), position };
        self.state().degraded.insert(name.to_owned(), degraded);
    }

    /// The part named `name` is well again.
    pub fn recover(&self, name: &str) {
        self.state().degraded.remove(name);
    }

    pub fn degraded(&self) -> Vec<Degraded> {
        self.state().degraded.values().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
