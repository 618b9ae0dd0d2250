//! The promises of the ports, each stated once and run against every adapter.
#![allow(clippy::unwrap_used)]

#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[allow(dead_code)]
#[path = "../engine/stack.rs"]
mod stack;
#[path = "../support/wait.rs"]
mod wait;
#[path = "../support/weather.rs"]
mod weather;
#[path = "../support/witness.rs"]
mod witness;

mod broker;
mod cache;
mod checkpoints;
mod duties;
mod incarnations;
mod keeping;
mod log;
mod nodes;
mod slots;
mod subjects;
mod views;
