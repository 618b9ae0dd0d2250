//! What a crash, a damaged file, a lost signal or a full disk must not cost: the real program is killed and started again.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod doctor;
mod journal;
mod kills;
mod load;
mod random;
