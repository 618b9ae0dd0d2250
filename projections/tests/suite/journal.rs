//! A log to fold, and a store that keeps what was folded as a view store would.
use marvin_domain::{Actor, Envelope, Event, Metadata, Position, StreamId};
use marvin_projections::{Fold, Projection, RawDocument, fold_of};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
    /// Loads what the batch touches, folds, keeps what changed, and answers how many documents did.
    pub fn take(&mut self, fold: &dyn Fold, batch: &[Arc<Envelope>]) -> usize {
        let touched: BTreeSet<Uuid> = batch.iter().flat_map(|event| fold.ids(event)).collect();
        let loaded = touched.iter().filter_map(|id| self.0.get(id).cloned()).collect();
        let changed = fold.fold(loaded, batch).unwrap();
        let count = changed.len();
        self.0.extend(changed.into_iter().map(|document| (document.id, document)));
        count
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
    store.take(&*fold_of::<P>(), &log(events.into_iter().map(|event| (id, event))));
    assert_eq!(store.0.len(), 1);
    store.0[&id].open().unwrap()
}
