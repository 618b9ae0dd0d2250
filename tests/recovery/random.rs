//! Numbers that look random and follow from a seed, so that a failed run can be repeated.
use std::time::{SystemTime, UNIX_EPOCH};

/// Sebastiano Vigna's SplitMix64: one addition and three mixes a number.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by `RECOVERY_SEED` or by the clock. The seed is printed: it is what repeats the run.
    pub fn printed() -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("RECOVERY_SEED").map_or_else(|_| clock(), |seed| seed.parse().unwrap());
        println!("RECOVERY_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
