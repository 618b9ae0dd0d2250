//! Slows down who guesses passwords. Knows no clock: the time comes with the call.
use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::digest::{SHA256, digest};
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// From this failure on an account is throttled for the address it was tried from: five slips of the finger are free.
const FAILURES_MAX: u32 = 6;
/// Failures are forgotten this long after the first of them: few enough guesses a day, and a bearable wait for the owner.
const WINDOW_MS: i64 = 15 * 60 * 1000;
/// Pairs of account and address remembered; the least recently tried goes first. A few megabytes.
const PAIRS_MAX: u64 = 50_000;
/// One customer usually holds a whole IPv6 network of this size and could try from any of its addresses.
const IPV6_NETWORK_BITS: u32 = 64;

/// Too many failures: wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed sign-ins: try again in {retry_after_s} s")]
pub struct Throttled {
    pub retry_after_s: u64,
}

/// Counts failed sign-ins for each pair of account and address, so strangers cannot lock the owner out.
#[derive(Debug)]
pub struct SignInThrottle {
    windows: Cache<Pair, Window>,
}

/// Accounts are kept as hashes: what people type may be long, and is nobody's business.
type Pair = ([u8; 32], IpAddr);

#[derive(Debug, Clone, Copy)]
struct Window {
    began_ms: i64,
    attempts: u32,
}

impl Window {
    fn is_over(self, now_ms: i64) -> bool {
        now_ms - self.began_ms >= WINDOW_MS
    }

    fn throttled(self, now_ms: i64) -> Throttled {
        let left_ms = (self.began_ms + WINDOW_MS - now_ms).max(0);
        Throttled { retry_after_s: left_ms.cast_unsigned().div_ceil(1000).max(1) }
    }
}

/// An attempt that was let through. It counts as failed unless it says otherwise, so that many attempts at once get no
/// further than as many in a row.
#[derive(Debug)]
#[must_use = "an attempt that does not say how it ended counts as failed"]
pub struct Attempt<'a> {
    throttle: &'a SignInThrottle,
    pair: Pair,
    window: Window,
}

impl Attempt<'_> {
    /// The password was right: what failed before is forgotten.
    pub fn succeeded(self) {
        self.throttle.windows.invalidate(&self.pair);
    }

    /// The password could not be checked: as if it had not been tried.
    pub fn withdrawn(self) {
        self.throttle.windows.entry(self.pair).and_compute_with(|entry| match entry.map(|entry| entry.into_value()) {
            Some(window) if window.attempts > 1 => Op::Put(Window { attempts: window.attempts - 1, ..window }),
            Some(_) => Op::Remove,
            None => Op::Nop,
        });
    }

    /// # Errors
    /// `Throttled` when this was one failure too many.
    pub fn failed(self, now_ms: i64) -> Result<(), Throttled> {
        if self.window.attempts < FAILURES_MAX { Ok(()) } else { Err(self.window.throttled(now_ms)) }
    }
}

impl Default for SignInThrottle {
    fn default() -> Self {
        // Not by frequency, as is the default: then a full table would let no newcomer in, and so not count them.
        let windows = Cache::builder().max_capacity(PAIRS_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self { windows }
    }
}

impl SignInThrottle {
    /// Asks to try a password for `account` (a normalised email) from `address`, before it is checked.
    ///
    /// # Errors
    /// `Throttled` when the pair has failed too often; the password must not even be looked at then.
    pub fn admit(&self, account: &str, address: IpAddr, now_ms: i64) -> Result<Attempt<'_>, Throttled> {
        let pair = pair(account, address);
        let mut refused = None;
        let entry = self.windows.entry(pair).and_upsert_with(|entry| match entry.map(|entry| entry.into_value()) {
            Some(window) if !window.is_over(now_ms) && window.attempts >= FAILURES_MAX => {
                refused = Some(window.throttled(now_ms));
                window
            }
            Some(window) if !window.is_over(now_ms) => Window { attempts: window.attempts + 1, ..window },
            _ => Window { began_ms: now_ms, attempts: 1 },
        });
        match refused {
            Some(throttled) => Err(throttled),
            None => Ok(Attempt { throttle: self, pair, window: entry.into_value() }),
        }
    }
}

fn pair(account: &str, address: IpAddr) -> Pair {
    let hash = digest(&SHA256, account.as_bytes()).as_ref().try_into().expect("SHA-256 gives 32 bytes");
    (hash, network(address))
}

/// An IPv4 address that came in IPv6 clothes is the same address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (u128::BITS - IPV6_NETWORK_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// One wrong password; what the client sees.
    fn fail(throttle: &SignInThrottle, account: &str, from: &str, now_ms: i64) -> Result<(), Throttled> {
        throttle.admit(account, address(from), now_ms)?.failed(now_ms)
    }

    fn throttled() -> SignInThrottle {
        let throttle = SignInThrottle::default();
        for _ in 0..FAILURES_MAX {
            let _ = fail(&throttle, "ada", "192.0.2.1", NOW);
        }
        throttle
    }

    #[test]
    fn the_sixth_failure_and_all_after_it_are_throttled() {
        let throttle = SignInThrottle::default();
        for _ in 0..5 {
            assert_eq!(fail(&throttle, "ada", "192.0.2.1", NOW), Ok(()));
        }
        for _ in 0..3 {
            assert_eq!(fail(&throttle, "ada", "192.0.2.1", NOW + 1), Err(Throttled { retry_after_s: 900 }));
        }
    }

    #[test]
    fn a_throttled_attempt_is_refused_before_the_password_is_looked_at() {
        let throttle = throttled();
        assert_eq!(throttle.admit("ada", address("192.0.2.1"), NOW + 60_000).unwrap_err().retry_after_s, 840);
    }

    #[test]
    fn the_right_password_at_the_sixth_attempt_is_let_in() {
        let throttle = SignInThrottle::default();
        for _ in 0..5 {
            fail(&throttle, "ada", "192.0.2.1", NOW).unwrap();
        }
        throttle.admit("ada", address("192.0.2.1"), NOW).unwrap().succeeded();
        assert_eq!(fail(&throttle, "ada", "192.0.2.1", NOW), Ok(()));
    }

    #[test]
    fn success_forgets_the_failures_before_it() {
        let throttle = SignInThrottle::default();
        for _ in 0..10 {
            fail(&throttle, "ada", "192.0.2.1", NOW).unwrap();
            throttle.admit("ada", address("192.0.2.1"), NOW).unwrap().succeeded();
        }
    }

    #[test]
    fn strangers_do_not_lock_the_owner_out() {
        let throttle = throttled();
        assert_eq!(fail(&throttle, "ada", "192.0.2.2", NOW), Ok(()));
        assert_eq!(fail(&throttle, "bob", "192.0.2.1", NOW), Ok(()));
    }

    #[test]
    fn an_account_is_free_again_when_the_window_is_over() {
        let throttle = throttled();
        assert!(throttle.admit("ada", address("192.0.2.1"), NOW + WINDOW_MS - 1).is_err());
        assert_eq!(fail(&throttle, "ada", "192.0.2.1", NOW + WINDOW_MS), Ok(()));
    }

    #[test]
    fn attempts_at_once_are_counted_while_they_run() {
        let throttle = SignInThrottle::default();
        let running: Vec<_> =
            (0..FAILURES_MAX).map(|_| throttle.admit("ada", address("192.0.2.1"), NOW).unwrap()).collect();
        assert!(throttle.admit("ada", address("192.0.2.1"), NOW).is_err());
        drop(running);
        assert!(throttle.admit("ada", address("192.0.2.1"), NOW).is_err(), "abandoned attempts count");
    }

    #[test]
    fn an_attempt_that_could_not_be_checked_does_not_count() {
        let throttle = SignInThrottle::default();
        for _ in 0..10 {
            throttle.admit("ada", address("192.0.2.1"), NOW).unwrap().withdrawn();
        }
        assert_eq!(fail(&throttle, "ada", "192.0.2.1", NOW), Ok(()));
    }

    #[test]
    fn the_addresses_of_one_network_count_as_one() {
        let throttle = SignInThrottle::default();
        for n in 1..=5 {
            fail(&throttle, "ada", &format!("2001:db8::{n}"), NOW).unwrap();
        }
        assert!(fail(&throttle, "ada", "2001:db8::99", NOW).is_err());
        assert!(fail(&throttle, "ada", "2001:db8:0:1::1", NOW).is_ok());
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
