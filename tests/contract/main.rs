//! The promises of the ports, each stated once and run against every adapter.
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod log;
#[path = "../support/postgres.rs"]
mod postgres;
mod slots;
mod subjects;
mod views;
