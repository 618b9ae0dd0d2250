//! What a forecast of ten years of monthly values costs a processor.
use marvin::agent::insight::{analyse, check_config, check_input};
use serde_json::{Value, json};
use std::path::Path;

use crate::support::{Ratio, Target, Times};

const MONTHS: usize = 120;
const FORECASTS: usize = 50;
/// Processor time that a forecast may take.
const TARGET_US: f64 = 20_000.0;

pub fn forecast(rounds: usize) {
    let input = check_input(&json!({ "values": passengers() })).expect("a series");
    let config = check_config(&json!({})).expect("nothing but defaults");
    let mut times = Times::default();
    for _ in 0..rounds {
        let before = processor_seconds();
        for _ in 0..FORECASTS {
            let output = analyse(&config, &input);
            assert_eq!(output.forecast.len(), 12);
            std::hint::black_box(output);
        }
        let each = (processor_seconds() - before) / FORECASTS as f64;
        times.add(each, each);
    }
    times.report("forecast of 120 months, µs of processor time", Target::AtMost(TARGET_US), Ratio::Microseconds);
}

/// The first ten years of the airline passengers of Box and Jenkins, as the examples have them.
fn passengers() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/air-passengers.csv");
    let text = std::fs::read_to_string(path).expect("it is part of the project");
    let values = text.lines().skip(1).filter_map(|line| line.split(',').nth(1)?.parse::<f64>().ok());
    let values: Vec<_> = values.map(Value::from).take(MONTHS).collect();
    assert_eq!(values.len(), MONTHS);
    values
}

/// What this process, all its threads together, had of the processors so far. Linux counts in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells it");
    let behind_name = stat.rsplit(") ").next().expect("it has fields");
    let ticks: f64 = behind_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}
