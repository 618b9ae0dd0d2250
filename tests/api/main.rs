//! The API, tested from outside: the real program, one module per resource.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod idempotency;
mod permissions;
mod sessions;
mod setup;
mod tasks;
mod users;
