//! The rules of sealing, for both suites.
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const SUITES: [Suite; 2] = [Suite::XChaCha20Poly1305, Suite::Aes256Gcm];
const SCOPE: &[u8] = b"task/018f";
const AAD: &[u8] = b"7|event|task.submitted";

fn key(seed: u8) -> DataKey {
    DataKey::from_bytes(Uuid::from_u128(seed.into()), Zeroizing::new([seed; KEY_BYTES]))
}

#[rstest]
fn what_was_sealed_opens(#[values(Suite::XChaCha20Poly1305, Suite::Aes256Gcm)] suite: Suite) {
    for length in [0, 1, 15, 16, 17, 311, 70_000] {
        let clear: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let sealed = seal(suite, &key(1), SCOPE, AAD, &clear);
        assert_eq!(open(&key(1), SCOPE, AAD, &sealed).unwrap(), clear);
        assert_eq!(key_id(&sealed).unwrap(), key(1).id);
    }
}

#[test]
fn xchacha_is_the_standard_cipher_bit_for_bit() {
    let key = key(7);
    let reference = chacha20poly1305::XChaCha20Poly1305::new(key.expose().into());
    for length in 0..600 {
        let clear: Vec<u8> = (0..length).map(|i| (i * 3) as u8).collect();
        let sealed = seal(Suite::XChaCha20Poly1305, &key, SCOPE, AAD, &clear);
        let (header, body) = sealed.split_at(NONCE_AT + LONG_NONCE_BYTES);
        let nonce: [u8; LONG_NONCE_BYTES] = header[NONCE_AT..].try_into().unwrap();
        let aad = [header, &(SCOPE.len() as u64).to_be_bytes(), SCOPE, AAD].concat();
        assert_eq!(body, reference.encrypt(&nonce.into(), Payload { msg: &clear, aad: &aad }).unwrap());
    }
}

#[test]
fn what_is_sealed_plainly_opens_by_the_standard_cipher_and_back() {
    let key = key(9);
    let reference = chacha20poly1305::XChaCha20Poly1305::new(key.expose().into());
    for length in [0, 1, 16, 300, 70_000] {
        let clear: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let sealed = seal_plain(key.expose(), AAD, &clear);
        let (nonce, body) = sealed.split_at(LONG_NONCE_BYTES);
        let nonce: [u8; LONG_NONCE_BYTES] = nonce.try_into().unwrap();
        assert_eq!(reference.decrypt(&nonce.into(), Payload { msg: body, aad: AAD }).unwrap(), clear);
        assert_eq!(open_plain(key.expose(), AAD, &sealed).unwrap(), clear);
        assert_eq!(open_plain(key.expose(), b"", &sealed), Err(OpenError::Altered));
        for cut in [0, 1, 39] {
            assert_eq!(open_plain(key.expose(), AAD, &sealed[..cut]), Err(OpenError::Truncated));
        }
        for at in 0..sealed.len().min(60) {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(open_plain(key.expose(), AAD, &altered), Err(OpenError::Altered), "byte {at}");
        }
    }
}

#[rstest]
fn every_flipped_bit_is_refused(#[values(Suite::XChaCha20Poly1305, Suite::Aes256Gcm)] suite: Suite) {
    let sealed = seal(suite, &key(1), SCOPE, AAD, b"a person's words");
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut altered = sealed.clone();
            altered[at] ^= 1 << bit;
            assert!(open(&key(1), SCOPE, AAD, &altered).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[rstest]
fn a_value_opens_only_where_it_was_put(#[values(Suite::XChaCha20Poly1305, Suite::Aes256Gcm)] suite: Suite) {
    let sealed = seal(suite, &key(1), b"ab", b"cd", b"clear");
    for (scope, aad) in [("xx", "cd"), ("ab", "xx"), ("a", "bcd"), ("abc", "d"), ("abcd", ""), ("", "abcd")] {
        let answer = open(&key(1), scope.as_bytes(), aad.as_bytes(), &sealed);
        assert_eq!(answer, Err(OpenError::Altered), "{scope}/{aad}");
    }
}

#[rstest]
fn another_key_opens_nothing(#[values(Suite::XChaCha20Poly1305, Suite::Aes256Gcm)] suite: Suite) {
    let sealed = seal(suite, &key(1), SCOPE, AAD, b"clear");
    let named_otherwise = open(&key(2), SCOPE, AAD, &sealed);
    assert_eq!(named_otherwise, Err(OpenError::WrongKey { named: key(1).id, given: key(2).id }));
    let impostor = DataKey::generate(key(1).id);
    assert_eq!(open(&impostor, SCOPE, AAD, &sealed), Err(OpenError::Altered));
}

#[rstest]
fn a_value_cut_anywhere_is_refused(#[values(Suite::XChaCha20Poly1305, Suite::Aes256Gcm)] suite: Suite) {
    let sealed = seal(suite, &key(1), SCOPE, AAD, b"clear");
    for length in 0..sealed.len() {
        assert!(open(&key(1), SCOPE, AAD, &sealed[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(open(&key(1), SCOPE, AAD, &[]), Err(OpenError::Truncated));
    assert_eq!(key_id(&sealed[..NONCE_AT]), Err(OpenError::Truncated));
}

#[test]
fn an_unknown_format_or_suite_is_named() {
    let mut sealed = seal(Suite::default(), &key(1), SCOPE, AAD, b"clear");
    sealed[1] = 9;
    assert_eq!(open(&key(1), SCOPE, AAD, &sealed), Err(OpenError::UnknownSuite(9)));
    sealed[0] = 5;
    assert_eq!(key_id(&sealed), Err(OpenError::UnknownFormat(5)));
    assert_eq!(OpenError::UnknownSuite(9).to_string(), "unknown cipher suite 9");
}

#[test]
fn the_same_text_never_seals_the_same_twice() {
    for suite in SUITES {
        let seal = || seal(suite, &key(1), SCOPE, AAD, b"clear");
        assert_ne!(seal(), seal());
    }
}

#[test]
fn each_scope_has_its_own_aes_key() {
    let nonce = [0; NONCE_LEN];
    let body = |scope: &[u8]| {
        let (cipher, nonce) = aes_of_scope(&key(1), scope, &nonce);
        let mut body = *b"the same sixteen";
        let tag = cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut body).unwrap();
        (body, tag.as_ref().to_vec())
    };
    assert_ne!(body(b"task/1"), body(b"task/2"));
}

#[test]
fn the_key_of_a_scope_is_that_of_hkdf() {
    use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
    let mut derived = [0; KEY_BYTES];
    let prk = Prk::new_less_safe(HKDF_SHA256, key(1).expose());
    prk.expand(&[DERIVATION_LABEL, b"task/1"], HKDF_SHA256).unwrap().fill(&mut derived).unwrap();
    let nonce = || Nonce::assume_unique_for_key([0; NONCE_LEN]);
    let expected = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived).unwrap());
    let mut body = b"the same sixteen".to_vec();
    expected.seal_in_place_append_tag(nonce(), Aad::empty(), &mut body).unwrap();
    let (cipher, _) = aes_of_scope(&key(1), b"task/1", &[0; NONCE_LEN]);
    assert_eq!(cipher.open_in_place(nonce(), Aad::empty(), &mut body).unwrap(), b"the same sixteen");
}

#[test]
fn associated_data_of_any_length_is_authenticated() {
    for length in [0, 1, ASSOCIATED_INLINE_BYTES - 58, ASSOCIATED_INLINE_BYTES, 10 * ASSOCIATED_INLINE_BYTES] {
        let mut place = vec![7; length];
        let sealed = seal(Suite::default(), &key(1), b"task/1", &place, b"text");
        assert_eq!(open(&key(1), b"task/1", &place, &sealed).unwrap(), b"text");
        place.push(7);
        assert_eq!(open(&key(1), b"task/1", &place, &sealed), Err(OpenError::Altered), "{length}");
    }
}

#[test]
fn a_label_sets_two_uses_of_one_mac_apart() {
    assert_eq!(key(1).mac("email", b"ada@x"), key(1).mac("email", b"ada@x"));
    for (label, data) in [("emai", b"lada@x".as_slice()), ("email", b"ada@y"), ("digest", b"ada@x")] {
        assert_ne!(key(1).mac("email", b"ada@x"), key(1).mac(label, data), "{label}");
    }
    assert_ne!(key(1).mac("email", b"ada@x"), key(2).mac("email", b"ada@x"));
}

#[test]
fn a_key_never_shows_in_debug_output() {
    let shown = format!("{:?}", key(0xab));
    assert!(!shown.contains("171") && shown.contains("id"), "{shown}");
}

#[test]
fn a_suite_is_read_from_its_setting() {
    assert_eq!("xchacha20poly1305".parse(), Ok(Suite::XChaCha20Poly1305));
    assert_eq!("aes256gcm".parse(), Ok(Suite::Aes256Gcm));
    assert!("aes".parse::<Suite>().unwrap_err().to_string().contains("xchacha20poly1305 or aes256gcm"));
}

proptest! {
    #[test]
    fn any_value_opens_in_its_place_and_only_there(
        suite in prop::sample::select(&SUITES[..]),
        scope in prop::collection::vec(any::<u8>(), 0..64),
        aad in prop::collection::vec(any::<u8>(), 0..300),
        clear in prop::collection::vec(any::<u8>(), 0..500),
        at in any::<prop::sample::Index>(),
        mask in 1u8..,
    ) {
        let mut sealed = seal(suite, &key(3), &scope, &aad, &clear);
        prop_assert_eq!(open(&key(3), &scope, &aad, &sealed).unwrap(), clear);
        let at = at.index(sealed.len());
        sealed[at] ^= mask;
        prop_assert!(open(&key(3), &scope, &aad, &sealed).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(sealed in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&key(3), SCOPE, AAD, &sealed).is_err());
    }
}
