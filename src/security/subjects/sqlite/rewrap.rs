//! Wraps every key anew when the key-encryption key is rotated, a page of rows at a time.
use uuid::Uuid;

use super::statements::{self, Replacement};
use super::{SqliteSubjects, all_scrubbed, context, not_unwrapped, open};
use crate::security::subjects::SubjectsError;

/// Rows between which others get their turn: some milliseconds of work.
const PAGE_ROWS_MAX: u32 = 256;

impl SqliteSubjects {
    pub(super) async fn rewrap_all(&self) -> Result<u64, SubjectsError> {
        let mut rewrapped = 0;
        loop {
            // Only a pass over all rows that finds nothing shows that the old key is no longer needed.
            match self.rewrap_pass().await? {
                0 => break,
                found => rewrapped += found,
            }
        }
        // Also when nothing was left to do: a pass before may have been cut short at this very point.
        all_scrubbed(self.run(|connection| statements::scrub(connection)).await?)?;
        Ok(rewrapped)
    }

    async fn rewrap_pass(&self) -> Result<u64, SubjectsError> {
        // These come first: from then on the old key alone is refused at the start, not at the first row it fails to open.
        let mut rewrapped = self.rewrap_instance_keys().await?;
        let mut after = None;
        loop {
            let (found, last) = self.rewrap_page(after).await?;
            rewrapped += found;
            match last {
                None => return Ok(rewrapped),
                last => after = last,
            }
        }
    }

    pub(super) async fn rewrap_instance_keys(&self) -> Result<u64, SubjectsError> {
        let stored = self.run(|connection| statements::instance_keys(connection)).await?;
        let mut replacements = Vec::new();
        for key in stored {
            let which = format!("its {} key", key.name);
            let new = self.wrapped_anew(&open::context(&key.name), &which, &key.wrapped).await?;
            replacements.extend(new.map(|new| Replacement { of: key.name, old: key.wrapped, new }));
        }
        let found = replacements.len() as u64;
        self.run(move |connection| statements::replace_instance_keys(connection, &replacements)).await?;
        Ok(found)
    }

    /// Looks at the rows behind `after`; answers how many it wrapped anew, and the last one unless there are no more.
    pub(super) async fn rewrap_page(&self, after: Option<Uuid>) -> Result<(u64, Option<Uuid>), SubjectsError> {
        let page = self.run(move |connection| statements::wrapped_page(connection, after, PAGE_ROWS_MAX)).await?;
        let last = page.last().map(|(id, _)| *id);
        let mut replacements = Vec::new();
        for (id, wrapped) in page {
            let new = self.wrapped_anew(&context(id), &format!("the key of {id}"), &wrapped).await?;
            replacements.extend(new.map(|new| Replacement { of: id, old: wrapped, new }));
        }
        let found = replacements.len() as u64;
        self.run(move |connection| statements::replace_wrapped(connection, &replacements)).await?;
        Ok((found, last))
    }

    /// The same key under the current key-encryption key; none when it is that already.
    async fn wrapped_anew(
        &self,
        context: &[u8],
        which: &str,
        wrapped: &[u8],
    ) -> Result<Option<Vec<u8>>, SubjectsError> {
        if self.wrap.is_current(wrapped) {
            return Ok(None);
        }
        let failed = |error| not_unwrapped(&self.path, which, error);
        let key = self.wrap.unwrap_key(context, wrapped).await.map_err(failed)?;
        self.wrap.wrap_key(context, &key).await.map(Some).map_err(failed)
    }
}
