//! Finds values that stand out from what season and neighbours let expect, with measures that the odd values cannot move.

use super::robust::{DEVIATION_PER_MAD, DEVIATION_PER_MEAN, line_at, median};
use super::series::{fill, seasonal_profile};

/// Robust standard deviations at which a value is unusual. Normal noise reaches it less than once in a million values; what is
/// left of real series has longer tails.
const THRESHOLD: f64 = 5.0;

/// One value in so many may be unusual (and always two). When more stand out the measure is too fine, not the world too odd.
const UNUSUAL_ONE_IN: usize = 10;

/// Neighbours to each side that say what a value should be: with six, a burst of up to six odd values is still outvoted.
const NEIGHBOURS: usize = 6;

/// Least scale of what counts as unusual, as a share of the range of the series: below it lies only rounding.
const SCALE_SHARE_MIN: f64 = 1e-6;

/// An unusual value: its index in the values searched, what was expected there (on the same scale), and how far it stands out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub index: usize,
    pub expected: f64,
    pub score: f64,
}

/// The unusual values of a scaled series, in order of place. Missing values are never among them.
pub(super) fn find(values: &[Option<f64>], season: Option<usize>) -> Vec<Found> {
    let filled = fill(values, season);
    let profile = season.and_then(|season| seasonal_profile(values, &filled, season));
    let seasonal = |at: usize| profile.as_ref().map_or(0.0, |profile| profile[at % profile.len()]);
    let rest: Vec<f64> = filled.iter().enumerate().map(|(at, value)| value - seasonal(at)).collect();
    let expected = rolling_centre(&rest);
    let observed = |at: usize| values[at].map(|_| rest[at] - expected[at]);
    let residuals: Vec<f64> = (0..values.len()).filter_map(observed).collect();
    let cycles = profile.as_ref().map(|profile| values.len() / profile.len());
    let Some(scale) = scale(&residuals, &rest, &filled, cycles) else { return Vec::new() };
    (0..values.len())
        .filter_map(|index| {
            let score = observed(index)?.abs() / scale;
            (score > THRESHOLD).then_some(Found { index, expected: expected[index] + seasonal(index), score })
        })
        .collect()
}

/// The usual size of a residual, as a standard deviation; `None` when nothing varies.
///
/// A season learned from a few cycles has taken up part of their noise, which is given back here.
fn scale(residuals: &[f64], rest: &[f64], filled: &[f64], cycles: Option<usize>) -> Option<f64> {
    let mut sizes: Vec<f64> = residuals.iter().map(|residual| residual.abs()).collect();
    // Where the neighbours follow the series exactly, its usual step is the measure: a smooth curve has bends, not outliers.
    let mut steps: Vec<f64> = rest.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    let kept = cycles.map_or(1.0, |cycles| 1.0 - 1.0 / cycles.max(2) as f64);
    let usual = (DEVIATION_PER_MAD * median(&mut sizes) / kept.sqrt()).max(median(&mut steps));
    let usual = usual.max(size_of_unusual(&mut sizes) / THRESHOLD);
    let (low, high) =
        filled.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    let floor = SCALE_SHARE_MIN * (high - low);
    if usual > floor {
        return Some(usual);
    }
    // More than half of the values are exactly as expected; then the mean deviation is what is left to measure with.
    let mean = sizes.iter().sum::<f64>() / sizes.len().max(1) as f64;
    Some((DEVIATION_PER_MEAN * mean).max(floor)).filter(|&scale| scale > 0.0)
}

/// The size that only as many residuals exceed as may be unusual.
fn size_of_unusual(sizes: &mut [f64]) -> f64 {
    let unusual = (sizes.len() / UNUSUAL_ONE_IN).max(2);
    let Some(place) = sizes.len().checked_sub(unusual + 1) else { return 0.0 };
    *sizes.select_nth_unstable_by(place, f64::total_cmp).1
}

/// What the neighbours say at every place: their median inside, a robust line through the nearest ones at the two ends.
fn rolling_centre(values: &[f64]) -> Vec<f64> {
    let width = (2 * NEIGHBOURS + 1).min(values.len());
    let mut window = Vec::with_capacity(width);
    (0..values.len())
        .map(|at| {
            if at < NEIGHBOURS || at + NEIGHBOURS >= values.len() {
                let start = at.saturating_sub(NEIGHBOURS).min(values.len() - width);
                let near: Vec<(f64, f64)> = (start..start + width).map(|place| (place as f64, values[place])).collect();
                return line_at(&near, at as f64);
            }
            window.clear();
            window.extend_from_slice(&values[at - NEIGHBOURS..=at + NEIGHBOURS]);
            median(&mut window)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{air_passengers, noise, nottingham};
    use super::*;

    fn found(values: &[f64], season: Option<usize>) -> Vec<usize> {
        let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
        find(&values, season).iter().map(|found| found.index).collect()
    }

    fn sine(count: usize, period: f64) -> Vec<f64> {
        (0..count).map(|at| (at as f64 * std::f64::consts::TAU / period).sin()).collect()
    }

    #[test]
    fn a_planted_spike_is_found_with_what_was_expected() {
        for at in [0, 1, 30, 77, 118, 119] {
            let mut values = noise(3, 120);
            values[at] = 15.0;
            let values: Vec<Option<f64>> = values.into_iter().map(Some).collect();
            let found = find(&values, None);
            assert_eq!(found.len(), 1, "spike at {at}: {found:?}");
            assert_eq!(found[0].index, at);
            assert!(found[0].expected.abs() < 2.0 && found[0].score > 8.0, "{:?}", found[0]);
        }
    }

    #[test]
    fn a_spike_inside_a_strong_season_is_found() {
        for at in [0, 5, 50, 100, 143] {
            let mut values: Vec<f64> = air_passengers().iter().map(|value| value.ln()).collect();
            values[at] += 0.5;
            assert_eq!(found(&values, Some(12)), [at]);
        }
    }

    #[test]
    fn clean_series_have_no_outliers() {
        let line: Vec<f64> = (0..100).map(f64::from).collect();
        let growth: Vec<f64> = (0..100).map(|at| 1.02_f64.powi(at)).collect();
        let step: Vec<f64> = (0..100).map(|at| if at < 50 { 0.0 } else { 10.0 }).collect();
        let clean = [line, growth, step, vec![3.0; 40], sine(200, 12.0), sine(200, 62.8), sine(97, 7.0)];
        for (nth, values) in clean.iter().enumerate() {
            assert_eq!(found(values, None), [0; 0], "series {nth}");
        }
        assert_eq!(found(&sine(200, 12.0), Some(12)), [0; 0]);
        assert_eq!(found(&nottingham(), Some(12)), [0; 0]);
    }

    #[test]
    fn normal_noise_has_nearly_none() {
        let (mut plain, mut seasonal) = (0, 0);
        for seed in 0..50 {
            plain += found(&noise(seed, 200), None).len();
            seasonal += found(&noise(seed, 200), Some(12)).len();
        }
        assert!(plain <= 5 && seasonal <= 10, "{plain} and {seasonal} of 10,000 values");
    }

    #[test]
    fn a_spike_on_a_series_that_else_never_moves_is_found_with_a_finite_score() {
        let mut values = vec![Some(0.0); 50];
        values[20] = Some(1.0);
        let found = find(&values, None);
        assert_eq!((found.len(), found[0].index, found[0].expected), (1, 20, 0.0));
        assert!(found[0].score < 100.0, "{found:?}");
    }

    #[test]
    fn at_most_one_value_in_ten_is_unusual() {
        let (small, large) = (noise(6, 300), noise(8, 300));
        let value = |at: usize| if at.is_multiple_of(6) { large[at] } else { 0.001 * small[at] };
        assert_eq!(found(&(0..300).map(value).collect::<Vec<_>>(), None).len(), 30);
    }

    #[test]
    fn a_missing_value_is_never_an_outlier() {
        let mut values: Vec<Option<f64>> = noise(5, 100).into_iter().map(Some).collect();
        values[47..54].fill(None);
        values[50] = Some(30.0);
        let found = find(&values, None);
        assert!(found.iter().all(|found| values[found.index].is_some()), "{found:?}");
    }
}
