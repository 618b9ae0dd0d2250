//! What a crash, a damaged file, a lost signal or a full disk must not cost: the real program is killed and started again.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod doctor;
mod erased;
mod erasing;
mod files;
mod full_disk;
mod interrupted;
mod journal;
mod kills;
mod leases;
mod load;
mod nodes;
mod outages;
mod outside;
mod planting;
mod random;
mod rebuild;
mod refusals;
mod registration;
mod rollback;
mod rotation;
mod signals;
mod steps;
mod timers;
mod told;
mod with_rabbit;
mod with_redis;
