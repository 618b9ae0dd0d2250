//! Drops the tables that nobody reads any more, beside all else that a keeper does: that may wait for whoever has one, or take minutes.
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use tracing::{info, warn};

use super::{State, Table, TableRow, ViewError, ViewId, ViewStore, board::Board};

/// A table that nobody has read for so long is dropped: time to see that the one in its place is right.
const UNREAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// After a drop that failed. Long against the 3 s that one waits for a lock: whoever has a table for an hour, as `pg_dump` may, costs
/// neither a connection nor a line each second.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// How old what this process knows of the registry may be when it drops something.
const KNOWN_FOR_MAX: Duration = Duration::from_millis(500);

/// What drops the tables of one projection. It ends with its owner; what it had not finished is found again.
pub(super) struct Dropper {
    view: ViewId,
    store: Arc<dyn ViewStore>,
    board: Arc<Board>,
    /// One at a time. Answers those that could not be dropped.
    under_way: JoinSet<Vec<Table>>,
    /// Of these the registry may say nothing any more, and they take up room all the same.
    left: Vec<Table>,
}

impl Dropper {
    pub fn new(view: ViewId, store: Arc<dyn ViewStore>, board: Arc<Board>) -> Self {
        Self { view, store, board, under_way: JoinSet::new(), left: Vec::new() }
    }

    /// Has what nobody reads dropped. Waits for nothing; what fails is tried again later.
    pub fn look(&mut self, rows: &[TableRow]) {
        while let Some(ended) = self.under_way.try_join_next() {
            self.left = ended.unwrap_or_default();
        }
        if !self.under_way.is_empty() || !self.board.has_noted() {
            return;
        }
        let unread = rows.iter().filter(|row| is_unread(self.view, row) && !self.board.uses(&row.table));
        let hidden = self.left.extract_if(.., |left| !rows.iter().any(|row| row.table == *left));
        let unread: Vec<Table> = unread.map(|row| row.table.clone()).chain(hidden).collect();
        if !unread.is_empty() {
            self.under_way.spawn(drop_all(self.view, self.store.clone(), self.board.clone(), unread));
        }
    }
}

/// Tables of other versions are for the programs that they are of, and those say that they read them.
fn is_unread(view: ViewId, row: &TableRow) -> bool {
    let is_droppable = match row.state {
        State::Retired | State::Cancelled => true,
        State::Live | State::Building => !row.table.is_of(view),
    };
    row.table.name == view.name && row.unread_for >= UNREAD_MAX && is_droppable
}

async fn drop_all(view: ViewId, store: Arc<dyn ViewStore>, board: Arc<Board>, tables: Vec<Table>) -> Vec<Table> {
    let mut left = Vec::new();
    for table in tables {
        let begun = Instant::now();
        match drop_unread(view, &*store, &board, &table).await {
            Ok(true) => {
                let duration_ms = begun.elapsed().as_millis() as u64;
                info!(table = %table, duration_ms, "a view that nobody reads any more was dropped");
            }
            Ok(false) => {}
            Err(error) => {
                warn!(table = %table, error = %error, "a view that nobody reads any more could not be dropped for now");
                left.push(table);
            }
        }
    }
    if !left.is_empty() {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    left
}

/// Answers whether it did: while others were dropped, somebody may have begun to read the table, or gone on filling it.
async fn drop_unread(view: ViewId, store: &dyn ViewStore, board: &Board, table: &Table) -> Result<bool, ViewError> {
    // Says that somebody is there, before anything is made of how long nobody was.
    store.read_by_now(&[]).await?;
    let rows = store.tables().await?;
    board.look_within(KNOWN_FOR_MAX).await?;
    let is_read = rows.iter().any(|row| row.table == *table && !is_unread(view, row));
    // What this process needs, it may not have said yet.
    if is_read || board.uses(table) {
        return Ok(false);
    }
    store.drop_table(table).await?;
    Ok(true)
}
