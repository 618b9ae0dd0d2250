//! How wide a forecast's range must be, learned from the held-out misses.

use super::backtest::Miss;

/// Fewest degrees of freedom assumed for the misses: with fewer the quantiles of Student's distribution mean nothing.
const FREEDOM_MIN: f64 = 3.0;

/// Independent misses that an origin is worth. Its misses hang together, but not wholly. Set by the example series: with two,
/// ranges at 95 percent held 95.7 percent of 6,000 held-out values.
const FREEDOM_PER_ORIGIN: f64 = 2.0;

/// The spread of misses, growing with the lead: its square is a line, as it is for a wandering level (slope) around which values
/// scatter (start).
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    start: f64,
    slope: f64,
    freedom: f64,
}

impl Spread {
    /// How much is known is counted by `origins`, not by misses.
    pub(super) fn of(misses: &[Miss], origins: usize) -> Self {
        let (start, slope) = rising_line(misses);
        Self { start, slope, freedom: (FREEDOM_PER_ORIGIN * (origins as f64 - 1.0)).max(FREEDOM_MIN) }
    }

    /// Half the width of the range at `lead` steps that holds the value with probability `level`.
    pub(super) fn half_width(&self, lead: usize, level: f64) -> f64 {
        student_quantile(0.5 + level / 2.0, self.freedom) * (self.start + self.slope * lead as f64).sqrt()
    }
}

/// The least-squares line through the squared misses over their leads, among those that neither start below zero nor fall.
fn rising_line(misses: &[Miss]) -> (f64, f64) {
    let count = misses.len().max(1) as f64;
    let lead_mean = misses.iter().map(|miss| miss.lead as f64).sum::<f64>() / count;
    let square_mean = misses.iter().map(|miss| miss.by * miss.by).sum::<f64>() / count;
    let (mut across, mut along, mut through, mut lead_squares) = (0.0, 0.0, 0.0, 0.0);
    for miss in misses {
        let (lead, square) = (miss.lead as f64, miss.by * miss.by);
        across += (lead - lead_mean) * (square - square_mean);
        along += (lead - lead_mean).powi(2);
        through += lead * square;
        lead_squares += lead * lead;
    }
    let slope = if along > 0.0 { across / along } else { 0.0 };
    let start = square_mean - slope * lead_mean;
    if slope <= 0.0 {
        (square_mean, 0.0)
    } else if start < 0.0 {
        (0.0, through / lead_squares)
    } else {
        (start, slope)
    }
}

/// Quantile of Student's distribution for 0.5 <= `probability` < 1, by the expansion around the normal quantile (Abramowitz
/// and Stegun, 26.7.5): within 2 percent from 3 degrees of freedom on, for probabilities to 0.99.
fn student_quantile(probability: f64, freedom: f64) -> f64 {
    let z = normal_quantile(probability);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * freedom)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * freedom.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * freedom.powi(3))
}

/// Quantile of the normal distribution for 0.5 <= `probability` < 1 (Abramowitz and Stegun, 26.2.23: off by at most 0.00045).
fn normal_quantile(probability: f64) -> f64 {
    let t = (-2.0 * (1.0 - probability).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    (t - above / below).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(of: impl Fn(usize) -> f64) -> Vec<Miss> {
        (1..=40).map(|nth| (nth - 1) % 10 + 1).map(|lead| Miss { lead, by: of(lead) }).collect()
    }

    #[test]
    fn quantiles_match_the_published_tables() {
        for (probability, freedom, table) in
            [(0.975, 7.0, 2.365), (0.9, 5.0, 1.476), (0.995, 10.0, 3.169), (0.75, 3.0, 0.765), (0.975, 1e9, 1.960)]
        {
            let found = student_quantile(probability, freedom);
            assert!((found / table - 1.0).abs() < 0.01, "{probability} {freedom}: {found} instead of {table}");
        }
    }

    #[test]
    fn misses_that_grow_with_the_lead_widen_the_range() {
        let spread = Spread::of(&misses(|lead| (lead as f64).sqrt()), 8);
        let at = |lead| spread.half_width(lead, 0.95);
        assert!((at(9) / at(1) - 3.0).abs() < 0.01);
        assert!(at(40) > at(20), "beyond what was held out it goes on widening");
    }

    #[test]
    fn misses_that_do_not_grow_keep_the_range_even() {
        for of in [|_| 2.0, |lead: usize| 10.0 / lead as f64] {
            let spread = Spread::of(&misses(of), 8);
            assert_eq!(spread.half_width(1, 0.9), spread.half_width(30, 0.9));
        }
    }

    #[test]
    fn a_higher_level_is_wider_and_no_misses_are_no_width() {
        let spread = Spread::of(&misses(|_| 1.0), 8);
        let widths: Vec<f64> = [0.01, 0.5, 0.8, 0.95, 0.99, 0.999].map(|level| spread.half_width(3, level)).to_vec();
        assert!(widths.is_sorted() && widths[0] >= 0.0);
        assert_eq!(Spread::of(&[], 1).half_width(1, 0.95), 0.0);
    }

    #[test]
    fn fewer_origins_make_the_range_wider() {
        let with = |origins| Spread::of(&misses(|_| 1.0), origins).half_width(1, 0.95);
        assert!(with(4) > with(8));
    }
}
