//! Forecasts a series and finds its unusual values: pure arithmetic on the numbers of one task, no clock, no I/O.
//!
//! Several methods forecast stretches that are already known; the one that missed least forecasts what is not known, and its
//! misses say how wide the range must be. No method is trusted for its name, a season only when it made those misses smaller.

pub mod agent;
mod backtest;
mod candidates;
mod check;
mod interval;
mod outliers;
mod robust;
mod season;
mod selection;
mod series;
mod smoothing;
mod summary;
mod wording;

#[cfg(test)]
mod accuracy;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{check_config, check_input};
use interval::Spread;
use outliers::Found;
use selection::Choice;
use series::Series;

/// Largest number in an answer: what the largest input and the wildest admitted forecast can add up to.
const NUMBER_MAX: f64 = 10.0 * check::MAGNITUDE_MAX * backtest::RANGES_MAX;

/// Significant digits of an answer: more than any input can justify, few enough to hide the last bits of the arithmetic.
const DIGITS: usize = 10;

/// What an agent of this kind is set to; a task's input may override each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InsightConfig {
    /// Values to a season, such as 12 for monthly values with a yearly pattern; found from the data when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 50_000))]
    pub season: Option<usize>,
    /// Values to forecast.
    #[serde(default = "horizon_default")]
    #[schemars(range(min = 1, max = 1_000))]
    pub horizon: usize,
    /// Probability with which the range of a forecast shall hold the value.
    #[serde(default = "level_default")]
    #[schemars(range(min = 0.01, max = 0.999))]
    pub level: f64,
}

fn horizon_default() -> usize {
    12
}

fn level_default() -> f64 {
    0.95
}

/// The series to analyse, evenly spaced, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InsightInput {
    /// 8 to 100,000 numbers between -1e15 and 1e15, null where one is missing.
    #[schemars(length(min = 8, max = 100_000), inner(range(min = -1e15, max = 1e15)))]
    pub values: Vec<Option<f64>>,
    /// Values to a season; at most half as many as there are values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 50_000))]
    pub season: Option<usize>,
    /// Values to forecast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub horizon: Option<usize>,
    /// Probability with which the range of a forecast shall hold the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 0.999))]
    pub level: Option<f64>,
}

/// What is expected to come and what stood out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InsightOutput {
    /// The next values, nearest first, beginning right after the last of the input (also when that one is missing).
    pub forecast: Vec<ForecastPoint>,
    /// Unusual values, in order of place.
    pub outliers: Vec<Outlier>,
    /// The method that forecast: "constant", "last-value", "mean", "ets", "log-ets", "seasonal-naive", "seasonal-mean",
    /// "mstl+ets" or "log-mstl+ets".
    pub model: String,
    /// The findings in one to three sentences.
    pub summary: String,
}

/// One forecast value and the range around it: lower <= value <= upper.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastPoint {
    pub value: f64,
    pub lower: f64,
    pub upper: f64,
}

/// One unusual value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outlier {
    /// Place in the input, from 0.
    pub index: usize,
    pub value: f64,
    /// What season and neighbours let expect instead.
    pub expected: f64,
    /// Distance from the expected value in robust standard deviations; above 5.
    pub score: f64,
}

/// Analyses one checked input. The same input always gives the same answer; every number in it is finite.
///
/// A season from `config` that does not fit twice into the values is left out of account, and the summary says so; one from
/// `input` would have been refused by [`check_input`].
pub fn analyse(config: &InsightConfig, input: &InsightInput) -> InsightOutput {
    let horizon = input.horizon.unwrap_or(config.horizon);
    let level = input.level.unwrap_or(config.level);
    let Some(series) = Series::of(&input.values) else { return constant(0.0, horizon, summary::of_nothing()) };
    if let Some(value) = series.constant() {
        return constant(value, horizon, summary::of_constant(value, horizon));
    }
    let choice = selection::choose(&series, input.season.or(config.season), series.trail + horizon);
    let forecast: Vec<ForecastPoint> = points(&choice, level).split_off(series.trail);
    let outliers = outliers_of(&series, &choice);
    let summary = summary::write(&series, &choice, &forecast, &outliers, level);
    InsightOutput { forecast, outliers, model: choice.candidate().name().into(), summary }
}

fn constant(value: f64, horizon: usize, summary: String) -> InsightOutput {
    InsightOutput {
        forecast: vec![ForecastPoint { value, lower: value, upper: value }; horizon],
        outliers: Vec::new(),
        model: "constant".into(),
        summary,
    }
}

/// The chosen forecast with its range, which is even on the candidate's own scale.
fn points(choice: &Choice, level: f64) -> Vec<ForecastPoint> {
    let spread = Spread::of(&choice.trial.misses, choice.origins);
    let leave = |scaled: f64| tidy(choice.scale.leave(scaled));
    let point = |(ahead, &value): (usize, &f64)| {
        let half = spread.half_width(ahead + 1, level);
        ForecastPoint { value: leave(value), lower: leave(value - half), upper: leave(value + half) }
    };
    choice.points.iter().enumerate().map(point).collect()
}

fn outliers_of(series: &Series, choice: &Choice) -> Vec<Outlier> {
    let outlier = |found: &Found| {
        let value = series.values[found.index]?;
        let (expected, score) = (tidy(choice.unusual_scale.leave(found.expected)), tidy(found.score));
        Some(Outlier { index: series.lead + found.index, value, expected, score })
    };
    choice.unusual.iter().filter_map(outlier).collect()
}

/// Rounds to [`DIGITS`] significant digits, within [`NUMBER_MAX`]. It never turns the order of two numbers round.
fn tidy(number: f64) -> f64 {
    let held = number.clamp(-NUMBER_MAX, NUMBER_MAX);
    format!("{held:.*e}", DIGITS - 1).parse().unwrap_or(held)
}
