//! The writer's side: tells the cache what was committed. Never fails for its caller, who has committed already.
use marvin_domain::Position;
use std::sync::Arc;
use tracing::debug;

use super::{BODY_BYTES_MAX, Cache, CacheError, Entry, TableKey, Tenure};

/// What one put carries at most, so that neither it nor what queues behind it is late. A larger batch comes while a view catches
/// up; a new generation costs less then than to put what was changed.
const PUT_ENTRIES_MAX: usize = 1_000;
const PUT_BYTES_MAX: usize = 1024 * 1024;

/// One a table and tenure of its duty. Dropped in the middle of a call, or with the process, it leaves a head that expires.
pub struct Publisher {
    cache: Arc<dyn Cache>,
    table: TableKey,
    token: u64,
    /// None until begun, and after anything but a success.
    tenure: Option<Tenure>,
}

impl Publisher {
    /// `token` is the one that the duty was taken with.
    pub fn new(cache: Arc<dyn Cache>, table: TableKey, token: u64) -> Self {
        Self { cache, table, token, tenure: None }
    }

    /// Tells that the table reflects every event up to `position`, and the documents that changed since this was told last.
    ///
    /// To be called once with no entries after the duty was taken and before anything is committed; from then on after each commit
    /// that demanded the token; and with no entries after each renewal of the duty without a commit, which is once a second. Not
    /// after a renewal that failed.
    pub async fn publish(&mut self, entries: &[Entry], position: Position) {
        // What is larger is not sent, only that it changed.
        let sizes = entries.iter().map(|entry| entry.body.len()).filter(|bytes| *bytes <= BODY_BYTES_MAX);
        let bytes: usize = sizes.sum();
        // Taken, not borrowed: a call that is given up in the middle leaves none.
        match self.tenure.take() {
            // One that lost its head begins with the next commit or sign of life: who waits for a batch waits for one call.
            Some(tenure) if entries.len() <= PUT_ENTRIES_MAX && bytes <= PUT_BYTES_MAX => {
                let put = self.cache.put(&self.table, &tenure, entries, position).await;
                self.hold(put);
            }
            _ => self.begin(position).await,
        }
    }

    /// As [`publish`](Self::publish) does, where what changed is too much to tell, or was not told: in a new generation there is
    /// nothing old. Whoever does not tell of a commit tells nothing at all until this.
    pub async fn begin(&mut self, position: Position) {
        self.tenure = None;
        let begun = self.cache.begin(&self.table, self.token, position).await;
        self.hold(begun);
    }

    fn hold(&mut self, published: Result<Tenure, CacheError>) {
        match published {
            Ok(tenure) => self.tenure = Some(tenure),
            // Counted and told where it was found out.
            Err(error) => debug!(table = %self.table.name, %error, "the cache was not written to"),
        }
    }
}
