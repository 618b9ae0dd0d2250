//! Series for the tests: the two shipped ones and repeatable noise.

use super::InsightInput;

fn column(csv: &str) -> Vec<f64> {
    csv.lines().skip(1).map(|line| line.split_once(',').unwrap().1.parse().unwrap()).collect()
}

pub(super) fn air_passengers() -> Vec<f64> {
    column(include_str!("../../../examples/data/air-passengers.csv"))
}

pub(super) fn nottingham() -> Vec<f64> {
    column(include_str!("../../../examples/data/nottingham-temperature.csv"))
}

/// Normal noise with mean 0 and deviation 1 (Box and Muller on a 64-bit congruential generator): the same for a seed everywhere.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678);
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 + 0.5) / (1u64 << 31) as f64
    };
    (0..count).map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()).collect()
}

pub(super) fn input(values: &[f64]) -> InsightInput {
    InsightInput { values: values.iter().copied().map(Some).collect(), season: None, horizon: None, level: None }
}
