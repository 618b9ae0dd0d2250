//! The machinery between the ports: dispatching, following, sealing, projecting, reacting.
#![allow(clippy::unwrap_used)]

#[path = "../support/wait.rs"]
mod wait;
#[path = "../support/weather.rs"]
mod weather;
#[path = "../support/witness.rs"]
mod witness;

mod admin;
mod board;
mod closing;
mod dispatch;
mod dispatch_bounds;
mod duties;
mod equality;
mod erasure;
mod follow;
mod forgetting;
mod observe;
mod process;
mod project;
mod schedules;
mod skip;
mod stack;
mod unknown;
mod work;
