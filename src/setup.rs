//! The one-time link by which the first administrator sets the instance up.
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::sync::Mutex;

use crate::security::random;

/// How long a link stands: time to read the terminal and open a browser, no longer.
pub const LINK_LIFETIME_MS: i64 = 15 * 60 * 1_000;
/// 256 bits: nobody guesses it within its life.
const TOKEN_BYTES: usize = 32;

/// Holds at most one token, in memory only: a restart draws another.
#[derive(Debug, Default)]
pub struct SetupTokens(Mutex<Option<Issued>>);

struct Issued {
    token: String,
    expires_at_ms: i64,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued(expires at {})", self.expires_at_ms)
    }
}

impl SetupTokens {
    /// Draws a token; the one before is void.
    pub fn issue(&self, now_ms: i64) -> String {
        let token = URL_SAFE_NO_PAD.encode(random::bytes::<TOKEN_BYTES>());
        *self.held() = Some(Issued { token: token.clone(), expires_at_ms: now_ms + LINK_LIFETIME_MS });
        token
    }

    /// Whether this is the token and it stands. Compares in constant time.
    pub fn accepts(&self, presented: &str, now_ms: i64) -> bool {
        self.held().as_ref().is_some_and(|issued| {
            now_ms < issued.expires_at_ms
                && verify_slices_are_equal(issued.token.as_bytes(), presented.as_bytes()).is_ok()
        })
    }

    /// The link was used: no token stands any more.
    pub fn spend(&self) {
        *self.held() = None;
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Issued>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_for_fifteen_minutes_until_it_is_spent_or_replaced() {
        let tokens = SetupTokens::default();
        assert!(!tokens.accepts("", 0));
        let first = tokens.issue(0);
        assert!(tokens.accepts(&first, LINK_LIFETIME_MS - 1));
        assert!(!tokens.accepts(&first, LINK_LIFETIME_MS));
        assert!(!tokens.accepts("", 0));
        let second = tokens.issue(0);
        assert!(!tokens.accepts(&first, 0));
        tokens.spend();
        assert!(!tokens.accepts(&second, 0));
    }
}
