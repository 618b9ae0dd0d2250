//! Says in three sentences at most what was found, for a reader who knows the series but no statistics.

use super::candidates::{Candidate, Method};
use super::selection::Choice;
use super::series::Series;
use super::wording::{change, list, number, percent};
use super::{ForecastPoint, Outlier};

/// Unusual values named by their position; the others are counted.
const NAMED_MAX: usize = 3;

pub(super) fn of_constant(value: f64, horizon: usize) -> String {
    let next = if horizon == 1 { "the next one is".into() } else { format!("the next {horizon} are") };
    format!("All values are {}; {next} expected to be the same.", number(value))
}

pub(super) fn of_nothing() -> String {
    "There is no value to learn from; the forecast of 0 means nothing.".into()
}

/// What is coming, what the past looks like, and how far the method can be trusted: a sentence each.
pub(super) fn write(
    series: &Series,
    choice: &Choice,
    forecast: &[ForecastPoint],
    outliers: &[Outlier],
    level: f64,
) -> String {
    let expected = expectation(series, choice, forecast, level);
    let past = format!("{}; {}", season(choice), unusual(outliers));
    format!("{expected}. {past}. {}.", trust(choice))
}

fn expectation(series: &Series, choice: &Choice, forecast: &[ForecastPoint], level: f64) -> String {
    let mean = forecast.iter().map(|point| point.value).sum::<f64>() / forecast.len().max(1) as f64;
    let lower = forecast.iter().map(|point| point.lower).fold(f64::INFINITY, f64::min);
    let upper = forecast.iter().map(|point| point.upper).fold(f64::NEG_INFINITY, f64::max);
    let (subject, each) = match forecast.len() {
        1 => (format!("The next value is expected to be {}", number(mean)), "it lies"),
        count => (format!("The next {count} values are expected to average {}", number(mean)), "each lies"),
    };
    let compared = reference(series, choice, forecast.len())
        .map(|(past, name)| format!(", {} {name} ({})", change(past, mean), number(past)))
        .unwrap_or_default();
    let (lower, upper) = (number(lower), number(upper));
    format!("{subject}{compared}; with {} probability {each} between {lower} and {upper}", percent(100.0 * level))
}

/// The past that the forecast is held against: the same part of the last season, or as many of the last values.
fn reference(series: &Series, choice: &Choice, horizon: usize) -> Option<(f64, String)> {
    let length = series.len();
    let (places, name): (Vec<usize>, String) = match choice.season {
        Some(season) => {
            let phase = |ahead: usize| length - season + (series.trail + ahead) % season;
            ((0..horizon).map(phase).collect(), "the same part of the last season".into())
        }
        None if horizon == 1 => (vec![length - 1], "the last one".into()),
        None => {
            let count = horizon.min(length);
            ((length - count..length).collect(), format!("the last {count}"))
        }
    };
    let known: Vec<f64> = places.into_iter().filter_map(|place| series.values[place]).collect();
    (!known.is_empty()).then(|| (known.iter().sum::<f64>() / known.len() as f64, name))
}

fn season(choice: &Choice) -> String {
    match (choice.season, choice.season_too_long) {
        (_, Some(season)) => format!("A season of {season} values does not fit twice into the data and was left out"),
        (None, None) => "No season was found that helps to forecast".into(),
        (Some(season), None) if choice.candidate().season.is_none() => {
            format!("The season of {season} values did not help to forecast")
        }
        (Some(season), None) => format!("The values follow a season of {season}"),
    }
}

fn unusual(outliers: &[Outlier]) -> String {
    let mut strongest: Vec<&Outlier> = outliers.iter().collect();
    strongest.sort_by(|a, b| b.score.total_cmp(&a.score));
    strongest.truncate(NAMED_MAX);
    strongest.sort_by_key(|outlier| outlier.index);
    let positions = list(strongest.iter().map(|outlier| (outlier.index + 1).to_string()));
    match outliers {
        [] => "no value is unusual".into(),
        [one] => {
            let (value, expected) = (number(one.value), number(one.expected));
            format!("one value is unusual: {value} at position {positions}, where about {expected} was to be expected")
        }
        few if few.len() <= NAMED_MAX => format!("{} values are unusual, at positions {positions}", few.len()),
        many => format!("{} values are unusual, most of all those at positions {positions}", many.len()),
    }
}

fn trust(choice: &Choice) -> String {
    let (own, plain) = (choice.trial.error, choice.baseline_error);
    let repeating = repeating(choice.season);
    let trials = if choice.origins == 1 { "one trial".into() } else { format!("{} trials", choice.origins) };
    let tested = format!("in {trials} on known values it was off by {} on average", number(own));
    if choice.candidate() == Candidate::baseline(choice.season) {
        return format!("The forecast simply goes on {repeating}, which no other method beat; {tested}");
    }
    let better = if plain.is_finite() && plain > own {
        format!(", {} less than {repeating} would have been", percent(100.0 * (1.0 - own / plain)))
    } else {
        format!(", as far as {repeating} would have been")
    };
    format!("The forecast comes from {}; {tested}{better}", method(choice.candidate()))
}

fn repeating(season: Option<usize>) -> &'static str {
    if season.is_some() { "repeating the last season" } else { "repeating the last value" }
}

fn method(candidate: Candidate) -> &'static str {
    match (candidate.method, candidate.season.is_some(), candidate.ratios) {
        (Method::Repeat, seasonal, _) => repeating(seasonal.then_some(0)),
        (Method::Mean, false, _) => "the average of the past values",
        (Method::Mean, true, _) => "the average of each place in the season",
        (Method::Smooth, false, false) => "a smoothed level and trend",
        (Method::Smooth, false, true) => "a smoothed level and its growth in percent",
        (Method::Smooth, true, false) => "a smoothed level and trend with the season added",
        (Method::Smooth, true, true) => "a smoothed level and its growth in percent, times the season",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{air_passengers, noise};
    use super::super::{InsightConfig, InsightInput, analyse};

    fn summary(values: &[f64], season: Option<usize>, horizon: usize) -> String {
        let input = InsightInput {
            values: values.iter().copied().map(Some).collect(),
            season: None,
            horizon: Some(horizon),
            level: None,
        };
        analyse(&InsightConfig { season, horizon: 12, level: 0.95 }, &input).summary
    }

    #[test]
    fn it_tells_change_range_season_unusual_values_and_error() {
        let mut values = air_passengers();
        values[59] = 900.0;
        let text = summary(&values, None, 12);
        for part in [
            "next 12 values",
            "% above the same part of the last season",
            "95% probability",
            "season of 12",
            "900 at position 60",
            "8 trials",
            "less than repeating the last season",
        ] {
            assert!(text.contains(part), "{part:?} is missing in: {text}");
        }
        assert!(!text.to_lowercase().contains("mstl"), "{text}");
    }

    #[test]
    fn it_has_at_most_three_sentences() {
        for text in
            [summary(&air_passengers(), None, 12), summary(&noise(2, 50), None, 1), summary(&[4.0; 9], None, 12)]
        {
            assert!(text.ends_with('.') && text.matches(". ").count() <= 2, "{text}");
        }
    }

    #[test]
    fn one_is_singular() {
        let text = summary(&noise(2, 50), None, 1);
        assert!(text.starts_with("The next value is expected") && text.contains("the last one"), "{text}");
        assert!(summary(&[4.0; 9], None, 1).contains("the next one is"));
    }

    #[test]
    fn a_season_that_does_not_fit_is_named() {
        let text = summary(&noise(3, 20), Some(12), 4);
        assert!(text.contains("season of 12 values does not fit twice"), "{text}");
    }
}
