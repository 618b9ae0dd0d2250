//! What an address of a receiver may look like.
use reqwest::Url;

use super::{EgressError, URL_BYTES_MAX};

/// Reads a URL that names a host over HTTP and nobody's credentials.
///
/// # Errors
/// `Url`, in words that quote nothing.
pub fn check_host(text: &str) -> Result<Url, EgressError> {
    if text.len() > URL_BYTES_MAX {
        return Err(EgressError::Url("the address must have at most 2,048 bytes"));
    }
    // The parser would silently drop or turn these; whoever reads the configuration should see what is called.
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '\\') {
        return Err(EgressError::Url("the address must hold no blanks, control characters or backslashes"));
    }
    let url = Url::parse(text).map_err(|_| EgressError::Url("must be an address such as https://example.org/hook"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EgressError::Url("the address must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EgressError::Url("the address must hold no user and no password: use a secret"));
    }
    if url.fragment().is_some() {
        return Err(EgressError::Url("the address must have no fragment"));
    }
    match url.host_str() {
        Some(host) if !host.is_empty() && url.port() != Some(0) => Ok(url),
        _ => Err(EgressError::Url("the address must name a host")),
    }
}
