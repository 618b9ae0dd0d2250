//! What every event does to every document, and what folding promises whichever way the log is cut.
#![allow(clippy::unwrap_used)]

/// As in the library itself, where the worked example would stand.
use marvin_projections::{Document, Field, Key, Projection};

mod journal;
/// The domain's example of every event: a new event type shows here too.
#[path = "../../../domain/tests/suite/samples.rs"]
mod samples;

mod agents;
mod documents;
mod folds;
mod inbox;
mod lanes;
mod poison;
mod secrecy;
mod splits;
mod steps;
mod tasks;
mod tasks_again;
mod users;
mod worked_example;
mod workload;
