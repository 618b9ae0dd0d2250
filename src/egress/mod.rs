//! The only way out: calls that people configure, to addresses that are public or that the operator has allowed.
//!
//! Owns which address may be dialled and how much an answer may cost. A host is resolved once for each connection, by the resolver
//! that the connection is made with, so the address that was checked is the one that is dialled. It follows no redirect, keeps no
//! connection, takes no proxy from the environment, and undoes no compression.
use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Method, Url,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use std::{sync::Arc, time::Duration};
use url_host::check_host;

mod address;
mod resolver;
mod url_host;

pub use address::{Allowed, is_public};
pub use resolver::{Blocked, Lookup, SystemLookup};

use crate::{store::chain, tls::client_config};
use resolver::Guarded;

/// Longest address of a receiver, in bytes: what common servers take.
pub const URL_BYTES_MAX: usize = 2_048;
/// How long a connection may take, TLS included: a receiver that is there answers sooner, also across the world.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request: the largest input that a task may have, and what is told around it.
pub const REQUEST_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Header lines of an answer; longer ones than a few KiB together fill the buffer and end the call as well.
const HEADERS_MAX: usize = 64;

/// Why a call came to no answer. None of these words hold an address, a header or a body.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The operator may allow it: `MARVIN_EGRESS_ALLOW`.
    #[error("the address is not public, and not among those that this server may call")]
    Blocked,
    #[error("{0}")]
    Url(&'static str),
    #[error("the request is larger than {REQUEST_BYTES_MAX} bytes")]
    RequestTooLarge,
    #[error("the answer is larger than {0} bytes")]
    AnswerTooLarge(usize),
    #[error("the answer is compressed, which was not asked for")]
    Compressed,
    #[error("no answer came in time")]
    TimedOut,
    #[error("the receiver cannot be reached: {0}")]
    Unreachable(String),
}

/// What is sent. Its body and headers are shown by nothing.
pub struct Request {
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// From the first look-up to the last byte of the answer.
    pub timeout: Duration,
    pub answer_bytes_max: usize,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub media_type: String,
    /// How long the receiver asks to be left alone, when it says so in seconds.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    client: Client,
    allowed: Arc<Allowed>,
}

impl Egress {
    /// # Errors
    /// In words, when TLS cannot be set up.
    pub fn new(allowed: Allowed) -> Result<Self, String> {
        Self::with_lookup(allowed, Arc::new(SystemLookup))
    }

    /// As [`new`](Self::new), with names resolved by `lookup`.
    ///
    /// # Errors
    /// In words, when TLS cannot be set up.
    pub fn with_lookup(allowed: Allowed, lookup: Arc<dyn Lookup>) -> Result<Self, String> {
        let allowed = Arc::new(allowed);
        let client = Client::builder()
            .tls_backend_preconfigured(client_config()?)
            .dns_resolver(Guarded::new(lookup, allowed.clone()))
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .http1_only()
            .http1_max_headers(HEADERS_MAX)
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("Marvin/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| chain(&error.without_url()))?;
        Ok(Self { client, allowed })
    }

    /// Whether this could be called at all, as far as can be told without asking anybody for an address.
    ///
    /// # Errors
    /// `Url` and `Blocked`.
    pub fn check(&self, url: &str) -> Result<(), EgressError> {
        self.parse(url).map(drop)
    }

    /// The same parser that the connection is made by reads it, so there is one opinion of what the host is.
    fn parse(&self, url: &str) -> Result<Url, EgressError> {
        let parsed = check_host(url)?;
        match parsed.host() {
            // These are dialled without being looked up.
            Some(url::Host::Ipv4(address)) if !self.allowed.admits(address.into()) => Err(EgressError::Blocked),
            Some(url::Host::Ipv6(address)) if !self.allowed.admits(address.into()) => Err(EgressError::Blocked),
            _ => Ok(parsed),
        }
    }

    /// Sends a POST and reads the answer whole.
    ///
    /// # Errors
    /// See [`EgressError`]. Behind `TimedOut` and `Unreachable` the receiver may have got the request all the same.
    pub async fn post(&self, request: Request) -> Result<Answer, EgressError> {
        let Request { url, headers, body, timeout, answer_bytes_max } = request;
        let url = self.parse(&url)?;
        if body.len() > REQUEST_BYTES_MAX {
            return Err(EgressError::RequestTooLarge);
        }
        let sending = self.client.request(Method::POST, url).headers(headers).body(body);
        match tokio::time::timeout(timeout, exchange(sending, answer_bytes_max)).await {
            Ok(answered) => answered,
            Err(_) => Err(EgressError::TimedOut),
        }
    }
}

async fn exchange(sending: reqwest::RequestBuilder, bytes_max: usize) -> Result<Answer, EgressError> {
    let mut response = sending.send().await.map_err(failure)?;
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (media_type, encoding, retry_after) = (text(CONTENT_TYPE), text(CONTENT_ENCODING), text(RETRY_AFTER));
    if !(encoding.is_empty() || encoding.eq_ignore_ascii_case("identity")) {
        return Err(EgressError::Compressed);
    }
    if response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(EgressError::AnswerTooLarge(bytes_max));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failure)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(EgressError::AnswerTooLarge(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    let retry_after = retry_after.parse().ok().map(Duration::from_secs);
    Ok(Answer { status: response.status().as_u16(), media_type, retry_after, body: body.freeze() })
}

/// What a client's error says, without the address it would name.
fn failure(error: reqwest::Error) -> EgressError {
    let error = error.without_url();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if inner.is::<Blocked>() {
            return EgressError::Blocked;
        }
        source = inner.source();
    }
    if error.is_timeout() { EgressError::TimedOut } else { EgressError::Unreachable(chain(&error)) }
}

#[cfg(test)]
mod tests;
