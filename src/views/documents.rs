//! Between documents and sealed rows of a view.
use marvin_domain::Position;
use marvin_projections::RawDocument;
use std::sync::Arc;
use uuid::Uuid;

use super::{SealedDocument, Table, ViewError};
use crate::{
    security::sealer::{SealError, Sealed, Sealer, Spot},
    store::StoreError,
};

/// Seals documents for their place in a view, and opens them.
#[derive(Clone)]
pub struct Documents {
    sealer: Arc<Sealer>,
}

impl Documents {
    pub fn new(sealer: Arc<Sealer>) -> Self {
        Self { sealer }
    }

    /// # Errors
    /// `Unavailable` when a person's key cannot be had.
    pub async fn seal(&self, table: &Table, documents: Vec<RawDocument>) -> Result<Vec<SealedDocument>, ViewError> {
        let mut sealed = Vec::with_capacity(documents.len());
        for document in documents {
            let RawDocument { id, position, facts, personal, subject, keys } = document;
            let body = self
                .sealer
                .seal(&scope(table), &place(id, position), &facts, personal.zip(subject))
                .await
                .map_err(|error| error_of(table, &[], error))?;
            sealed.push(SealedDocument { id, position, body, keys });
        }
        Ok(sealed)
    }

    /// Opens documents, in order. The personal part of an erased person is none.
    ///
    /// # Errors
    /// `Corrupt` at the first that does not open.
    pub async fn open(&self, table: &Table, documents: Vec<SealedDocument>) -> Result<Vec<RawDocument>, ViewError> {
        let scope = scope(table);
        let ids: Vec<Uuid> = documents.iter().map(|document| document.id).collect();
        let (mut sealed, mut rows) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        for SealedDocument { id, position, body, keys } in documents {
            sealed.push(Sealed { scope: scope.clone(), place: place(id, position), payload: body });
            rows.push((id, position, keys));
        }
        let opened = self.sealer.open(sealed).await.map_err(|error| error_of(table, &ids, error))?;
        let raw = rows.into_iter().zip(opened).map(|((id, position, keys), opened)| RawDocument {
            id,
            position,
            facts: opened.facts().to_vec(),
            personal: opened.personal().map(<[u8]>::to_vec),
            subject: None,
            keys,
        });
        Ok(raw.collect())
    }
}

/// Every build of a projection's version seals alike: what one holds, another may.
fn scope(table: &Table) -> Spot {
    format!("view/{}/{}", table.name, table.version).as_bytes().into()
}

/// With its position, so that an old document does not pass for a newer one.
fn place(id: Uuid, position: Position) -> Spot {
    let mut place = Spot::from_slice(id.as_bytes());
    place.extend_from_slice(&position.to_be_bytes());
    place
}

fn error_of(table: &Table, ids: &[Uuid], error: SealError) -> ViewError {
    match error {
        SealError::Unavailable(reason) => ViewError::Unavailable(StoreError::Commit(reason)),
        SealError::Unreadable { index, reason } => {
            ViewError::Corrupt { view: table.name.clone(), id: ids.get(index).copied().unwrap_or_default(), reason }
        }
    }
}
