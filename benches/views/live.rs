//! How closely views follow a log that is written to: at half of what it can take, and at a steady pace.
use futures_util::future::join_all;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    life::{LIFE_EVENTS, command, life},
    running::{Place, Running},
    support::{Ratio, Target, Times, load::WRITERS, note},
};

const ROUNDS: usize = 5;
/// Time of one measurement.
const ROUND: Duration = Duration::from_secs(2);
/// Writers that keep a pace: more than there are when each goes as fast as it can, since each of them also waits for its turn.
const PACED_WRITERS: usize = 128;
/// What is offered of the peak rate, so that half of it is exceeded.
const OFFERED: f64 = 0.6;
/// Events a second at which the lag is measured.
const STEADY_RATE: f64 = 2_000.0;
/// What the slowest hundredth of events may wait for the slowest view.
const LAG_US_MAX: f64 = 250_000.0;

/// When each position was acknowledged.
type Acknowledged = Vec<(u64, Instant)>;

pub fn follow(runtime: &Runtime, store: &str, place: &Place) {
    let (mut pace, mut lag) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let (events, seconds) = runtime.block_on(async {
            let start = Instant::now();
            (write(place, None).await.len() as f64, start.elapsed().as_secs_f64())
        });
        let peak = events / seconds;
        let busy = runtime.block_on(keep_up(place, peak * OFFERED));
        note(&format!(
            "{store}: peak {peak:.0} events a second; with {OFFERED} of it offered {:.0} were appended and {:.0} projected a second, p99 lag {:.1} ms",
            busy.appended,
            busy.projected,
            busy.lag_s * 1e3
        ));
        pace.add(1.0 / peak, 1.0 / busy.projected);
        let steady = runtime.block_on(keep_up(place, STEADY_RATE));
        note(&format!("{store}: at {:.0} events a second p99 lag {:.1} ms", steady.appended, steady.lag_s * 1e3));
        lag.add(steady.lag_s, steady.lag_s);
    }
    pace.report(
        &format!("{store}: live projection of all views, to the peak append rate"),
        Target::AtLeast(0.5),
        Ratio::Rate,
    );
    lag.report(
        &format!("{store}: p99 lag of views at {STEADY_RATE:.0} events a second, µs"),
        Target::AtMost(LAG_US_MAX),
        Ratio::Microseconds,
    );
}

struct Followed {
    /// Events a second, until the last was acknowledged.
    appended: f64,
    /// Events a second, until the last was in every view.
    projected: f64,
    /// What the slowest hundredth waited at least, from acknowledged to in every view.
    lag_s: f64,
}

/// Writes at this rate while every projection runs, on tables that begin where the log ends.
async fn keep_up(place: &Place, rate: f64) -> Followed {
    let running = Running::start_at_end(place).await;
    let reached = watch(&running);
    let start = Instant::now();
    let acknowledged = write(place, Some(rate)).await;
    let (end, count) = (Instant::now(), acknowledged.len() as f64);
    let last = acknowledged.iter().map(|(position, _)| *position).max().expect("something was written");
    running.reach(last).await;
    let there = Instant::now();
    // A watcher may be told after this task; what it was told of last is then as good as now.
    let mut lags: Vec<f64> = acknowledged
        .iter()
        .map(|(position, at)| {
            let of_view = |seen: &Arc<Mutex<Acknowledged>>| {
                let seen = seen.lock().expect("nobody panics with it");
                seen.get(seen.partition_point(|(reached, _)| reached < position)).map_or(there, |(_, at)| *at)
            };
            let slowest = reached.iter().map(of_view).max().expect("there are views");
            slowest.saturating_duration_since(*at).as_secs_f64()
        })
        .collect();
    lags.sort_by(f64::total_cmp);
    running.finish(&*place.views).await;
    Followed {
        appended: count / (end - start).as_secs_f64(),
        projected: count / (there - start).as_secs_f64(),
        lag_s: lags[lags.len() * 99 / 100],
    }
}

/// Notes when each view got to which position.
fn watch(running: &Running) -> Vec<Arc<Mutex<Acknowledged>>> {
    let watched = running.tables.iter().map(|table| {
        let mut seen = running.board.watch(&table.name);
        let noted = Arc::new(Mutex::new(Acknowledged::new()));
        let notes = noted.clone();
        tokio::spawn(async move {
            while seen.changed().await.is_ok() {
                let position = seen.borrow_and_update().serving.as_ref().map_or(0, |serving| serving.position);
                notes.lock().expect("nobody panics with it").push((position, Instant::now()));
            }
        });
        noted
    });
    watched.collect()
}

/// Lives by 32 writers for the time of a round, as fast as they can, or by more at `rate` events a second together.
async fn write(place: &Place, rate: Option<f64>) -> Acknowledged {
    let start = tokio::time::Instant::now();
    let count = if rate.is_some() { PACED_WRITERS } else { WRITERS };
    let interval = rate.map(|rate| Duration::from_secs_f64(count as f64 / rate));
    let writers = (0..count).map(|writer| {
        let place = place.clone();
        tokio::spawn(async move {
            let mut due = start + interval.unwrap_or_default().mul_f64(writer as f64 / count as f64);
            let mut acknowledged = Acknowledged::new();
            while due.max(tokio::time::Instant::now()) < start + ROUND {
                for change in life(place.keys.person(Uuid::now_v7())) {
                    if let Some(interval) = interval {
                        tokio::time::sleep_until(due).await;
                        due += interval;
                    }
                    let append = command(&place.keys.codec, std::slice::from_ref(&change)).await;
                    let receipt = place.log.append(append).await.expect("nothing is in the way");
                    acknowledged.push((receipt.position, Instant::now()));
                }
            }
            assert!(acknowledged.len().is_multiple_of(LIFE_EVENTS));
            acknowledged
        })
    });
    let written = join_all(writers).await;
    written.into_iter().flat_map(|written| written.expect("a writer finishes")).collect()
}
