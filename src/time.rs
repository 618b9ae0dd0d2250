//! What tells the time, and times as the API writes them: RFC 3339 in UTC with milliseconds.
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;
use std::sync::Arc;

/// What time it is, for whoever does something at a time. The program's is [`Utc::now`].
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// For `#[serde(serialize_with)]`.
pub fn required<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

/// For `#[serde(serialize_with)]`.
pub fn optional<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => required(time, serializer),
        None => serializer.serialize_none(),
    }
}
