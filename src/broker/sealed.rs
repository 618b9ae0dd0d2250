//! Seals what goes over the broker, so that whoever runs it or listens there reads headers and nothing else.
//!
//! The body is sealed under the channel's key, which a header names; every header of ours is authenticated with it. Headers that a
//! broker adds by itself do not count.
use bytes::Bytes;

use super::Message;
use crate::security::{
    channels::{ChannelKeys, KeyName},
    cipher::OpenError,
};

/// Names the key, as in `events/497222`.
pub const KEY_HEADER: &str = "marvin-key";
/// Of a CloudEvent's attributes over AMQP, as its binding for AMQP 1.0 has it.
pub const CLOUD_EVENTS_PREFIX: &str = "cloudEvents:";
const OWN_PREFIX: &str = "marvin-";

/// Why a message cannot be read. No delivery of it will be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it names no key of {channel}")]
    NoKey { channel: String },
    #[error(transparent)]
    Sealed(#[from] OpenError),
}

/// Adds the header that names the key, and seals the body with all headers.
pub fn seal(keys: &ChannelKeys, name: &KeyName, mut message: Message) -> Message {
    message.headers.push((KEY_HEADER.to_owned(), name.to_string()));
    message.body = Bytes::from(keys.key(name).seal(&authenticated(&message), &message.body));
    message
}

/// What was sealed for this channel.
///
/// # Errors
/// See [`Unreadable`].
pub fn open(keys: &ChannelKeys, channel: &str, message: &Message) -> Result<Vec<u8>, Unreadable> {
    let named = message.headers.iter().find(|(name, _)| name == KEY_HEADER).and_then(|(_, key)| KeyName::parse(key));
    let no_key = || Unreadable::NoKey { channel: channel.to_owned() };
    let name = named.filter(|name| name.channel == channel).ok_or_else(no_key)?;
    Ok(keys.key(&name).open(&authenticated(message), &message.body)?)
}

/// A line `name=value` for each header of ours, in the order of their bytes.
fn authenticated(message: &Message) -> Vec<u8> {
    let is_ours = |name: &str| name.starts_with(CLOUD_EVENTS_PREFIX) || name.starts_with(OWN_PREFIX);
    let headers = message.headers.iter().filter(|(name, _)| is_ours(name));
    let mut lines: Vec<String> = headers.map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort_unstable();
    lines.concat().into_bytes()
}
