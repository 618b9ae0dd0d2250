//! Loads the documents that a batch of events changes, if they are not too much to be held at once.
use uuid::Uuid;

use super::{SealedDocument, Table, ViewError, ViewStore};

/// Those of the documents that exist, `at_once` by one query. None when they have more than `bytes_max` bytes and are more than one:
/// then at most what one more query answers was loaded beyond that.
///
/// # Errors
/// As [`ViewStore::load`].
pub async fn load_within(
    store: &dyn ViewStore,
    table: &Table,
    ids: &[Uuid],
    at_once: usize,
    bytes_max: usize,
) -> Result<Option<Vec<SealedDocument>>, ViewError> {
    let (mut loaded, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for ids in ids.chunks(at_once) {
        let page = store.load(table, ids).await?.documents;
        bytes += page.iter().map(|document| document.body.len()).sum::<usize>();
        loaded.extend(page);
        if bytes > bytes_max && loaded.len() > 1 {
            return Ok(None);
        }
    }
    Ok(Some(loaded))
}
