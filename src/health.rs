//! What is slow, behind, stopped or unreachable. Parts report themselves; `/readyz` shows the list.
use marvin_domain::Position;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Complaint {
    pub name: String,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// Shared by all parts of the process; one entry a name, so it stays as small as the number of parts.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Complaint>>>);

impl Health {
    pub fn report(&self, name: &str, reason: String, position: Option<Position>) {
        let complaint = Complaint { name: name.to_owned(), reason, position };
        self.complaints().insert(name.to_owned(), complaint);
    }

    pub fn clear(&self, name: &str) {
        self.complaints().remove(name);
    }

    pub fn degraded(&self) -> Vec<Complaint> {
        self.complaints().values().cloned().collect()
    }

    fn complaints(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Complaint>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
