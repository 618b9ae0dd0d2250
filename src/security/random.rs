//! Random bytes for keys, nonces and tokens, all from one generator.
use aws_lc_rs::rand;
use std::cell::RefCell;
use zeroize::Zeroizing;

/// Nonces drawn at once: a call of the generator costs as much as sealing a part, whether it fills 24 bytes or a page.
const NONCE_POOL_BYTES: usize = 4_096;

thread_local! {
    static NONCES: RefCell<NoncePool> = const { RefCell::new(NoncePool { bytes: [0; NONCE_POOL_BYTES], used: NONCE_POOL_BYTES }) };
}

/// Random bytes that wait for their use. They may, since a nonce is no secret; a key never comes from here.
struct NoncePool {
    bytes: [u8; NONCE_POOL_BYTES],
    used: usize,
}

/// A random nonce. No byte of the pool is handed out twice.
pub fn nonce<const N: usize>() -> [u8; N] {
    const { assert!(N <= NONCE_POOL_BYTES) };
    NONCES.with_borrow_mut(|pool| {
        if pool.used + N > NONCE_POOL_BYTES {
            fill(&mut pool.bytes);
            pool.used = 0;
        }
        let mut out = [0; N];
        out.copy_from_slice(&pool.bytes[pool.used..pool.used + N]);
        pool.used += N;
        out
    })
}

/// Fills an array from the cryptographic generator.
///
/// # Panics
/// When the operating system gives no randomness: nothing can be kept secret then, so nothing may go on.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out);
    out
}

/// The same for key material: wiped when it goes out of use.
pub fn secret<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    fill(out.as_mut_slice());
    out
}

fn fill(out: &mut [u8]) {
    rand::fill(out).expect("the operating system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_nonce_comes_twice_though_many_are_drawn_at_once() {
        let many = NONCE_POOL_BYTES / 24 * 3 + 1;
        let nonces: HashSet<[u8; 24]> = (0..many).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), many);
    }

    #[test]
    fn threads_draw_different_nonces() {
        let draw = || std::thread::spawn(nonce::<24>).join().unwrap();
        assert_ne!(draw(), draw());
    }

    #[test]
    fn nonces_of_different_lengths_share_no_bytes() {
        let (first, second) = (nonce::<24>(), nonce::<12>());
        assert!(!first.windows(12).any(|part| part == second));
    }
}
