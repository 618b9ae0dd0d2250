//! The rules of every aggregate, the stored form of every event, and what follows from an event.
#![allow(clippy::unwrap_used)]

mod given;
mod samples;
mod task_deadline;
mod task_journal;

mod agent;
mod agent_limits;
mod decode;
mod instance;
mod kinds;
mod notification;
mod notify_requester;
mod process;
mod projection;
mod schedule;
mod schedule_owners;
mod schedule_times;
mod secrecy;
mod secret;
mod stored;
mod task_attempts;
mod task_phases;
mod task_properties;
mod task_steps;
mod task_submission;
mod task_told;
mod upcast;
mod user;
