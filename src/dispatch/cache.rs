//! Aggregates kept between commands. Each is a guess about its stream that the append verifies.
use marvin_domain::{Envelope, Event, Position, Sequence, State, StreamId};
use moka::{ops::compute::Op, sync::Cache};
use std::sync::Arc;

/// An aggregate as of a sequence.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub state: State,
    pub sequence: Sequence,
    /// Of its last event; 0 for a stream without events.
    pub position: Position,
}

impl Loaded {
    /// A stream without events.
    pub fn nothing(stream: StreamId) -> Self {
        Self { state: State::new(stream.kind), sequence: 0, position: 0 }
    }

    /// Folds in the stream's next event.
    pub fn apply(&mut self, event: Event, sequence: Sequence, position: Position) {
        self.state.apply(event);
        (self.sequence, self.position) = (sequence, position);
    }
}

/// The newest known state of some streams, those used last.
#[derive(Clone)]
pub struct Aggregates {
    kept: Cache<StreamId, Arc<Loaded>>,
}

impl Aggregates {
    /// Keeps at most `count_max` aggregates.
    pub fn new(count_max: u64) -> Self {
        Self { kept: Cache::new(count_max) }
    }

    pub fn get(&self, stream: StreamId) -> Option<Arc<Loaded>> {
        self.kept.get(&stream)
    }

    /// How many are kept.
    pub fn count(&self) -> u64 {
        self.kept.run_pending_tasks();
        self.kept.entry_count()
    }

    /// Keeps the newer of what is cached and what was found.
    pub fn remember(&self, stream: StreamId, loaded: Loaded) -> Arc<Loaded> {
        let loaded = Arc::new(loaded);
        if loaded.sequence == 0 {
            return loaded;
        }
        let newer = loaded.clone();
        let kept = self.kept.entry(stream).and_upsert_with(|entry| match entry {
            Some(entry) if entry.value().sequence >= newer.sequence => entry.into_value(),
            _ => newer,
        });
        kept.into_value()
    }

    /// Keeps a cached aggregate fresh: applies the event that comes next, and drops the aggregate when one before it was missed.
    pub fn observe(&self, envelope: &Envelope) {
        let is_behind = |loaded: &Arc<Loaded>| loaded.sequence < envelope.sequence;
        if !self.get(envelope.stream).as_ref().is_some_and(is_behind) {
            return;
        }
        self.kept.entry(envelope.stream).and_compute_with(|entry| match entry.map(|entry| entry.into_value()) {
            Some(loaded) if loaded.sequence + 1 == envelope.sequence => {
                let mut next = Loaded::clone(&loaded);
                next.apply(envelope.event.clone(), envelope.sequence, envelope.position);
                Op::Put(Arc::new(next))
            }
            Some(loaded) if is_behind(&loaded) => Op::Remove,
            _ => Op::Nop,
        });
    }
}
