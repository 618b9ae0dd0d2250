//! What the benchmarks share: rounds in which reference and subject take turns, and the table of their ratios.
#![allow(dead_code, reason = "each program uses its part")]
use std::{fs::OpenOptions, hint::black_box, io::Write, time::Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod load;
pub mod sample;

/// Where the lines of all programs are gathered for the one table at the end.
const TABLE_VARIABLE: &str = "MARVIN_BENCH_TABLE";
/// Rounds whose result is dropped: they fill caches, open connections and let the processor speed up.
const WARM_UP_ROUNDS: usize = 2;

/// What a ratio must reach.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// For orientation; nothing is promised.
    None,
}

impl Target {
    fn verdict(self, median: f64) -> &'static str {
        match self {
            Self::AtLeast(min) if median < min => "short",
            Self::AtMost(max) if median > max => "short",
            Self::None => "-",
            _ => "ok",
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(min) => format!(">= {min}"),
            Self::AtMost(max) => format!("<= {max}"),
            Self::None => "-".into(),
        }
    }
}

/// How the times of a round become its ratio.
#[derive(Clone, Copy)]
pub enum Ratio {
    /// The subject's rate in rates of the reference: more is better.
    Rate,
    /// The subject's time in times of the reference: less is better.
    Time,
    /// The subject's own time in µs, for a target that is a time: less is better.
    Microseconds,
}

/// Times of one operation in seconds, by round.
#[derive(Default)]
pub struct Times {
    reference: Vec<f64>,
    subject: Vec<f64>,
}

/// Runs both in each round, whoever was second in one goes first in the next. Each answers seconds per operation.
pub fn take_turns(rounds: usize, mut reference: impl FnMut() -> f64, mut subject: impl FnMut() -> f64) -> Times {
    let mut times = Times::default();
    for round in 0..WARM_UP_ROUNDS + rounds {
        let (reference, subject) = if round % 2 == 0 {
            let subject = subject();
            (reference(), subject)
        } else {
            let reference = reference();
            (reference, subject())
        };
        if round >= WARM_UP_ROUNDS {
            times.reference.push(reference);
            times.subject.push(subject);
        }
    }
    times
}

impl Times {
    /// Adds a round that was measured otherwise than by taking turns.
    pub fn add(&mut self, reference: f64, subject: f64) {
        self.reference.push(reference);
        self.subject.push(subject);
    }

    /// The median time of one operation of ours.
    pub fn ours(&self) -> f64 {
        median(&self.subject)
    }

    /// One line of the table, also shown at once: the median, least and greatest ratio of the rounds, and for orientation the
    /// median times of one operation, ours before the reference's.
    pub fn report(&self, name: &str, target: Target, ratio: Ratio) {
        let of_round = |(reference, subject): (&f64, &f64)| match ratio {
            Ratio::Rate => reference / subject,
            Ratio::Time => subject / reference,
            Ratio::Microseconds => subject * 1e6,
        };
        let ratios = sorted(self.reference.iter().zip(&self.subject).map(of_round).collect());
        let median = middle(&ratios);
        let (reference, subject) = (middle(&sorted(self.reference.clone())), middle(&sorted(self.subject.clone())));
        print_line(&[
            name,
            &target.text(),
            &format!("{median:.2}"),
            &format!("{:.2}", ratios[0]),
            &format!("{:.2}", ratios[ratios.len() - 1]),
            &ratios.len().to_string(),
            target.verdict(median),
            &format!("{} / {}", time(subject), time(reference)),
        ]);
    }
}

/// One line for what is measured once and has another unit, which its name tells.
pub fn report_once(name: &str, target: Target, measured: f64) {
    let shown = format!("{measured:.0}");
    print_line(&[name, &target.text(), &shown, &shown, &shown, "1", target.verdict(measured), ""]);
}

/// Something worth knowing about a run that is no ratio: a setting, a batch size.
pub fn note(text: &str) {
    println!("  {text}");
}

fn print_line(cells: &[&str; 8]) {
    let [name, target, median, min, max, rounds, verdict, times] = cells;
    let line = format!("{name:<62} {target:>8} {median:>8} {min:>8} {max:>8} {rounds:>6}  {verdict:<5}  {times}");
    println!("{}", line.trim_end());
    if let Ok(path) = std::env::var(TABLE_VARIABLE) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("the table can be written to");
        writeln!(file, "{}", line.trim_end()).expect("the table can be written to");
    }
}

/// Seconds that `count` calls take, divided among them.
pub fn seconds_each<T>(count: usize, mut call: impl FnMut(usize) -> T) -> f64 {
    let start = Instant::now();
    for index in 0..count {
        black_box(call(index));
    }
    start.elapsed().as_secs_f64() / count as f64
}

/// Calls that are timed as one where a call is short.
const SLICE_CALLS: usize = 100;

/// Seconds of one call, from the median of `slices` that are so short that few of them are interrupted.
pub fn typical_seconds<T>(slices: usize, mut call: impl FnMut() -> T) -> f64 {
    middle(&sorted((0..slices).map(|_| seconds_each(SLICE_CALLS, |_| call())).collect()))
}

/// The median of `count` calls, each timed for itself: what one caller waits who is alone.
pub fn median_latency(count: usize, mut call: impl FnMut(usize)) -> f64 {
    let timed = |index| {
        let start = Instant::now();
        call(index);
        start.elapsed().as_secs_f64()
    };
    median(&(0..count).map(timed).collect::<Vec<_>>())
}

pub fn median(times: &[f64]) -> f64 {
    middle(&sorted(times.to_vec()))
}

fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[half - 1], sorted[half]) } else { sorted[half] }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s => format!("{:.2} ms", s * 1e3),
    }
}

/// A count from the environment, for a quick run.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a setting of the benchmarks is a number"))
}
