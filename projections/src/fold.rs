//! What a projection is, and how a batch of events is folded into its documents.
use marvin_domain::{Envelope, Position};
use std::{collections::HashMap, marker::PhantomData, sync::Arc};
use uuid::Uuid;

use crate::{Document, Field, Key, RawDocument};

/// A read model, named for what users see.
pub trait Projection: Send + Sync + 'static {
    const NAME: &'static str;
    /// Raise it whenever a document would come out differently: the view is then built anew beside the old one.
    const VERSION: u32;
    /// Facts by which lists may be filtered, in the order of [`Projection::keys`].
    const FIELDS: &'static [Field];
    /// Fields that lists are filtered by together, and sorted by last. Each gets an index, with the id behind it.
    const INDEXES: &'static [&'static [&'static str]];
    type Document: Document;

    /// The documents that this event touches.
    fn ids(event: &Envelope) -> Vec<Uuid>;
    /// The document that this event begins; none when the event can only change one that exists.
    fn begin(id: Uuid, event: &Envelope) -> Option<Self::Document>;
    /// Changes a document that an earlier event began.
    fn apply(document: &mut Self::Document, event: &Envelope);
    fn keys(document: &Self::Document) -> Vec<Key>;
}

/// Why an event could not be folded. The projection stops there; it is never skipped silently.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("position {position} changes document {id}, which no event began")]
    NothingToChange { position: Position, id: Uuid },
    #[error("the stored document {id} does not fit this version of its projection")]
    Malformed {
        id: Uuid,
        #[source]
        source: serde_json::Error,
    },
}

/// A projection without its types, as the machinery handles it.
pub trait Fold: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn fields(&self) -> &'static [Field];
    fn indexes(&self) -> &'static [&'static [&'static str]];
    fn ids(&self, event: &Envelope) -> Vec<Uuid>;
    /// Folds `events`, in order, into the `loaded` documents and answers those that changed.
    ///
    /// Events at or below a document's position are skipped, so that folding a batch twice changes nothing.
    ///
    /// # Errors
    /// `NothingToChange` for an event whose document nothing began, `Malformed` for a stored document that does not fit.
    fn fold(&self, loaded: Vec<RawDocument>, events: &[Arc<Envelope>]) -> Result<Vec<RawDocument>, FoldError>;
}

/// The machinery's view of projection `P`.
pub fn fold_of<P: Projection>() -> Arc<dyn Fold> {
    Arc::new(Typed::<P>(PhantomData))
}

struct Typed<P>(PhantomData<P>);

struct Entry<D> {
    document: D,
    position: Position,
    changed: bool,
}

impl<P: Projection> Fold for Typed<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn version(&self) -> u32 {
        P::VERSION
    }

    fn fields(&self) -> &'static [Field] {
        P::FIELDS
    }

    fn indexes(&self) -> &'static [&'static [&'static str]] {
        P::INDEXES
    }

    fn ids(&self, event: &Envelope) -> Vec<Uuid> {
        P::ids(event)
    }

    fn fold(&self, loaded: Vec<RawDocument>, events: &[Arc<Envelope>]) -> Result<Vec<RawDocument>, FoldError> {
        let mut entries: HashMap<Uuid, Entry<P::Document>> = HashMap::with_capacity(loaded.len());
        for raw in loaded {
            let (id, position) = (raw.id, raw.position);
            let document = open::<P::Document>(&raw).map_err(|source| FoldError::Malformed { id, source })?;
            entries.insert(id, Entry { document, position, changed: false });
        }
        for event in events {
            for id in P::ids(event) {
                fold_one::<P>(&mut entries, id, event)?;
            }
        }
        Ok(entries.into_iter().filter(|(_, entry)| entry.changed).map(|(id, entry)| close::<P>(id, &entry)).collect())
    }
}

fn fold_one<P: Projection>(
    entries: &mut HashMap<Uuid, Entry<P::Document>>,
    id: Uuid,
    event: &Envelope,
) -> Result<(), FoldError> {
    let position = event.position;
    match entries.get_mut(&id) {
        Some(entry) if entry.position >= position => {}
        Some(entry) => {
            P::apply(&mut entry.document, event);
            (entry.position, entry.changed) = (position, true);
        }
        None => {
            let document = P::begin(id, event).ok_or(FoldError::NothingToChange { position, id })?;
            entries.insert(id, Entry { document, position, changed: true });
        }
    }
    Ok(())
}

/// Reads a document back from its stored parts.
pub(crate) fn open<D: Document>(raw: &RawDocument) -> Result<D, serde_json::Error> {
    let mut document: D = serde_json::from_slice(&raw.facts)?;
    if let Some(personal) = &raw.personal {
        document.fill_personal(personal)?;
    }
    Ok(document)
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

impl RawDocument {
    /// The typed document; its personal part is erased when there is none.
    ///
    /// # Errors
    /// When the bytes are not a document of this type.
    pub fn open<D: Document>(&self) -> Result<D, serde_json::Error> {
        open(self)
    }
}
