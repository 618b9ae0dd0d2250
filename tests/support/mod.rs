//! Black-box tests' view of Marvin: the real program on port 0, clients that speak HTTP to it, and waiting without sleeping.
// Each test program uses a part of it.
#![allow(dead_code, unused_imports)]

mod answer;
mod client;
mod feed;
mod metrics;
pub mod postgres;
pub mod proxy;
pub mod receiver;
pub mod redis;
mod server;
mod wait;

pub use answer::Answer;
pub use client::{Client, PASSWORD, user};
pub use feed::{Feed, Sse};
pub use metrics::{Metrics, metrics_url};
pub use postgres::Database;
pub use receiver::{Call, Receiver, Reply};
pub use server::{ADMIN_EMAIL, ADMIN_PASSWORD, Launch, Server, Stopped};
pub use wait::{DEADLINE, eventually};
