//! Folds what happens to some of a projection's documents, and keeps them in memory from batch to batch.
use marvin_domain::Position;
use std::collections::{HashMap, HashSet, hash_map};
use uuid::Uuid;

use crate::{Document, FoldError, Projection, RawDocument, Touch, projection::caught};

/// Some of a projection's documents, in memory as far as there is room.
///
/// What a fold touched leaves the memory, and comes back with [`keep`](Self::keep). So whoever is not sure that the batch was
/// stored does not keep it, and the documents are read from the store again: memory is never ahead of the store.
pub trait Lane: Send + Sync {
    /// Those of the touched documents that are not in memory, each once: load them for [`fold`](Self::fold).
    fn missing(&self, touches: &[Touch]) -> Vec<Uuid>;
    /// Folds in order and answers the documents that changed, in the order of their ids. What is neither in memory nor in
    /// `loaded` does not exist.
    ///
    /// Events at or below a document's position are passed over, so that folding a batch twice changes nothing.
    ///
    /// # Errors
    /// The first event that could not be folded: leave it out (see [`Plan::stop_before`](crate::Plan::stop_before)) and fold again.
    fn fold(&mut self, loaded: Vec<RawDocument>, touches: &[Touch]) -> Result<Vec<RawDocument>, FoldError>;
    /// Keeps what the last fold touched. Call it once that is stored.
    fn keep(&mut self);
    /// Forgets the documents of an erased person, now and whenever they come again.
    fn forget(&mut self, subject: Uuid);
}

pub(crate) struct Working<P: Projection> {
    memory: Memory<P::Document>,
    /// What the last fold touched.
    touched: HashMap<Uuid, Entry<P::Document>>,
    erased: HashSet<Uuid>,
}

struct Entry<D> {
    document: D,
    position: Position,
    /// Its size in JSON, as it was read or last written.
    bytes: usize,
    changed: bool,
}

impl<P: Projection> Working<P> {
    pub fn new(bytes_max: usize) -> Self {
        Self { memory: Memory::new(bytes_max), touched: HashMap::new(), erased: HashSet::new() }
    }

    fn touch(&mut self, loaded: &mut HashMap<Uuid, RawDocument>, touch: &Touch) -> Result<(), FoldError> {
        let (id, event, position) = (touch.id, &*touch.event, touch.event.position);
        let place = match self.touched.entry(id) {
            hash_map::Entry::Occupied(place) => Ok(place.into_mut()),
            hash_map::Entry::Vacant(place) => match (self.memory.take(id), loaded.remove(&id)) {
                (Some(entry), _) => Ok(place.insert(entry)),
                (None, Some(raw)) => {
                    let document = raw.open().map_err(|source| FoldError::Malformed { position, id, source })?;
                    let (position, bytes) = (raw.position, size(&raw));
                    Ok(place.insert(Entry { document, position, bytes, changed: false }))
                }
                (None, None) => Err(place),
            },
        };
        match place {
            Ok(entry) if entry.position >= position => {}
            Ok(entry) => {
                P::apply(&mut entry.document, event);
                (entry.position, entry.changed) = (position, true);
            }
            Err(place) => match P::begin(id, event) {
                Some(document) => {
                    place.insert(Entry { document, position, bytes: 0, changed: true });
                }
                None if touch.orphan => {}
                None => return Err(FoldError::NothingToChange { position, id }),
            },
        }
        Ok(())
    }
}

impl<P: Projection> Lane for Working<P> {
    fn missing(&self, touches: &[Touch]) -> Vec<Uuid> {
        let mut seen = HashSet::with_capacity(touches.len());
        let ids = touches.iter().map(|touch| touch.id);
        ids.filter(|id| !self.memory.holds(*id) && seen.insert(*id)).collect()
    }

    fn fold(&mut self, loaded: Vec<RawDocument>, touches: &[Touch]) -> Result<Vec<RawDocument>, FoldError> {
        self.touched.clear();
        let mut loaded = loaded.into_iter().map(|raw| (raw.id, raw)).collect();
        for touch in touches {
            caught(touch.event.position, || self.touch(&mut loaded, touch))??;
        }
        let mut changed = Vec::with_capacity(self.touched.len());
        for (id, entry) in self.touched.iter_mut().filter(|(_, entry)| entry.changed) {
            let raw = caught(entry.position, || close::<P>(*id, entry))?;
            entry.bytes = size(&raw);
            changed.push(raw);
        }
        changed.sort_unstable_by_key(|raw| raw.id);
        Ok(changed)
    }

    fn keep(&mut self) {
        for (id, mut entry) in self.touched.drain() {
            entry.changed = false;
            if !entry.document.subject().is_some_and(|subject| self.erased.contains(&subject)) {
                self.memory.put(id, entry);
            }
        }
    }

    fn forget(&mut self, subject: Uuid) {
        self.erased.insert(subject);
        self.memory.retain(|entry| entry.document.subject() != Some(subject));
    }
}

/// Documents in two generations. When the young ones fill half of the room, they become the old ones, and what was old and not
/// touched meanwhile is dropped.
struct Memory<D> {
    young: HashMap<Uuid, Entry<D>>,
    old: HashMap<Uuid, Entry<D>>,
    young_bytes: usize,
    young_bytes_max: usize,
}

impl<D> Memory<D> {
    fn new(bytes_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, young_bytes_max: bytes_max / 2 }
    }

    fn holds(&self, id: Uuid) -> bool {
        self.young.contains_key(&id) || self.old.contains_key(&id)
    }

    fn take(&mut self, id: Uuid) -> Option<Entry<D>> {
        let young = self.young.remove(&id);
        self.young_bytes -= young.as_ref().map_or(0, |entry| entry.bytes);
        young.or_else(|| self.old.remove(&id))
    }

    /// Keeps an entry that is not kept yet, unless it alone would fill a generation.
    fn put(&mut self, id: Uuid, entry: Entry<D>) {
        if entry.bytes > self.young_bytes_max {
            return;
        }
        if self.young_bytes + entry.bytes > self.young_bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += entry.bytes;
        self.young.insert(id, entry);
    }

    fn retain(&mut self, wanted: impl Fn(&Entry<D>) -> bool) {
        self.old.retain(|_, entry| wanted(entry));
        self.young.retain(|_, entry| wanted(entry));
        self.young_bytes = self.young.values().map(|entry| entry.bytes).sum();
    }
}

fn size(raw: &RawDocument) -> usize {
    raw.facts.len() + raw.personal.as_ref().map_or(0, Vec::len)
}

fn close<P: Projection>(id: Uuid, entry: &Entry<P::Document>) -> RawDocument {
    RawDocument {
        id,
        position: entry.position,
        facts: marvin_domain::event::to_json(&entry.document),
        personal: entry.document.personal(),
        subject: entry.document.subject(),
        keys: P::keys(&entry.document),
    }
}
