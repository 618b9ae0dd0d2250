//! How well the whole analysis forecasts real series, judged at origins it knows nothing of: each time it sees only what came
//! before, and its forecast is compared with what came after.

use super::testing::{air_passengers, input, noise, nottingham};
use super::{ForecastPoint, InsightConfig, analyse};

const ORIGINS: usize = 8;
const SEASON: usize = 12;

/// (horizon, step between origins): two ways to lie for the usual horizon, one each for half and twice as far.
const SETTINGS: [(usize, usize); 4] = [(12, 5), (12, 12), (6, 5), (24, 5)];

#[derive(Default)]
struct Score {
    own: f64,
    repeating: f64,
    inside: usize,
    count: usize,
}

impl Score {
    fn ratio(&self) -> f64 {
        self.own / self.repeating
    }

    fn coverage(&self) -> f64 {
        self.inside as f64 / self.count as f64
    }
}

/// `spoil` may damage what the analysis sees, never what it is judged by.
fn judge(values: &[f64], (horizon, step): (usize, usize), spoil: impl Fn(&mut [Option<f64>])) -> Score {
    let config = InsightConfig { season: None, horizon, level: 0.95 };
    let mut score = Score::default();
    for nth in 0..ORIGINS {
        let (past, future) = values[..values.len() - nth * step].split_at(values.len() - nth * step - horizon);
        let mut seen = input(past);
        spoil(&mut seen.values);
        for (ahead, point) in analyse(&config, &seen).forecast.iter().enumerate() {
            let truth = future[ahead];
            score.own += (point.value - truth).abs();
            score.repeating += (past[past.len() - SEASON + ahead % SEASON] - truth).abs();
            score.inside += usize::from(point.lower <= truth && truth <= point.upper);
            score.count += 1;
        }
    }
    println!("horizon {horizon}, step {step}: ratio {:.3}, inside {:.3}", score.ratio(), score.coverage());
    score
}

fn untouched(_: &mut [Option<f64>]) {}

#[test]
fn growing_air_traffic_is_forecast_with_at_most_seven_tenths_of_the_error_of_repeating_last_season() {
    for setting in SETTINGS {
        let ratio = judge(&air_passengers(), setting, untouched).ratio();
        assert!(ratio <= 0.7, "{setting:?}: {ratio}");
    }
}

#[test]
fn steady_temperatures_are_never_forecast_worse_than_by_repeating_last_season() {
    for setting in SETTINGS {
        let ratio = judge(&nottingham(), setting, untouched).ratio();
        assert!(ratio <= 1.0, "{setting:?}: {ratio}");
    }
}

#[test]
fn ranges_at_95_percent_hold_88_to_99_percent_of_what_came() {
    let (mut inside, mut count) = (0, 0);
    for values in [air_passengers(), nottingham()] {
        for setting in SETTINGS {
            let score = judge(&values, setting, untouched);
            inside += score.inside;
            count += score.count;
        }
    }
    let coverage = inside as f64 / count as f64;
    println!("inside over both series: {coverage:.3}");
    assert!((0.88..=0.99).contains(&coverage), "{coverage}");
}

/// Series that nothing here was set by: a wandering level, a level with noise, and a trend with a season and noise.
fn simulated(seed: u64) -> [Vec<f64>; 3] {
    let shaken = noise(seed, 132);
    let wandering = shaken.iter().scan(100.0, |level, step| {
        *level += step;
        Some(*level)
    });
    let season = noise(seed + 1_000, SEASON);
    let seasonal = |(at, noise): (usize, &f64)| 50.0 + 0.3 * at as f64 + 6.0 * season[at % SEASON] + noise;
    let level = shaken.iter().map(|noise| 20.0 + noise).collect();
    [wandering.collect(), level, shaken.iter().enumerate().map(seasonal).collect()]
}

#[test]
fn ranges_are_as_honest_on_series_that_they_were_not_set_by() {
    let (mut inside, mut count) = ([0; 3], 0);
    let config = InsightConfig { season: None, horizon: 12, level: 0.95 };
    for seed in 0..30 {
        count += config.horizon;
        for (kind, values) in simulated(seed).iter().enumerate() {
            let (past, future) = values.split_at(values.len() - config.horizon);
            let forecast = analyse(&config, &input(past)).forecast;
            let holds = |(point, truth): &(&ForecastPoint, &f64)| point.lower <= **truth && **truth <= point.upper;
            inside[kind] += forecast.iter().zip(future).filter(holds).count();
        }
    }
    let coverage = inside.map(|inside| inside as f64 / count as f64);
    println!("inside for a wandering level, a level, a trend with a season: {coverage:.3?}");
    assert!(coverage.iter().all(|coverage| *coverage >= 0.85), "{coverage:?}");
}

#[test]
fn an_odd_last_value_and_one_before_do_not_spoil_the_forecast() {
    let spikes = |seen: &mut [Option<f64>]| {
        for (back, times) in [(1, 1.6), (30, 0.4)] {
            let place = seen.len() - back;
            seen[place] = seen[place].map(|value| value * times);
        }
    };
    for (values, limit) in [(air_passengers(), 0.7), (nottingham(), 1.0)] {
        let ratio = judge(&values, (12, 5), spikes).ratio();
        assert!(ratio <= limit, "{ratio}");
    }
}

#[test]
fn missing_values_do_not_spoil_the_forecast() {
    let gaps = |seen: &mut [Option<f64>]| {
        seen.iter_mut().step_by(7).for_each(|value| *value = None);
        seen[30..36].fill(None);
    };
    for (values, limit) in [(air_passengers(), 0.7), (nottingham(), 1.0)] {
        let ratio = judge(&values, (12, 5), gaps).ratio();
        assert!(ratio <= limit, "{ratio}");
    }
}
