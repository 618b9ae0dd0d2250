//! What sealing and opening one part of 300 bytes costs, beside a portable XChaCha20-Poly1305.
use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{Aead, KeyInit, Payload},
};
use marvin::security::cipher::{self, DataKey, Suite};
use std::hint::black_box;
use uuid::Uuid;

#[path = "support/mod.rs"]
mod support;
use support::{Ratio, Target, note, setting, take_turns, typical_seconds};

const ROUNDS: usize = 21;
/// Slices of a hundred calls in a round; the round's time is the median of theirs.
const SLICES: usize = 200;
const PART_BYTES: usize = 300;
/// What a part of that size may cost: 0.5 µs where the portable crate takes 1.6 µs, so that a slower machine makes no difference.
const TIME_TO_PORTABLE_MAX: f64 = 0.5 / 1.6;

fn main() {
    let rounds = setting("MARVIN_BENCH_ROUNDS", ROUNDS);
    note(&format!("Sealing: {PART_BYTES} bytes a part, {SLICES} slices of a hundred parts a round."));
    let clear = [b'x'; PART_BYTES];
    // As the log does: a scope is a stream; a place is a sequence, an event id, a version and a type.
    let scope = [&b"task/"[..], Uuid::now_v7().as_bytes()].concat();
    let place = [&b"facts "[..], &17_u64.to_be_bytes(), Uuid::now_v7().as_bytes(), &[0, 1], b"step_completed"].concat();
    let (scope, place) = (&scope[..], &place[..]);

    let reference = XChaCha20Poly1305::new(&[7; 32].into());
    let nonce = [9; 24];
    let sealed_by_reference =
        reference.encrypt(&nonce.into(), Payload { msg: &clear, aad: place }).expect("it is short");
    let seal_reference = || {
        let payload = || Payload { msg: black_box(&clear), aad: place };
        typical_seconds(SLICES, || reference.encrypt(&nonce.into(), payload()).expect("it is short"))
    };
    let open_reference = || {
        let payload = || Payload { msg: black_box(&sealed_by_reference), aad: place };
        typical_seconds(SLICES, || reference.decrypt(&nonce.into(), payload()).expect("it was sealed so"))
    };

    for (suite, name) in [(Suite::XChaCha20Poly1305, "XChaCha20-Poly1305"), (Suite::Aes256Gcm, "AES-256-GCM")] {
        let key = DataKey::generate(Uuid::now_v7());
        let sealed = cipher::seal(suite, &key, scope, place, &clear);
        assert_eq!(cipher::open(&key, scope, place, &sealed).expect("it was sealed so"), clear);
        let seal = || typical_seconds(SLICES, || cipher::seal(suite, &key, scope, place, black_box(&clear)));
        let open = || {
            typical_seconds(SLICES, || cipher::open(&key, scope, place, black_box(&sealed)).expect("it was sealed so"))
        };
        let sealing = take_turns(rounds, seal_reference, seal);
        sealing.report(&format!("seal 300 bytes, {name}, µs"), Target::None, Ratio::Microseconds);
        sealing.report(
            &format!("seal 300 bytes, {name}, time to chacha20poly1305"),
            Target::AtMost(TIME_TO_PORTABLE_MAX),
            Ratio::Time,
        );
        let opening = take_turns(rounds, open_reference, open);
        opening.report(&format!("open 300 bytes, {name}, µs"), Target::None, Ratio::Microseconds);
        opening.report(
            &format!("open 300 bytes, {name}, time to chacha20poly1305"),
            Target::AtMost(TIME_TO_PORTABLE_MAX),
            Ratio::Time,
        );
    }
}
