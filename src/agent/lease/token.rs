//! What a worker outside shows for a task that it leased, and what follows from it. The token itself is kept nowhere.
use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::security::random;

/// 256 random bits: nobody guesses them, so what a plain hash of them gives may stand in the log.
const TOKEN_BYTES: usize = 32;
const ID_BYTES: usize = 16;

/// Whoever has it may answer for one attempt at one task. Never printed or stored.
pub struct Lease(Zeroizing<[u8; TOKEN_BYTES]>);

impl Lease {
    pub fn draw() -> Self {
        Self(random::secret())
    }

    /// Reads what a worker shows; anything but a token of ours is nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        let length = BASE64URL.decode_slice(text, bytes.as_mut_slice()).ok()?;
        (length == TOKEN_BYTES).then_some(Self(bytes))
    }

    /// What the worker is told: 43 characters of base64url.
    pub fn expose(&self) -> Zeroizing<String> {
        BASE64URL.encode(self.0.as_slice()).into()
    }

    /// Who started the attempt, as the log and the slot name them.
    pub fn worker(&self) -> Uuid {
        self.derived(b"worker")
    }

    /// The command that ends the attempt: there is one, so a repetition is known by its id.
    pub fn result(&self) -> Uuid {
        self.derived(b"result")
    }

    /// Tells a repeated result from another one. Says nothing about it to who lacks the lease.
    pub fn digest(&self, result: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        hmac::sign(&key, result).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A UUIDv8, by which a slot is known to be held outside; see [`is_outside`](crate::agent::slots::is_outside).
    fn derived(&self, label: &[u8]) -> Uuid {
        let bytes = Zeroizing::new([b"marvin lease ", label, b" ", self.0.as_slice()].concat());
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest(&SHA256, &bytes).as_ref()[..ID_BYTES]);
        Uuid::new_v8(id)
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease([hidden])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_reads_back_from_what_the_worker_was_told_and_from_nothing_else() {
        let lease = Lease::draw();
        let told = lease.expose();
        assert_eq!(Lease::parse(&told).unwrap().worker(), lease.worker());
        let (shorter, longer) = (&told[1..], format!("{}A", *told));
        for other in ["", "lease", shorter, &longer, &format!("{}=", *told), &told.replace(&told[..1], " ")] {
            assert!(Lease::parse(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn what_follows_from_two_leases_or_for_two_purposes_differs() {
        let (one, other) = (Lease::draw(), Lease::draw());
        let ids = [one.worker(), one.result(), other.worker(), other.result()];
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
        assert_ne!(one.digest(b"42"), other.digest(b"42"));
        assert_ne!(one.digest(b"42"), one.digest(b"43"));
        assert_eq!(one.digest(b"42"), one.digest(b"42"));
    }

    #[test]
    fn neither_debug_output_nor_what_is_stored_shows_the_token() {
        let lease = Lease::draw();
        let told = lease.expose();
        let worker = lease.worker();
        for shown in [format!("{lease:?}"), BASE64URL.encode(worker.as_bytes()), worker.to_string()] {
            assert!(!told.contains(&shown) && !shown.contains(told.as_str()), "{shown}");
        }
    }
}
