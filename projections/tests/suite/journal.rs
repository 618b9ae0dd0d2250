//! A log to fold, and a store that keeps what was folded as a view store would.
use marvin_domain::{Actor, Envelope, Event, Metadata, Position, StreamId};
use marvin_projections::{Fold, FoldError, Lane, Plan, Projection, RawDocument, Skips, fold_of};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use uuid::Uuid;

use crate::samples::{CONVERSATION, WORKER, at};

/// The position of a log's first event here: unlike any sequence, so that the two are not mistaken for each other.
pub const FIRST: Position = 101;

/// Numbers events as a log would; each is recorded in the second of its position.
pub fn log(events: impl IntoIterator<Item = (Uuid, Event)>) -> Vec<Arc<Envelope>> {
    let mut sequences: HashMap<StreamId, u64> = HashMap::new();
    let number = |(position, (id, event)): (Position, (Uuid, Event))| {
        let stream = StreamId { kind: event.kind(), id };
        let sequence = sequences.entry(stream).and_modify(|sequence| *sequence += 1).or_insert(1);
        Arc::new(Envelope {
            position,
            stream,
            sequence: *sequence,
            event_id: Uuid::from_u128(u128::from(position)),
            command_id: CONVERSATION,
            recorded_at: at(i64::try_from(position).unwrap()),
            metadata: Metadata {
                actor: Actor::User(WORKER),
                subject: None,
                correlation: CONVERSATION,
                causation: None,
                digest: None,
            },
            event,
        })
    };
    (FIRST..).zip(events).map(number).collect()
}

/// The documents of one view, by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Store(pub BTreeMap<Uuid, RawDocument>);

impl Store {
    /// Folds a batch into the store in one lane that keeps nothing, and answers how many documents changed.
    pub fn take(&mut self, fold: &Arc<dyn Fold>, batch: &[Arc<Envelope>]) -> usize {
        Folding::new(fold, 1, 0).take(self, batch).unwrap()
    }

    fn load(&self, ids: &[Uuid]) -> Vec<RawDocument> {
        ids.iter().filter_map(|id| self.0.get(id).cloned()).collect()
    }
}

/// Lanes that fold one batch after another into a store, as a projector does.
pub struct Folding {
    fold: Arc<dyn Fold>,
    pub lanes: Vec<Box<dyn Lane>>,
    pub skips: Skips,
    /// Documents that were asked of the store so far.
    pub loaded: usize,
}

impl Folding {
    pub fn new(fold: &Arc<dyn Fold>, lanes: usize, bytes_max: usize) -> Self {
        let lanes = (0..lanes).map(|_| fold.lane(bytes_max)).collect();
        Self { fold: fold.clone(), lanes, skips: Skips::default(), loaded: 0 }
    }

    /// Stores what changed before the first event that cannot be folded, if there is one, and answers how many documents did.
    pub fn take(&mut self, store: &mut Store, batch: &[Arc<Envelope>]) -> Result<usize, FoldError> {
        let mut plan = self.fold.plan(batch, &self.skips, self.lanes.len());
        let changed = loop {
            match self.fold_lanes(store, &plan) {
                Ok(changed) => break changed,
                Err(failure) => plan.stop_before(failure),
            }
        };
        let count = changed.len();
        store.0.extend(changed.into_iter().map(|document| (document.id, document)));
        self.lanes.iter_mut().for_each(|lane| lane.keep());
        plan.failure.map_or(Ok(count), Err)
    }

    fn fold_lanes(&mut self, store: &Store, plan: &Plan) -> Result<Vec<RawDocument>, FoldError> {
        let mut changed = Vec::new();
        for (lane, touches) in self.lanes.iter_mut().zip(&plan.lanes) {
            let missing = lane.missing(touches);
            self.loaded += missing.len();
            changed.extend(lane.fold(store.load(&missing), touches)?);
        }
        Ok(changed)
    }
}

/// A stored document in readable form.
pub fn shown(document: &RawDocument) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let RawDocument { id: _, position, facts, personal, subject, keys } = document;
    let personal = personal.as_deref().map_or("none".into(), text);
    format!("at {position}\nfacts    {}\npersonal {personal}\nsubject  {subject:?}\nkeys     {keys:?}\n", text(facts))
}

/// The one document of `P` after these events of the stream `id`, read back from its stored form.
pub fn document_after<P: Projection>(id: Uuid, events: impl IntoIterator<Item = Event>) -> P::Document {
    let mut store = Store::default();
    store.take(&fold_of::<P>(), &log(events.into_iter().map(|event| (id, event))));
    assert_eq!(store.0.len(), 1);
    store.0.pop_first().unwrap().1.open().unwrap()
}
