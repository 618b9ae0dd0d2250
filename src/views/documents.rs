//! Between documents and sealed rows of a view.
use marvin_projections::RawDocument;
use std::sync::Arc;
use uuid::Uuid;

use super::{SealedDocument, ViewError, ViewId};
use crate::{
    security::sealer::{SealError, Sealed, Sealer},
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
    pub async fn seal(&self, view: ViewId, documents: Vec<RawDocument>) -> Result<Vec<SealedDocument>, ViewError> {
        let mut sealed = Vec::with_capacity(documents.len());
        for document in documents {
            let RawDocument { id, position, facts, personal, subject, keys } = document;
            let body = self
                .sealer
                .seal(&scope(view), id.as_bytes(), &facts, personal.zip(subject))
                .await
                .map_err(|error| error_of(view, &[], error))?;
            sealed.push(SealedDocument { id, position, body, keys });
        }
        Ok(sealed)
    }

    /// Opens documents, in order. The personal part of an erased person is none.
    ///
    /// # Errors
    /// `Corrupt` at the first that does not open.
    pub async fn open(&self, view: ViewId, documents: Vec<SealedDocument>) -> Result<Vec<RawDocument>, ViewError> {
        let sealed = documents
            .iter()
            .map(|document| Sealed {
                scope: scope(view),
                place: document.id.as_bytes().to_vec(),
                payload: &document.body,
            })
            .collect::<Vec<_>>();
        let ids: Vec<Uuid> = documents.iter().map(|document| document.id).collect();
        let opened = self.sealer.open(&sealed).await.map_err(|error| error_of(view, &ids, error))?;
        let raw = documents.into_iter().zip(opened).map(|(document, opened)| RawDocument {
            id: document.id,
            position: document.position,
            facts: opened.facts,
            personal: opened.personal,
            subject: None,
            keys: document.keys,
        });
        Ok(raw.collect())
    }
}

fn scope(view: ViewId) -> Vec<u8> {
    format!("view/{}/{}", view.name, view.version).into_bytes()
}

fn error_of(view: ViewId, ids: &[Uuid], error: SealError) -> ViewError {
    match error {
        SealError::Unavailable(reason) => ViewError::Unavailable(StoreError::Commit(reason)),
        SealError::Unreadable { index, reason } => {
            ViewError::Corrupt { view: view.name, id: ids.get(index).copied().unwrap_or_default(), reason }
        }
    }
}
