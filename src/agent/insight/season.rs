//! Proposes the length of a season from the data. Only a proposal: the held-out error decides whether it is believed.

use std::ops::RangeInclusive;

use augurs::seasons::PeriodogramDetector;

use super::robust::median;

/// Values looked at: enough for ten cycles of the longest season a periodogram of this length resolves, cheap to correlate.
const POINTS_MAX: usize = 4_000;

/// Below this a season cannot repeat three times and still leave the periodogram segments that mean anything.
const POINTS_MIN: usize = 24;

/// Cycles that must have been seen before a season is proposed: two alike may be chance.
const CYCLES_MIN: usize = 3;

/// Share of the strongest peak that other peaks must reach to be considered too.
const PEAK_SHARE_MIN: f64 = 0.1;

/// Multiples of a peak's length considered: the overtones of a ragged season may be stronger than the season itself.
const OVERTONES_MAX: usize = 4;

/// Usual (median) sizes that a step from value to value may have before it is cut down; seasonal steps stay below.
const STEP_SIZES_MAX: f64 = 8.0;

/// Standard errors of a correlation that a proposal must exceed: about one series of noise in a thousand passes.
const CORRELATION_ERRORS_MIN: f64 = 3.0;

/// Standard errors by which a part of the best season may correlate less: multiples of a season correlate as well as it does.
const PART_ERRORS_MAX: f64 = 3.0;

/// The most plausible season of `values` (evenly spaced, without gaps), if any stands out.
///
/// A periodogram names rough lengths; the correlation of the changes with themselves one season earlier settles the exact one.
pub(super) fn propose(values: &[f64]) -> Option<usize> {
    let recent = &values[values.len().saturating_sub(POINTS_MAX)..];
    if recent.len() < POINTS_MIN {
        return None;
    }
    let longest = recent.len() / CYCLES_MIN;
    let changes = tame_changes(recent);
    let correlation = correlations(&changes, longest + 1)?;
    let error = (changes.len() as f64).sqrt().recip();
    let strong: Vec<usize> = lengths_near_peaks(&changes, longest)
        .into_iter()
        .filter(|&lag| correlation[lag] > CORRELATION_ERRORS_MIN * error && is_peak(&correlation, lag))
        .collect();
    let best = *strong.iter().max_by(|&&a, &&b| correlation[a].total_cmp(&correlation[b]))?;
    let parts = strong.into_iter().filter(|lag| best % lag == 0);
    parts.filter(|&lag| correlation[lag] >= correlation[best] - PART_ERRORS_MAX * error).min()
}

/// The steps from value to value, which have no trend to drown a season in. Wild ones are cut down, so that a spike, which is
/// followed by a step back, leaves the season visible.
fn tame_changes(values: &[f64]) -> Vec<f64> {
    let steps = values.windows(2).map(|pair| pair[1] - pair[0]);
    let mut sizes: Vec<f64> = steps.clone().map(f64::abs).collect();
    let usual = median(&mut sizes);
    let most = if usual > 0.0 { STEP_SIZES_MAX * usual } else { f64::INFINITY };
    steps.map(|step| step.clamp(-most, most)).collect()
}

/// Lengths (2..=longest) close to a peak in the periodogram of the changes, or of the values they add up to: the first sees
/// short seasons best, the second long ones.
fn lengths_near_peaks(changes: &[f64], longest: usize) -> Vec<usize> {
    let values: Vec<f64> = changes
        .iter()
        .scan(0.0, |sum, change| {
            *sum += change;
            Some(*sum)
        })
        .collect();
    let detector = PeriodogramDetector::builder().min_period(2).max_period(longest as u32 + 1).build();
    let mut lengths: Vec<usize> = [without_line(&values), changes.to_vec()]
        .iter()
        .flat_map(|numbers| detector.periodogram(numbers).peaks(PEAK_SHARE_MIN).collect::<Vec<_>>())
        .map(|peak| [peak.prev_period, peak.next_period, peak.period.saturating_sub(1), peak.period + 1])
        .flat_map(|beside| (1..=OVERTONES_MAX).flat_map(move |times| between(beside, times)))
        .filter(|length| (2..=longest).contains(length))
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// The lengths that `times` the length of a peak may mean. The bins of a periodogram are coarse: the truth lies between the bins
/// `beside` it (0 stands for none).
fn between(beside: [u32; 4], times: usize) -> RangeInclusive<usize> {
    let known = beside.into_iter().filter(|&period| period > 0).map(|period| period as usize * times);
    known.clone().min().unwrap_or(0)..=known.max().unwrap_or(0)
}

fn without_line(values: &[f64]) -> Vec<f64> {
    let middle = (values.len() - 1) as f64 / 2.0;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (mut across, mut along) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        across += (at as f64 - middle) * (value - mean);
        along += (at as f64 - middle).powi(2);
    }
    let slope = across / along;
    values.iter().enumerate().map(|(at, value)| value - mean - slope * (at as f64 - middle)).collect()
}

/// Correlation of `numbers` with themselves `lag` places earlier, for lags 0..=longest; `None` when they do not vary.
fn correlations(numbers: &[f64], longest: usize) -> Option<Vec<f64>> {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let centred: Vec<f64> = numbers.iter().map(|number| number - mean).collect();
    let mut power_before = vec![0.0; centred.len() + 1];
    for (at, number) in centred.iter().enumerate() {
        power_before[at + 1] = power_before[at] + number * number;
    }
    let all = power_before[centred.len()];
    let at_lag = |lag: usize| {
        let (early, late) = (&centred[..centred.len() - lag], &centred[lag..]);
        let shared: f64 = early.iter().zip(late).map(|(a, b)| a * b).sum();
        // Each stretch is measured by its own power: seasons that grow would otherwise seem alike over many years only.
        let power = (power_before[early.len()] * (all - power_before[lag])).sqrt();
        if power > 0.0 { shared / power } else { 0.0 }
    };
    (all > 0.0).then(|| (0..=longest.min(numbers.len() - 1)).map(at_lag).collect())
}

fn is_peak(correlation: &[f64], lag: usize) -> bool {
    let here = correlation[lag];
    let beside = |at: Option<&f64>| at.is_none_or(|&other| here >= other);
    // The place before the first lag holds the certain correlation of 1 with itself, which is no rival.
    (lag <= 2 || beside(correlation.get(lag - 1))) && beside(correlation.get(lag + 1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{air_passengers, noise, nottingham};
    use super::*;

    fn values(count: usize, of: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..count).map(of).collect()
    }

    #[test]
    fn the_year_is_found_in_both_monthly_series() {
        assert_eq!(propose(&air_passengers()), Some(12));
        assert_eq!(propose(&nottingham()), Some(12));
    }

    #[test]
    fn a_week_is_found_under_a_trend_and_noise() {
        let week = [0.0, 1.0, 1.0, 2.0, 3.0, 6.0, 5.0];
        let shaken = noise(7, 210);
        assert_eq!(propose(&values(210, |at| week[at % 7] + 0.05 * at as f64 + 0.5 * shaken[at])), Some(7));
    }

    #[test]
    fn a_spike_does_not_hide_the_season() {
        for at in [10, 59, 100] {
            let mut values = air_passengers();
            values[at] += 2_000.0;
            assert_eq!(propose(&values), Some(12), "spike at {at}");
        }
    }

    #[test]
    fn long_and_short_seasons_are_found_exactly() {
        let shaken = noise(11, 2_000);
        for season in [2, 3, 4, 5, 24, 30, 52, 168, 365] {
            let shape = noise(season as u64, season);
            let series = values(2_000, |at| 3.0 * shape[at % season] + 0.3 * shaken[at]);
            assert_eq!(propose(&series), Some(season), "season of {season}");
        }
    }

    #[test]
    fn a_line_and_a_short_series_have_no_season() {
        assert_eq!(propose(&values(200, |at| at as f64)), None);
        assert_eq!(propose(&values(20, |at| (at % 4) as f64)), None);
    }
}
