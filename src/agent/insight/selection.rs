//! Chooses the candidate that missed least, and whether a proposed season is believed.

use std::collections::BTreeSet;

use super::backtest::{Ground, Plan, Trial};
use super::candidates::Candidate;
use super::outliers::{self, Found};
use super::season::propose;
use super::series::{Scale, Series, fill};

/// A season found in the data is believed when it makes the held-out error at least this much smaller: noise offers seasons too.
const SEASON_GAIN_MIN: f64 = 0.05;

/// The chosen candidate, what it forecasts and what that rests on.
#[derive(Debug)]
pub(super) struct Choice {
    pub trial: Trial,
    pub scale: Scale,
    /// The forecast on that scale.
    pub points: Vec<f64>,
    /// The season given, or found and believed.
    pub season: Option<usize>,
    /// A season was set, but two of it do not fit into what was observed.
    pub season_too_long: Option<usize>,
    pub origins: usize,
    /// Held-out error of repeating the last season (or value).
    pub baseline_error: f64,
    /// The unusual values, and the scale of what was expected in their place.
    pub unusual: Vec<Found>,
    pub unusual_scale: Scale,
}

impl Choice {
    pub(super) fn candidate(&self) -> Candidate {
        self.trial.candidate
    }
}

/// Chooses for `series` (at least two different values) and forecasts `reach` values after it.
pub(super) fn choose(series: &Series, wanted: Option<usize>, reach: usize) -> Choice {
    let fits = |season: &usize| 2 * season <= series.len();
    let given = wanted.filter(fits);
    let contest = match given {
        Some(_) => Contest::of(series, given, reach),
        None => contest_for_season(series, reach),
    };
    contest.decide(series, wanted.filter(|season| !fits(season)), reach)
}

/// Lets candidates with and without the proposed season compete on the same origins.
fn contest_for_season(series: &Series, reach: usize) -> Contest<'_> {
    let contests = proposals(series).into_iter().map(|season| Contest::of(series, Some(season), reach));
    let best = contests.min_by(|one, other| one.least_error(true).total_cmp(&other.least_error(true)));
    let believed =
        |contest: &Contest| contest.least_error(true) <= (1.0 - SEASON_GAIN_MIN) * contest.least_error(false);
    best.filter(believed).unwrap_or_else(|| Contest::of(series, None, reach))
}

/// What the values propose, and what they propose without those that stand out: a spike may hide a season, and the peaks of a season
/// may stand out themselves.
fn proposals(series: &Series) -> BTreeSet<usize> {
    let mut scaled = Scale::plain(series).enter_all(series);
    let of_all = propose(&fill(&scaled, None));
    outliers::find(&scaled, None).iter().for_each(|found| scaled[found.index] = None);
    of_all.into_iter().chain(propose(&fill(&scaled, None))).collect()
}

/// All candidates that a season allows, tried on the same origins.
struct Contest<'a> {
    ground: Ground<'a>,
    season: Option<usize>,
    origins: usize,
    /// Least error first.
    trials: Vec<Trial>,
}

impl<'a> Contest<'a> {
    fn of(series: &'a Series, season: Option<usize>, reach: usize) -> Self {
        let ground = Ground::of(series, season);
        let plan = Plan::of(series.len(), season, reach);
        let candidates = Candidate::all(season, ground.positive());
        let trials = ground.trials(&candidates, plan, Candidate::baseline(season));
        Self { ground, season, origins: plan.origins, trials }
    }

    fn least_error(&self, seasonal: bool) -> f64 {
        let alike = self.trials.iter().filter(|trial| trial.candidate.season.is_some() == seasonal);
        alike.map(|trial| trial.error).fold(f64::INFINITY, f64::min)
    }

    /// The best candidate that can forecast from the end of the series too; repeating what was last always can.
    fn decide(self, series: &Series, season_too_long: Option<usize>, reach: usize) -> Choice {
        let baseline = Candidate::baseline(self.season);
        let of_baseline = self.trials.iter().find(|trial| trial.candidate == baseline);
        let baseline_error = of_baseline.map_or(f64::INFINITY, |trial| trial.error);
        let forecast = |trial: &Trial| self.ground.forecast(trial.candidate, series.len(), reach);
        let (best, points) = self
            .trials
            .iter()
            .enumerate()
            .find_map(|(nth, trial)| Some((nth, forecast(trial)?)))
            .expect("repeating is among the trials and forecasts from any history that holds its season");
        let (unusual_scale, unusual) = self.ground.unusual();
        let mut trials = self.trials;
        let trial = trials.swap_remove(best);
        let scale = self.ground.for_candidate(trial.candidate).0;
        let (season, origins) = (self.season, self.origins);
        Choice { trial, scale, points, season, season_too_long, origins, baseline_error, unusual_scale, unusual }
    }
}
