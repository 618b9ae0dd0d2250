//! Ids that follow from what caused them, so that a repeated cause gives the same id and not a second effect.
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid, Variant, Version};

/// The id of what `cause` led to under `label`: `cause`'s UUIDv7 time, the rest from a hash of both.
///
/// Sorts beside its cause, and the same cause and label always give the same id.
pub fn derived(cause: Uuid, label: &str) -> Uuid {
    let mut bytes = first_16(&[cause.as_bytes(), label.as_bytes()]);
    bytes[..6].copy_from_slice(&cause.as_bytes()[..6]);
    Builder::from_bytes(bytes).with_version(Version::SortRand).with_variant(Variant::RFC4122).into_uuid()
}

/// The command id of a keyed request (UUIDv8): the same actor, method, path and key give the same id on every node, for ever.
pub fn keyed(actor: Uuid, method: &str, path: &str, key: &str) -> Uuid {
    let parts: [&[u8]; 7] = [actor.as_bytes(), b"\0", method.as_bytes(), b"\0", path.as_bytes(), b"\0", key.as_bytes()];
    Uuid::new_v8(first_16(&parts))
}

fn first_16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

    #[test]
    fn a_derived_id_is_a_v7_beside_its_cause_and_depends_on_the_label() {
        let id = derived(CAUSE, "notify");
        assert_eq!((id.get_version_num(), &id.as_bytes()[..6]), (7, &CAUSE.as_bytes()[..6]));
        assert_eq!(id, derived(CAUSE, "notify"));
        assert_ne!(id, derived(CAUSE, "cancel"));
    }

    #[test]
    fn a_keyed_id_separates_its_parts() {
        assert_eq!(keyed(CAUSE, "POST", "/a", "b").get_version_num(), 8);
        assert_ne!(keyed(CAUSE, "POST", "/a", "b"), keyed(CAUSE, "POST", "/ab", ""));
    }
}
