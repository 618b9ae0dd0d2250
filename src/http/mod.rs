//! The HTTP surface: what every route stands on. It parses and answers; it holds no SQL and no rules.
pub mod conditional;
pub mod console;
pub mod describe;
pub mod headers;
pub mod json;
pub mod metrics;
pub mod ops;
pub mod paging;
pub mod parse;
pub mod path;
pub mod problem;
pub mod query;
pub mod route;
pub mod trace;
