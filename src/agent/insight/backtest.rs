//! Lets candidates forecast stretches that are already known, from several origins, and counts their errors.

use std::ops::Range;

use super::candidates::{Candidate, Method};
use super::outliers::{self, Found};
use super::series::{Scale, Series, fill};

/// Origins to forecast from: enough that luck at one of them does not decide, few enough to fit models at each.
const ORIGINS_MAX: usize = 8;

/// Origins that room is made for, by holding back less at each, while the series allows it.
const ORIGINS_MIN: usize = 6;

/// Values before the first origin that smoothing needs to fit sensibly.
const TRAINING_MIN: usize = 12;

/// At most this part of a series is held back at an origin: what a short history says about the far future decides nothing.
const HELD_PART: usize = 4;

/// Latest values that models see: older ones describe another time, and 100,000 of them would cost minutes.
const HISTORY_POINTS_MAX: usize = 1_000;

/// Or this many seasons, if that is longer: the shape of a season needs about so many.
const HISTORY_SEASONS_MAX: usize = 10;

/// Origins after which a candidate that is far behind is given up, to save the cost of fitting it at the others.
const TRIAL_ORIGINS: usize = 3;

/// How many times the least error counts as far behind.
const FAR_BEHIND: f64 = 1.6;

/// Of the values that candidates are judged by, so many must be usual for one that is not to be left out.
const ODD_ONE_IN: usize = 8;

/// Ranges of the series that a forecast may lie away from it. Beyond is a run-away trend, and its candidate drops out.
pub(super) const RANGES_MAX: f64 = 1e6;

/// Where the origins lie: `first`, then every `step`, `origins` of them, each forecasting at most `held` values.
///
/// A long series has eight origins, spread no wider than `held`. A shorter one holds back less so that six fit; where even
/// holding back one value leaves no room, there are as many origins as fit, at least one from two values on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub first: usize,
    pub step: usize,
    pub origins: usize,
    pub held: usize,
}

impl Plan {
    pub(super) fn of(length: usize, season: Option<usize>, horizon: usize) -> Self {
        let season = season.unwrap_or(1);
        let comfortable = (2 * season + 1).max(TRAINING_MIN);
        // Too short for comfort: the simple candidates need one season, the others drop out.
        let training = if length >= comfortable + ORIGINS_MIN { comfortable } else { season.max(length / 2) };
        let room = length.saturating_sub(training);
        let held = horizon.min(length / HELD_PART).min((room + 1).saturating_sub(ORIGINS_MIN)).max(1);
        let span = room.saturating_sub(held);
        let origins = ORIGINS_MAX.min(span + 1).min(room);
        let step = (span / origins.saturating_sub(1).max(1)).clamp(1, (held / 2 + 1).max(2));
        let first = (length - held.min(length)).saturating_sub(step * origins.saturating_sub(1));
        Self { first, step, origins, held }
    }

    fn origins(self) -> impl Iterator<Item = usize> {
        (0..self.origins).map(move |nth| self.first + nth * self.step)
    }
}

/// One missed value: how many steps ahead it lay (from 1) and by how much (on the candidate's scale).
#[derive(Debug, Clone, Copy)]
pub(super) struct Miss {
    pub lead: usize,
    pub by: f64,
}

/// What became of one candidate.
#[derive(Debug)]
pub(super) struct Trial {
    pub candidate: Candidate,
    /// Mean absolute error over all held-out values, in the unit of the series.
    pub error: f64,
    pub misses: Vec<Miss>,
}

/// A series on both scales, with the season that its unusual values are judged by.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    series: &'a Series,
    season: Option<usize>,
    plain: (Scale, Vec<Option<f64>>),
    ratios: Option<(Scale, Vec<Option<f64>>)>,
}

/// What may be known at an origin: the places from `start` on, without those that are odd.
#[derive(Debug)]
struct Past {
    start: usize,
    origin: usize,
    odd: Vec<usize>,
}

impl<'a> Ground<'a> {
    pub(super) fn of(series: &'a Series, season: Option<usize>) -> Self {
        let with_values = |scale: Scale| (scale, scale.enter_all(series));
        let plain = with_values(Scale::plain(series));
        Self { series, season, plain, ratios: Scale::ratios(series).map(with_values) }
    }

    pub(super) fn positive(&self) -> bool {
        self.ratios.is_some()
    }

    /// The scale that a candidate works on, and the values on it.
    pub(super) fn for_candidate(&self, candidate: Candidate) -> &(Scale, Vec<Option<f64>>) {
        self.ratios.as_ref().filter(|_| candidate.ratios).unwrap_or(&self.plain)
    }

    /// The unusual values of the whole series and the scale of what was expected.
    pub(super) fn unusual(&self) -> (Scale, Vec<Found>) {
        self.unusual_within(0..self.series.len())
    }

    /// Searches on the scale on which the series is more regular: peaks of a season that grows are odd only as differences,
    /// small values of a series near zero only as ratios.
    fn unusual_within(&self, places: Range<usize>) -> (Scale, Vec<Found>) {
        let search = |(scale, values): &(Scale, Vec<Option<f64>>)| {
            (*scale, outliers::find(&values[places.clone()], self.season))
        };
        let plain = search(&self.plain);
        let ratios = self.ratios.as_ref().filter(|_| !plain.1.is_empty()).map(search);
        ratios.filter(|ratios| ratios.1.len() < plain.1.len()).unwrap_or(plain)
    }

    fn past(&self, origin: usize) -> Past {
        let kept = HISTORY_POINTS_MAX.max(self.season.unwrap_or(1) * HISTORY_SEASONS_MAX);
        let start = origin.saturating_sub(kept);
        let odd = self.unusual_within(start..origin).1.into_iter().map(|found| found.index).collect();
        Past { start, origin, odd }
    }

    /// The forecast from `origin` on the candidate's scale, made from nothing but what came before.
    pub(super) fn forecast(&self, candidate: Candidate, origin: usize, horizon: usize) -> Option<Vec<f64>> {
        self.forecast_after(&self.past(origin), candidate, horizon)
    }

    fn forecast_after(&self, past: &Past, candidate: Candidate, horizon: usize) -> Option<Vec<f64>> {
        let (scale, values) = self.for_candidate(candidate);
        let mut seen = values[past.start..past.origin].to_vec();
        if candidate.method != Method::Repeat {
            // One odd value must not bend the forecast. Only repeating stays what everyone takes it for.
            past.odd.iter().for_each(|&at| seen[at] = None);
        }
        let points = candidate.forecast(&fill(&seen, candidate.season), horizon)?;
        let ranges_away = |&point: &f64| self.plain.0.enter(scale.leave(point)).abs();
        points.iter().all(|point| ranges_away(point) <= RANGES_MAX).then_some(points)
    }

    /// Tries the candidates, least error first. The baseline is always among them; those far behind may be missing.
    pub(super) fn trials(&self, candidates: &[Candidate], plan: Plan, baseline: Candidate) -> Vec<Trial> {
        let blank = |&candidate: &Candidate| Trial { candidate, error: 0.0, misses: Vec::new() };
        let mut trials: Vec<Trial> = candidates.iter().map(blank).collect();
        let odd = self.odd_among(plan.first..self.series.len());
        for (nth, origin) in plan.origins().enumerate() {
            let past = self.past(origin);
            trials.retain_mut(|trial| self.advance(trial, &past, plan.held, &odd).is_some());
            if nth + 1 == TRIAL_ORIGINS {
                let least = trials.iter().map(|trial| trial.error).fold(f64::INFINITY, f64::min);
                trials.retain(|trial| trial.candidate == baseline || trial.error <= FAR_BEHIND * least);
            }
        }
        for trial in &mut trials {
            trial.error /= trial.misses.len().max(1) as f64;
        }
        trials.sort_by(|a, b| a.error.total_cmp(&b.error));
        trials
    }

    /// The unusual values at `places`, unless they are so many there that they are what is usual.
    fn odd_among(&self, places: Range<usize>) -> Vec<usize> {
        let found = self.unusual().1.into_iter().map(|found| found.index);
        let odd: Vec<usize> = found.filter(|index| places.contains(index)).collect();
        if odd.len() * ODD_ONE_IN > places.len() { Vec::new() } else { odd }
    }

    /// Adds the misses at one origin, but for `odd` values, which no candidate is to blame for; `None` when the candidate cannot work
    /// there.
    fn advance(&self, trial: &mut Trial, past: &Past, held: usize, odd: &[usize]) -> Option<()> {
        let (scale, _) = self.for_candidate(trial.candidate);
        let points = self.forecast_after(past, trial.candidate, held)?;
        for (ahead, point) in points.into_iter().enumerate() {
            if odd.contains(&(past.origin + ahead)) {
                continue;
            }
            let Some(&Some(truth)) = self.series.values.get(past.origin + ahead) else { continue };
            trial.error += (truth - scale.leave(point)).abs();
            trial.misses.push(Miss { lead: ahead + 1, by: scale.enter(truth) - point });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::air_passengers;
    use super::*;

    fn line(count: usize) -> Series {
        Series::of(&(0..count).map(|at| Some(at as f64)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_long_series_has_eight_origins_and_ends_with_its_last_value() {
        let plan = Plan::of(144, Some(12), 12);
        assert_eq!((plan.origins, plan.held), (8, 12));
        assert_eq!(plan.first + 7 * plan.step + plan.held, 144);
        assert!(plan.first > 24);
    }

    #[test]
    fn a_shorter_series_holds_back_less_so_that_six_origins_fit() {
        let plan = Plan::of(40, Some(12), 12);
        assert!(plan.origins >= 6 && plan.first >= 25, "{plan:?}");
        let plan = Plan::of(20, None, 12);
        assert!(plan.origins >= 6 && plan.first >= 10, "{plan:?}");
    }

    #[test]
    fn every_plan_stays_inside_the_series_and_leaves_a_season_to_learn_from() {
        for length in 2..200 {
            for season in [None, Some(2), Some(length / 3), Some(length / 2)] {
                let season = season.filter(|&season| season >= 2 && 2 * season <= length);
                for horizon in [1, 5, 12, 100, 1_000] {
                    let plan = Plan::of(length, season, horizon);
                    assert!(plan.origins >= 1, "{length} {season:?} {horizon} {plan:?}");
                    assert!(plan.first >= season.unwrap_or(1), "{length} {season:?} {horizon} {plan:?}");
                    assert_eq!(plan.first + (plan.origins - 1) * plan.step + plan.held, length);
                }
            }
        }
    }

    #[test]
    fn repeating_the_last_value_of_a_line_misses_by_the_lead() {
        let series = line(60);
        let baseline = Candidate::baseline(None);
        let plan = Plan::of(60, None, 3);
        let trials = Ground::of(&series, None).trials(&[baseline], plan, baseline);
        assert!((trials[0].error - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_candidate_with_the_least_error_comes_first_and_the_baseline_stays() {
        let series = line(60);
        let baseline = Candidate::baseline(None);
        let trials = Ground::of(&series, None).trials(&Candidate::all(None, false), Plan::of(60, None, 6), baseline);
        assert_eq!(trials[0].candidate.method, Method::Smooth);
        assert!(trials.iter().any(|trial| trial.candidate == baseline));
    }

    #[test]
    fn peaks_of_a_growing_season_are_not_unusual() {
        let values: Vec<Option<f64>> = air_passengers().into_iter().map(Some).collect();
        let series = Series::of(&values).unwrap();
        assert_eq!(Ground::of(&series, Some(12)).unusual().1, []);
    }

    #[test]
    fn an_odd_value_does_not_bend_the_forecast() {
        let mut series = line(60);
        for (back, value) in [(1, 500.0), (20, -500.0)] {
            series.values[60 - back] = Some(value);
            let candidate = Candidate { method: Method::Smooth, season: None, ratios: false };
            let ground = Ground::of(&series, None);
            let point = ground.forecast(candidate, 60, 1).unwrap()[0];
            assert!((ground.for_candidate(candidate).0.leave(point) - 60.0).abs() < 1.0);
        }
    }

    #[test]
    fn a_forecast_sees_nothing_after_its_origin() {
        let mut changed = line(60);
        changed.values[40..].fill(Some(1_000.0));
        changed.values[45] = Some(0.0);
        let candidate = Candidate { method: Method::Smooth, season: None, ratios: false };
        let value = |series: &Series| {
            let ground = Ground::of(series, None);
            let point = ground.forecast(candidate, 40, 1).unwrap()[0];
            ground.for_candidate(candidate).0.leave(point)
        };
        assert!((value(&line(60)) - value(&changed)).abs() < 1e-6);
    }
}
