//! The API, tested from outside: the real program, one module per resource.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod bad_input;
mod events;
mod feed;
mod idempotency;
mod leases;
mod operations;
mod permissions;
mod planted;
mod projections;
mod reading;
mod schedules;
mod secrets;
mod sessions;
mod setup;
mod tasks;
mod users;
mod webhooks;
