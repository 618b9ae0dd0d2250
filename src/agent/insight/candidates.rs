//! The ways to forecast that compete, from repeating the last value to smoothing on a ratio scale.

use super::smoothing::{smooth, split};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// The last value, or the last season, again and again.
    Repeat,
    /// The mean, or the mean of each phase of the season.
    Mean,
    /// Exponential smoothing, after taking the season off.
    Smooth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub method: Method,
    pub season: Option<usize>,
    /// Works on logarithms, so that trend and season grow with the level.
    pub ratios: bool,
}

impl Candidate {
    /// Simplest first, so that a tie goes to what is easiest to explain.
    pub(super) fn all(season: Option<usize>, positive: bool) -> Vec<Self> {
        let of = |season, ratios, methods: &[Method]| -> Vec<Self> {
            methods.iter().map(|&method| Self { method, season, ratios }).collect()
        };
        let mut all = of(None, false, &[Method::Repeat, Method::Mean, Method::Smooth]);
        if season.is_some() {
            all.extend(of(season, false, &[Method::Repeat, Method::Mean, Method::Smooth]));
        }
        if positive {
            all.extend(of(season, true, &[Method::Smooth]));
        }
        all
    }

    /// What every other candidate is measured against: repeating the last season, or the last value where there is none.
    pub(super) fn baseline(season: Option<usize>) -> Self {
        Self { method: Method::Repeat, season, ratios: false }
    }

    /// The stable name that answers carry.
    pub(super) fn name(self) -> &'static str {
        match (self.method, self.season.is_some(), self.ratios) {
            (Method::Repeat, false, _) => "last-value",
            (Method::Repeat, true, _) => "seasonal-naive",
            (Method::Mean, false, _) => "mean",
            (Method::Mean, true, _) => "seasonal-mean",
            (Method::Smooth, false, false) => "ets",
            (Method::Smooth, false, true) => "log-ets",
            (Method::Smooth, true, false) => "mstl+ets",
            (Method::Smooth, true, true) => "log-mstl+ets",
        }
    }

    /// Forecasts `horizon` values after `history` (scaled, without gaps); `None` when the method cannot work here.
    pub(super) fn forecast(self, history: &[f64], horizon: usize) -> Option<Vec<f64>> {
        let season = self.season.unwrap_or(1);
        if history.len() < season {
            return None;
        }
        Some(match (self.method, self.season) {
            (Method::Repeat, _) => repeat(&history[history.len() - season..], horizon),
            (Method::Mean, _) => repeat(&means(history, season), horizon),
            (Method::Smooth, None) => smooth(history, horizon)?,
            (Method::Smooth, Some(season)) => {
                let split = split(history, season)?;
                let rest = smooth(&split.rest, horizon)?;
                rest.into_iter().enumerate().map(|(ahead, point)| point + split.ahead(season, ahead)).collect()
            }
        })
    }
}

fn repeat(cycle: &[f64], horizon: usize) -> Vec<f64> {
    cycle.iter().copied().cycle().take(horizon).collect()
}

/// The mean of each phase, in the order in which the phases follow `history`.
fn means(history: &[f64], season: usize) -> Vec<f64> {
    let phase_mean = |ahead: usize| {
        let phase = (history.len() + ahead) % season;
        let members = history.iter().skip(phase).step_by(season);
        let count = members.len() as f64;
        members.sum::<f64>() / count
    };
    (0..season).map(phase_mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(method: Method, season: Option<usize>) -> Candidate {
        Candidate { method, season, ratios: false }
    }

    #[test]
    fn repeating_goes_on_from_the_last_season() {
        let history = [9.0, 9.0, 1.0, 2.0, 3.0];
        assert_eq!(candidate(Method::Repeat, Some(3)).forecast(&history, 4).unwrap(), [1.0, 2.0, 3.0, 1.0]);
        assert_eq!(candidate(Method::Repeat, None).forecast(&history, 2).unwrap(), [3.0, 3.0]);
    }

    #[test]
    fn the_mean_of_each_phase_goes_on_in_phase() {
        let history = [1.0, 10.0, 3.0, 20.0, 5.0];
        assert_eq!(candidate(Method::Mean, Some(2)).forecast(&history, 3).unwrap(), [15.0, 3.0, 15.0]);
    }

    #[test]
    fn smoothing_continues_a_line_with_a_season() {
        let season = [0.0, 0.1, -0.2, 0.1];
        let truth = |at: usize| at as f64 / 60.0 + season[at % 4];
        let history: Vec<f64> = (0..60).map(truth).collect();
        let points = candidate(Method::Smooth, Some(4)).forecast(&history, 8).unwrap();
        for (ahead, point) in points.iter().enumerate() {
            assert!((point - truth(60 + ahead)).abs() < 0.01, "{ahead}: {point} instead of {}", truth(60 + ahead));
        }
    }

    #[test]
    fn a_method_that_cannot_work_drops_out() {
        assert!(candidate(Method::Smooth, None).forecast(&[0.0, 1.0, 0.0], 3).is_none());
        assert!(candidate(Method::Smooth, Some(8)).forecast(&[0.5; 15], 3).is_none());
        assert!(candidate(Method::Repeat, Some(4)).forecast(&[0.5; 3], 3).is_none());
    }
}
