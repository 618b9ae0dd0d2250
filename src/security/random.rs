//! Random bytes for keys, nonces and tokens, all from one generator.
use aws_lc_rs::rand;
use zeroize::Zeroizing;

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
