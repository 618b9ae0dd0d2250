//! Loads the documents that a batch of events changes, if they are not too much to be held at once.
use uuid::Uuid;

use super::{SealedDocument, Table, ViewError, ViewStore};

/// Documents asked for while nothing is known of their size: an input of a task may have 4 MiB.
const FIRST_DOCUMENTS: usize = 8;

/// Those of the documents that exist, at most `at_once` by one query, and as many as are likely to fit. None when they have more than
/// `bytes_max` bytes and are more than one.
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
    let (mut rest, mut count) = (ids, FIRST_DOCUMENTS.min(at_once));
    while !rest.is_empty() {
        let (asked, later) = rest.split_at(count.min(rest.len()));
        let page = store.load(table, asked).await?.documents;
        bytes += page.iter().map(|document| document.body.len()).sum::<usize>();
        loaded.extend(page);
        if bytes > bytes_max && loaded.len() > 1 {
            return Ok(None);
        }
        let mean = (bytes / loaded.len().max(1)).max(1);
        count = ((bytes_max.saturating_sub(bytes)) / mean).clamp(FIRST_DOCUMENTS.min(at_once), at_once);
        rest = later;
    }
    Ok(Some(loaded))
}
