//! Exponential smoothing and the split of a series into season and rest, both by augurs; failures are `None`.

use augurs::ets::model::{ErrorComponent, ModelType, SeasonalComponent, TrendComponent, Unfit};
use augurs::mstl::stlrs;
use augurs::prelude::*;

/// Latest values that exponential smoothing is fitted to. It forgets: with the slowest useful memory (a weight of 0.02) the
/// value 300 steps back still counts 0.2 percent, and the cost of a fit grows with every value.
const POINTS_MAX: usize = 300;

/// Fewest values for a fit: the largest form has five parameters, and their correction for small samples needs eight.
const POINTS_MIN: usize = 10;

/// Steps of the search for parameters. With 200 the example series were forecast no better, and ten years of months could cost
/// more than 20 ms; with 80 they were forecast a little worse.
const STEPS_MAX: usize = 120;

/// Where the standardised series is centred: the search takes first steps of 5 percent of a state, so half a deviation.
const CENTRE: f64 = 10.0;

/// Cycles over which the shape of a season may drift: the seasonal window of MSTL with one season.
const SEASONAL_WINDOW: usize = 11;

/// The forms tried: level only, level and trend, level and damped trend.
const FORMS: [(TrendComponent, bool); 3] =
    [(TrendComponent::None, false), (TrendComponent::Additive, false), (TrendComponent::Additive, true)];

/// Forecasts `horizon` values after `history` by the form with the least corrected information criterion.
pub(super) fn smooth(history: &[f64], horizon: usize) -> Option<Vec<f64>> {
    let recent = &history[history.len().saturating_sub(POINTS_MAX)..];
    if recent.len() < POINTS_MIN {
        return None;
    }
    let mean = recent.iter().sum::<f64>() / recent.len() as f64;
    let deviation = (recent.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / recent.len() as f64).sqrt();
    if deviation <= 0.0 {
        return Some(vec![mean; horizon]);
    }
    let standard: Vec<f64> = recent.iter().map(|value| (value - mean) / deviation + CENTRE).collect();
    let model = FORMS
        .iter()
        .filter_map(|&(trend, damped)| {
            let form = ModelType { error: ErrorComponent::Additive, trend, season: SeasonalComponent::None };
            Unfit::new(form).damped(damped).nmse(1).max_iterations(STEPS_MAX).fit(&standard).ok()
        })
        .filter(|model| !model.aicc().is_nan())
        .min_by(|a, b| a.aicc().total_cmp(&b.aicc()))?;
    let points = model.predict(horizon, None).ok()?.point;
    Some(points.into_iter().map(|point| (point - CENTRE) * deviation + mean).collect())
}

/// What repeats with a season, and all else.
#[derive(Debug)]
pub(super) struct Split {
    pub seasonal: Vec<f64>,
    pub rest: Vec<f64>,
}

impl Split {
    /// The season's part of the value `ahead` (from 0) steps after the end: its last cycle goes on.
    pub(super) fn ahead(&self, season: usize, ahead: usize) -> f64 {
        self.seasonal[self.seasonal.len() - season + ahead % season]
    }
}

/// Splits `history` by STL; it must hold two full seasons.
pub(super) fn split(history: &[f64], season: usize) -> Option<Split> {
    let fit = stlrs::params().seasonal_length(SEASONAL_WINDOW).fit(history, season).ok()?;
    let seasonal = fit.seasonal().to_vec();
    let rest = history.iter().zip(&seasonal).map(|(value, part)| value - part).collect();
    Some(Split { seasonal, rest })
}
