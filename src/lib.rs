//! Marvin: people and software agents work together, and every change is an event in one log.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod error;
