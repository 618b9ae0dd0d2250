//! The promises of the ports, each stated once and run against every adapter.
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod incarnations;
mod log;
mod slots;
mod views;
