//! What holds for every analysis, whatever the numbers.

use proptest::prelude::*;
use serde_json::json;

use super::testing::{input, noise};
use super::{InsightConfig, InsightInput, InsightOutput, analyse, check::VALUES_MAX, check_config, check_input, tidy};

fn config() -> InsightConfig {
    check_config(&json!({})).unwrap()
}

fn sound(output: &InsightOutput, input: &InsightInput, horizon: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(output.forecast.len(), horizon);
    for point in &output.forecast {
        prop_assert!([point.value, point.lower, point.upper].iter().all(|number| number.is_finite()), "{:?}", point);
        prop_assert!(point.lower <= point.value && point.value <= point.upper, "{:?}", point);
    }
    for outlier in &output.outliers {
        prop_assert_eq!(input.values[outlier.index], Some(outlier.value));
        prop_assert!(outlier.expected.is_finite() && outlier.score.is_finite() && outlier.score > 0.0, "{:?}", outlier);
    }
    prop_assert!(output.outliers.is_sorted_by_key(|outlier| outlier.index));
    let sentences = output.summary.matches(". ").count() + usize::from(output.summary.ends_with('.'));
    prop_assert!((1..=3).contains(&sentences), "{}", output.summary);
    prop_assert!(!output.summary.contains("NaN") && !output.summary.contains("inf "), "{}", output.summary);
    Ok(())
}

/// One shape of series, made from noise, a place within it and a magnitude.
fn shaped(shape: u8, noise: &[f64], place: usize, magnitude: f64) -> Vec<f64> {
    let wave = |at: usize| (at as f64 * std::f64::consts::TAU / 7.0).sin();
    let value = |(at, &noise): (usize, &f64)| match shape {
        0 => noise,
        1 => 1.0,
        2 => f64::from(u8::from(at == place)),
        3 => noise + if at == place { 1e6 } else { 0.0 },
        4 => f64::from(u8::from(at >= place)),
        5 => at as f64 + 5.0 * wave(at) + noise,
        6 => 1.1_f64.powi(at as i32 % 300),
        7 => (3.0 + wave(at) + 0.1 * noise).exp(),
        8 => f64::from(u8::from(at % 3 == 0)),
        _ => 1.0 + noise * 1e-12,
    };
    noise.iter().enumerate().map(|pair| (value(pair) * magnitude).clamp(-1e15, 1e15)).collect()
}

prop_compose! {
    fn any_input()(length in 8_usize..300)(
        shape in 0_u8..10,
        place in 0..length,
        magnitude in prop_oneof![Just(1.0), Just(-1.0), Just(1e12), Just(1e15), Just(1e-12), Just(1e-300), Just(5e-324)],
        missing in prop_oneof![Just(0.0), Just(0.1), Just(0.6), Just(0.97)],
        holes in prop::collection::vec(0.0..1.0, length),
        seed in any::<u64>(),
        season in prop::option::of(2..=(length / 2).max(2)),
        horizon in prop_oneof![1_usize..40, Just(1_000)],
        level in prop_oneof![Just(0.01), Just(0.5), Just(0.95), Just(0.999)],
        length in Just(length),
    ) -> InsightInput {
        let values = shaped(shape, &noise(seed, length), place, magnitude);
        let mut values: Vec<Option<f64>> =
            values.into_iter().zip(holes).map(|(value, hole)| (hole >= missing).then_some(value)).collect();
        values[place] = values[place].or(Some(magnitude));
        InsightInput { values, season, horizon: Some(horizon), level: Some(level) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_checked_input_gets_a_finite_and_ordered_answer(given in any_input()) {
        let checked = check_input(&serde_json::to_value(&given).unwrap()).unwrap();
        prop_assert_eq!(&checked.values, &given.values);
        let horizon = given.horizon.unwrap();
        sound(&analyse(&config(), &checked), &checked, horizon)?;
    }

    #[test]
    fn a_season_from_the_configuration_may_not_fit_and_does_no_harm(given in any_input(), season in 2_usize..50_000) {
        let given = InsightInput { season: None, horizon: None, ..given };
        let config = InsightConfig { season: Some(season), ..config() };
        sound(&analyse(&config, &given), &given, 12)?;
    }

    #[test]
    fn a_constant_series_forecasts_its_constant(
        value in -1e15..1e15_f64, length in 8_usize..200, place in 0_usize..8, season in prop::option::of(2_usize..4),
    ) {
        let mut given = InsightInput { season, ..input(&vec![value; length]) };
        given.values[place] = None;
        let output = analyse(&config(), &given);
        prop_assert!(output.forecast.iter().all(|p| p.value == value && p.lower == value && p.upper == value));
        prop_assert_eq!(output.outliers, vec![]);
    }
}

#[test]
fn the_same_input_gives_the_same_answer() {
    let given = input(&noise(4, 90));
    assert_eq!(analyse(&config(), &given), analyse(&config(), &given));
}

#[test]
fn the_input_overrides_the_configuration() {
    let narrow = InsightInput { horizon: Some(3), level: Some(0.5), ..input(&noise(4, 90)) };
    let wide = InsightInput { level: None, ..narrow.clone() };
    let (narrow, wide) = (analyse(&config(), &narrow).forecast, analyse(&config(), &wide).forecast);
    assert_eq!((narrow.len(), wide.len()), (3, 3));
    for (narrow, wide) in narrow.iter().zip(&wide) {
        assert!(wide.lower < narrow.lower && narrow.upper < wide.upper);
    }
}

#[test]
fn a_forecast_begins_after_the_last_value_even_when_it_is_missing() {
    let mut given = InsightInput { season: Some(10), ..input(&[]) };
    given.values = (0..100).map(|at| (3..95).contains(&at).then(|| f64::from(at % 10))).collect();
    let forecast = analyse(&config(), &given).forecast;
    assert_eq!(forecast.len(), 12);
    for (ahead, point) in forecast.iter().enumerate() {
        assert!((point.value - (ahead % 10) as f64).abs() < 0.01, "{ahead}: {point:?}");
    }
}

#[test]
fn the_longest_series_is_analysed_with_a_season_and_odd_values_that_lie_far_back() {
    let shaken = noise(11, VALUES_MAX);
    let season = |at: usize| 20.0 * (at as f64 * std::f64::consts::TAU / 24.0).sin();
    let mut values: Vec<_> = shaken.iter().enumerate().map(|(at, noise)| 500.0 + season(at) + noise).collect();
    values[123] += 200.0;
    let mut given = InsightInput { horizon: Some(48), ..input(&values) };
    given.values.iter_mut().skip(7).step_by(50).for_each(|value| *value = None);
    let checked = check_input(&serde_json::to_value(&given).unwrap()).unwrap();
    let answer = analyse(&config(), &checked);
    assert!(answer.outliers.iter().any(|outlier| outlier.index == 123), "{:?}", answer.outliers.len());
    for (ahead, point) in answer.forecast.iter().enumerate() {
        let truth = 500.0 + season(VALUES_MAX + ahead);
        assert!((point.value - truth).abs() < 2.5 && point.lower < truth && truth < point.upper, "{ahead}: {point:?}");
    }
}

#[test]
fn one_odd_value_hides_no_season_of_a_short_series_and_widens_no_range() {
    let (season, shaken) = ([12.0, 30.0, 45.0, 18.0], noise(3, 32));
    let regular = |at: usize| 100.0 + 2.0 * at as f64 + season[at % 4];
    let values: Vec<f64> = shaken.iter().enumerate().map(|(at, noise)| regular(at) + noise).collect();
    for place in 5..30 {
        let mut given = InsightInput { horizon: Some(4), ..input(&values) };
        given.values[place] = given.values[place].map(|value| value + 130.0);
        let answer = analyse(&config(), &given);
        assert!(answer.summary.contains("a season of 4"), "{place}: {}", answer.summary);
        assert_eq!(answer.outliers.iter().map(|outlier| outlier.index).collect::<Vec<_>>(), [place]);
        for (ahead, point) in answer.forecast.iter().enumerate() {
            let truth = regular(32 + ahead);
            assert!(point.lower < truth && truth < point.upper, "{place}: {point:?} for {truth}");
            assert!(point.upper - point.lower < 20.0, "{place}: {point:?}");
        }
    }
}

#[test]
fn an_outlier_carries_its_place_in_the_input_its_value_and_what_was_expected() {
    let mut given = input(&noise(9, 80));
    given.values[..5].fill(None);
    given.values[60] = Some(25.0);
    let outliers = analyse(&config(), &given).outliers;
    assert_eq!(outliers.iter().map(|outlier| (outlier.index, outlier.value)).collect::<Vec<_>>(), [(60, 25.0)]);
    assert!(outliers[0].expected.abs() < 2.0 && outliers[0].score > 10.0, "{outliers:?}");
}

#[test]
fn a_season_in_noise_is_seldom_believed() {
    let believed = |seed: &u64| !analyse(&config(), &input(&noise(*seed, 120))).summary.contains("No season was found");
    let believed = (0..40).filter(believed).count();
    assert!(believed <= 4, "{believed} of 40");
}

#[test]
fn growth_is_not_forecast_into_the_absurd() {
    let given = InsightInput { horizon: Some(1_000), ..input(&(0..60).map(|at| 1.5_f64.powi(at)).collect::<Vec<_>>()) };
    let last = given.values[59].unwrap();
    assert!(analyse(&config(), &given).forecast.iter().all(|point| point.value < 1e7 * last));
}

#[test]
fn rounding_keeps_numbers_finite_and_in_order() {
    assert_eq!(tidy(0.1 + 0.2), 0.3);
    let rounded = [f64::NEG_INFINITY, -1e300, -2.0, 5e-324, 1.000_000_000_04, 1.000_000_000_06, 1e300].map(tidy);
    assert!(rounded.is_sorted() && rounded.iter().all(|number| number.is_finite()), "{rounded:?}");
}

#[test]
fn the_schemas_name_the_bounds() {
    let config = serde_json::to_value(schemars::schema_for!(InsightConfig)).unwrap();
    assert_eq!(config["properties"]["horizon"]["maximum"], 1_000);
    assert_eq!(config["properties"]["level"]["default"], 0.95);
    assert_eq!(config["additionalProperties"], false);
    let input = serde_json::to_value(schemars::schema_for!(InsightInput)).unwrap();
    assert_eq!((&input["properties"]["values"]["minItems"], &input["required"]), (&json!(8), &json!(["values"])));
}
