//! What is asked of a log, whichever store it is: many writers, one writer, reading it all, loading a stream.
use futures_util::future::join_all;
use marvin::{
    dispatch::Dispatcher,
    log::{EventLog, StoredEvent, subscription::Subscription, tail::Tail},
};
use marvin_domain::{Position, StreamId};
use std::{sync::Arc, time::Instant};
use tokio::runtime::Runtime;

use super::{
    Ratio, Target, median,
    sample::{Keys, ROWS_AT_ONCE, STREAM_EVENTS, new_stream},
    seconds_each, setting, take_turns,
};

pub const WRITERS: usize = 32;
/// Commands of a writer in one round.
pub const COMMANDS: usize = 100;
/// Commands of a round with one writer.
pub const LONE_COMMANDS: usize = 200;
/// Events of a page, as whoever follows the log reads it.
pub const PAGE_EVENTS: u32 = marvin::log::subscription::BATCH_EVENTS_MAX;

pub const SMALL_EVENTS: u64 = ROWS_AT_ONCE as u64;
const LARGE_EVENTS: usize = 1_000_000;
/// How much more anything may take at a million events.
const GROWTH_MAX: f64 = 1.15;
const STREAMS_LOADED: usize = 100;

/// A log with the keys to write and read it, and the streams in it that are whole.
pub struct Subject {
    pub log: Arc<dyn EventLog>,
    pub keys: Arc<Keys>,
    pub complete: Vec<StreamId>,
}

impl Subject {
    /// Seconds a command, of 32 writers with a stream each. Sealing is part of it.
    pub fn write_together(&self, runtime: &Runtime) -> f64 {
        let before = self.last(runtime);
        let start = Instant::now();
        runtime.block_on(async {
            let writers = (0..WRITERS).map(|_| {
                let (log, keys) = (self.log.clone(), self.keys.clone());
                tokio::spawn(async move {
                    let stream = new_stream();
                    for sequence in 1..=COMMANDS as u64 {
                        let receipt =
                            log.append(keys.command(stream, sequence).await).await.expect("nothing is in the way");
                        assert_eq!((receipt.sequence, receipt.repeated), (sequence, false));
                    }
                })
            });
            for writer in join_all(writers).await {
                writer.expect("a writer finishes");
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(self.last(runtime) - before, (WRITERS * COMMANDS) as u64, "every command is in the log");
        seconds / (WRITERS * COMMANDS) as f64
    }

    /// The median time of a command whose writer is alone.
    pub fn write_alone(&self, runtime: &Runtime) -> f64 {
        let (stream, log, keys) = (new_stream(), self.log.clone(), self.keys.clone());
        // In a task of the runtime, as the dispatcher appends.
        let writing = runtime.spawn(async move {
            let mut times = Vec::with_capacity(LONE_COMMANDS);
            for sequence in 1..=LONE_COMMANDS as u64 {
                let start = Instant::now();
                log.append(keys.command(stream, sequence).await).await.expect("nothing is in the way");
                times.push(start.elapsed().as_secs_f64());
            }
            times
        });
        median(&runtime.block_on(writing).expect("it does not panic"))
    }

    /// Seconds an event, reading, opening and decoding `count` of them after `after`, as whoever follows the log does.
    pub fn catch_up(&self, runtime: &Runtime, after: Position, count: u64) -> f64 {
        let tail = {
            let _inside = runtime.enter();
            Tail::new(self.log.clone(), self.keys.codec.clone())
        };
        let start = Instant::now();
        // In a task of the runtime, as followers run.
        let reading = runtime.spawn(async move {
            let mut subscription = Subscription::new(tail, after);
            let mut events = 0;
            while subscription.position() < after + count {
                events += subscription.next().await.expect("the log is readable").len();
            }
            events
        });
        let events = runtime.block_on(reading).expect("it does not panic");
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(events as u64, count, "every event was read");
        seconds / count as f64
    }

    /// Seconds to load an aggregate of 100 events, nothing of it cached.
    pub fn load_streams(&self, runtime: &Runtime, streams: &[StreamId]) -> f64 {
        let dispatcher = Dispatcher::new(self.log.clone(), self.keys.codec.clone());
        seconds_each(streams.len(), |index| {
            let loaded = runtime.block_on(dispatcher.load(streams[index])).expect("it is readable");
            assert_eq!(loaded.sequence, STREAM_EVENTS);
        })
    }

    /// `count` whole streams from the middle of the log, which grew at the same time, as those that are busy together do.
    pub fn neighbours(&self, count: usize) -> &[StreamId] {
        let first = self.complete.len() / count / 2 * count;
        &self.complete[first..first + count]
    }

    pub fn last(&self, runtime: &Runtime) -> Position {
        let _inside = runtime.enter();
        *self.log.head().borrow()
    }
}

/// Everything at 10,000 events and at a million.
pub fn grow(store: &str, runtime: &Runtime, rounds: usize, small: &Subject, large: &Subject) {
    let target = Target::AtMost(GROWTH_MAX);
    let times = format!("{}k events, time to itself at 10k", large.last(runtime) / 1_000);
    let middle = large.last(runtime) / 2;
    take_turns(rounds, || small.catch_up(runtime, 0, SMALL_EVENTS), || large.catch_up(runtime, middle, SMALL_EVENTS))
        .report(&format!("{store}: read and open at {times}"), target, Ratio::Time);
    let (few, many) = (small.neighbours(STREAMS_LOADED), large.neighbours(STREAMS_LOADED));
    take_turns(rounds, || small.load_streams(runtime, few), || large.load_streams(runtime, many)).report(
        &format!("{store}: load 100 events at {times}"),
        target,
        Ratio::Time,
    );
    take_turns(rounds, || small.write_together(runtime), || large.write_together(runtime)).report(
        &format!("{store}: append, 32 writers, at {times}"),
        target,
        Ratio::Time,
    );
    take_turns(rounds, || small.write_alone(runtime), || large.write_alone(runtime)).report(
        &format!("{store}: append, 1 writer, at {times}"),
        target,
        Ratio::Time,
    );
}

/// How many events a large log has.
pub fn large_events() -> usize {
    setting("MARVIN_BENCH_EVENTS", LARGE_EVENTS)
}

/// Rows as 32 writers would make them, for a reference that gets them ready.
pub async fn rows(keys: &Keys, after: Position, count: usize) -> Vec<StoredEvent> {
    let streams: Vec<_> = (0..WRITERS).map(|_| new_stream()).collect();
    let mut rows = Vec::with_capacity(count);
    for index in 0..count {
        let (stream, sequence) = (streams[index % WRITERS], (index / WRITERS) as u64 + 1);
        let append = keys.command(stream, sequence).await;
        let event = append.streams[0].events[0].clone();
        rows.push(StoredEvent {
            position: after + index as u64 + 1,
            stream,
            sequence,
            event_type: event.event_type.into(),
            event_version: event.event_version,
            payload: event.payload,
            metadata: event.metadata,
            event_id: event.event_id,
            command_id: append.command_id,
            recorded_at: chrono::Utc::now(),
        });
    }
    rows
}
