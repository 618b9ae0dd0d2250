//! Wraps every key anew when the key-encryption key is rotated, a page of rows at a time.
use uuid::Uuid;

use super::SubjectsError;
use super::keyring::{Keyring, WrappedRows};

/// Rows between which others get their turn: some milliseconds of work.
const PAGE_ROWS_MAX: u32 = 256;

/// What [`SubjectStore::rewrap`](super::SubjectStore::rewrap) promises, on any adapter's rows.
pub async fn all(keyring: &Keyring, rows: &dyn WrappedRows) -> Result<u64, SubjectsError> {
    let mut rewrapped = 0;
    loop {
        // Only a pass over all rows that finds nothing shows that the old key is no longer needed.
        match pass(keyring, rows).await? {
            0 => break,
            found => rewrapped += found,
        }
    }
    // Also when nothing was left to do: a pass before may have been cut short at this very point.
    rows.scrub_replaced().await?;
    Ok(rewrapped)
}

async fn pass(keyring: &Keyring, rows: &dyn WrappedRows) -> Result<u64, SubjectsError> {
    // These come first: from then on the old key alone is refused at the start, not at the first row it fails to open.
    let mut rewrapped = instance_keys(keyring, rows).await?;
    // Whoever replaced them first is who rotates: nobody else may wrap people's keys, under a key that is kept elsewhere.
    keyring.require_current(&rows.instance_keys().await?)?;
    rewrapped += keys_of_secrets(keyring, rows).await?;
    let mut after = None;
    loop {
        let (found, last) = page(keyring, rows, after).await?;
        rewrapped += found;
        match last {
            None => return Ok(rewrapped),
            last => after = last,
        }
    }
}

pub(super) async fn instance_keys(keyring: &Keyring, rows: &dyn WrappedRows) -> Result<u64, SubjectsError> {
    let mut replacements = Vec::new();
    for key in rows.instance_keys().await? {
        replacements.extend(keyring.instance_key_anew(key).await?);
    }
    let found = replacements.len() as u64;
    rows.replace_instance_keys(replacements).await?;
    Ok(found)
}

async fn keys_of_secrets(keyring: &Keyring, rows: &dyn WrappedRows) -> Result<u64, SubjectsError> {
    let mut replacements = Vec::new();
    for (id, wrapped) in rows.wrapped_keys_of_secrets().await? {
        replacements.extend(keyring.secret_key_anew(id, wrapped).await?);
    }
    let found = replacements.len() as u64;
    rows.replace_keys_of_secrets(replacements).await?;
    Ok(found)
}

/// Looks at the rows behind `after`; answers how many it wrapped anew, and the last one unless there are no more.
pub(super) async fn page(
    keyring: &Keyring,
    rows: &dyn WrappedRows,
    after: Option<Uuid>,
) -> Result<(u64, Option<Uuid>), SubjectsError> {
    let page = rows.wrapped_page(after, PAGE_ROWS_MAX).await?;
    let last = page.last().map(|(id, _)| *id);
    let mut replacements = Vec::new();
    for (id, wrapped) in page {
        replacements.extend(keyring.key_anew(id, wrapped).await?);
    }
    let found = replacements.len() as u64;
    rows.replace_wrapped(replacements).await?;
    Ok((found, last))
}
