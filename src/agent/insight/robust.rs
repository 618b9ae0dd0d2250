//! Order statistics that one wild value cannot move.

/// What makes the median absolute deviation of a normal sample estimate its standard deviation: 1 / quantile(0.75).
pub(super) const DEVIATION_PER_MAD: f64 = 1.4826;

/// The same for the mean absolute deviation: the square root of half of pi.
pub(super) const DEVIATION_PER_MEAN: f64 = 1.2533;

/// The middle of `numbers`, which it reorders; 0 when there are none.
pub(super) fn median(numbers: &mut [f64]) -> f64 {
    if numbers.is_empty() {
        return 0.0;
    }
    let half = numbers.len() / 2;
    let odd = numbers.len() % 2 == 1;
    let (below, &mut middle, _) = numbers.select_nth_unstable_by(half, f64::total_cmp);
    if odd { middle } else { below.iter().copied().fold(f64::NEG_INFINITY, f64::max).midpoint(middle) }
}

/// The line through `points` (place, value) whose slope is the median of all slopes between them (Theil 1950, Sen 1968),
/// evaluated at `place`. It stands while fewer than three points in ten are wild.
pub(super) fn line_at(points: &[(f64, f64)], place: f64) -> f64 {
    let mut slopes: Vec<f64> = points
        .iter()
        .enumerate()
        .flat_map(|(nth, from)| points[nth + 1..].iter().map(move |to| (to.1 - from.1) / (to.0 - from.0)))
        .collect();
    let slope = median(&mut slopes);
    let mut heights: Vec<f64> = points.iter().map(|(at, value)| value - slope * (at - place)).collect();
    median(&mut heights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn a_robust_line_ignores_a_wild_point() {
        let mut points: Vec<(f64, f64)> = (0..10).map(|at| (f64::from(at), 2.0 * f64::from(at) + 1.0)).collect();
        points[4].1 = 1e6;
        assert!((line_at(&points, 12.0) - 25.0).abs() < 1e-9);
    }
}
