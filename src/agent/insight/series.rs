//! One series made ready for the models: cut to what was observed, its gaps filled, its numbers brought into a tame range.

use super::robust::median;

/// The observed stretch of an input: it begins and ends with an observed value, gaps inside are `None`.
#[derive(Debug)]
pub(super) struct Series {
    pub values: Vec<Option<f64>>,
    /// Missing values before the stretch; positions in the input are this much larger.
    pub lead: usize,
    /// Missing values after the stretch; a forecast has to reach over them first.
    pub trail: usize,
}

impl Series {
    /// `None` when nothing was observed.
    pub(super) fn of(input: &[Option<f64>]) -> Option<Self> {
        let first = input.iter().position(Option::is_some)?;
        let last = input.iter().rposition(Option::is_some)?;
        Some(Self { values: input[first..=last].to_vec(), lead: first, trail: input.len() - 1 - last })
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn observed(&self) -> impl Iterator<Item = f64> {
        self.values.iter().flatten().copied()
    }

    /// The one value that every observation has, if they are all alike.
    pub(super) fn constant(&self) -> Option<f64> {
        let first = self.observed().next()?;
        self.observed().all(|value| value == first).then_some(first)
    }
}

/// A reversible map of values into -1..=1, so that models meet neither huge nor tiny numbers whatever the unit of the series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    centre: f64,
    unit: f64,
    ratios: bool,
}

impl Scale {
    /// Differences stay differences.
    pub(super) fn plain(series: &Series) -> Self {
        Self::around(series.observed().collect(), false)
    }

    /// Ratios become differences (logarithms): only for values that are all above zero.
    pub(super) fn ratios(series: &Series) -> Option<Self> {
        let logs: Vec<f64> = series.observed().map(f64::ln).collect();
        logs.iter().all(|log| log.is_finite()).then(|| Self::around(logs, true))
    }

    fn around(mut numbers: Vec<f64>, ratios: bool) -> Self {
        let centre = median(&mut numbers);
        let unit = numbers.iter().map(|number| (number - centre).abs()).fold(0.0, f64::max);
        // Logarithms of values that differ by one bit may coincide; then any unit serves.
        Self { centre, unit: if unit > 0.0 { unit } else { 1.0 }, ratios }
    }

    pub(super) fn enter(&self, value: f64) -> f64 {
        let number = if self.ratios { value.ln() } else { value };
        (number - self.centre) / self.unit
    }

    pub(super) fn leave(&self, scaled: f64) -> f64 {
        let number = scaled * self.unit + self.centre;
        if self.ratios { number.exp() } else { number }
    }

    pub(super) fn enter_all(&self, series: &Series) -> Vec<Option<f64>> {
        series.values.iter().map(|value| value.map(|value| self.enter(value))).collect()
    }
}

/// Fills gaps on the line between their neighbours; with a season, on that line after taking the season off, then puts the
/// season back. Missing ends repeat the nearest observed value (again without the season).
pub(super) fn fill(values: &[Option<f64>], season: Option<usize>) -> Vec<f64> {
    let straight = fill_straight(values);
    let gaps = season.filter(|_| values.contains(&None));
    let Some(profile) = gaps.and_then(|season| seasonal_profile(values, &straight, season)) else {
        return straight;
    };
    let season = profile.len();
    let level: Vec<Option<f64>> =
        values.iter().enumerate().map(|(at, value)| value.map(|value| value - profile[at % season])).collect();
    fill_straight(&level).into_iter().enumerate().map(|(at, level)| level + profile[at % season]).collect()
}

fn fill_straight(values: &[Option<f64>]) -> Vec<f64> {
    let mut filled: Vec<f64> = Vec::with_capacity(values.len());
    let mut previous: Option<(usize, f64)> = None;
    for (at, value) in values.iter().enumerate() {
        let Some(value) = *value else { continue };
        let (start, from) = previous.map_or((0, value), |(place, from)| (place + 1, from));
        let steps = (at + 1 - start) as f64;
        filled.extend((start..at).map(|gap| from + (value - from) * ((gap + 1 - start) as f64 / steps)));
        filled.push(value);
        previous = Some((at, value));
    }
    filled.resize(values.len(), previous.map_or(0.0, |(_, value)| value));
    filled
}

/// How far each phase of the season usually stands above the moving average of the `filled` values: medians over the observed
/// ones, so that one odd value moves nothing. `None` below two full seasons.
pub(super) fn seasonal_profile(values: &[Option<f64>], filled: &[f64], season: usize) -> Option<Vec<f64>> {
    if values.len() < 2 * season {
        return None;
    }
    let mut sums = Vec::with_capacity(filled.len() + 1);
    sums.push(0.0);
    for value in filled {
        sums.push(sums[sums.len() - 1] + value);
    }
    let average = |at: usize| {
        let start = at.saturating_sub(season / 2).min(filled.len() - season);
        (sums[start + season] - sums[start]) / season as f64
    };
    let height = |phase: usize| {
        let places = (phase..values.len()).step_by(season);
        let mut heights: Vec<f64> = places.filter_map(|at| values[at].map(|value| value - average(at))).collect();
        median(&mut heights)
    };
    Some((0..season).map(height).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(at: usize) -> f64 {
        (at as f64 * std::f64::consts::TAU / 12.0).sin()
    }

    #[test]
    fn missing_ends_are_cut_and_counted() {
        let series = Series::of(&[None, Some(1.0), None, Some(3.0), None, None]).unwrap();
        assert_eq!((series.lead, series.trail, series.values), (1, 2, vec![Some(1.0), None, Some(3.0)]));
        assert!(Series::of(&[None, None]).is_none());
    }

    #[test]
    fn a_gap_is_filled_on_the_line_between_its_neighbours() {
        let filled = fill(&[None, Some(1.0), None, None, Some(4.0), None], None);
        assert_eq!(filled, [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
    }

    #[test]
    fn a_gap_in_a_season_follows_the_season() {
        let mut values: Vec<Option<f64>> = (0..60).map(|at| Some(wave(at))).collect();
        values[26..32].fill(None);
        let filled = fill(&values, Some(12));
        for (at, value) in filled.iter().enumerate() {
            assert!((value - wave(at)).abs() < 0.1, "{at}: {value} instead of {}", wave(at));
        }
    }

    #[test]
    fn both_scales_lead_back_to_the_value() {
        let series = Series::of(&[Some(1e-9), Some(2.5), Some(9e14)]).unwrap();
        for scale in [Scale::plain(&series), Scale::ratios(&series).unwrap()] {
            for value in [2.5, 9e14] {
                assert!((scale.leave(scale.enter(value)) / value - 1.0).abs() < 1e-9);
                assert!(scale.enter(value).abs() <= 1.0);
            }
        }
    }

    #[test]
    fn values_at_or_below_zero_have_no_ratios() {
        assert!(Scale::ratios(&Series::of(&[Some(0.0), Some(2.0)]).unwrap()).is_none());
        assert!(Scale::ratios(&Series::of(&[Some(-1.0), Some(2.0)]).unwrap()).is_none());
    }
}
