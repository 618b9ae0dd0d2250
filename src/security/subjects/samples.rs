//! A person, a credential and a session, for tests of the adapters.
use uuid::Uuid;

use super::{Credential, HASH_BYTES, SessionRow};

/// A moment; the store has no clock of its own.
pub const NOW_MS: i64 = 1_790_000_000_000;

pub fn user(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub fn session(n: u8, user_id: Uuid) -> SessionRow {
    SessionRow {
        id: Uuid::from_u128(1000 + u128::from(n)),
        user_id,
        token_hash: [n; HASH_BYTES],
        created_at_ms: NOW_MS + i64::from(n),
        expires_at_ms: NOW_MS + 1000 * i64::from(n),
    }
}

pub fn credential(n: u128, user_id: Uuid) -> Credential {
    Credential { id: Uuid::from_u128(2000 + n), user_id, phc: format!("$argon2id${n}"), created_at_ms: NOW_MS }
}
