//! Marvin: people and software agents work together, and every change is an event in one log.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accounts;
pub mod agent;
pub mod app;
pub mod broker;
pub mod cache;
pub mod cli;
pub mod cloudevent;
pub mod config;
pub mod control;
pub mod datadir;
pub mod dispatch;
pub mod doctor;
pub mod duty;
pub mod egress;
pub mod erasure;
pub mod error;
pub mod health;
pub mod http;
pub mod log;
pub mod node;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod rollback;
pub mod secrets;
pub mod security;
pub mod setup;
pub mod sqlite;
pub mod store;
pub mod stores;
pub mod telemetry;
pub mod time;
pub mod tls;
pub mod upkeep;
pub mod views;
