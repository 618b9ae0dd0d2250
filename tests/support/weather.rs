//! A view store that fails, waits or changes where a test says so.
#![allow(dead_code)]
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use marvin::{
    log::checkpoint::Checkpoint,
    store::StoreError,
    views::{Found, ListQuery, Page, SealedDocument, Stopped, Table, TableRow, ViewError, ViewId, ViewStore},
};
use marvin_domain::Position;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};
use tokio::sync::watch;
use uuid::Uuid;

/// What happens once, as soon as it is asked for.
#[derive(Default)]
pub struct Meanwhile(Mutex<Option<BoxFuture<'static, ()>>>);

impl Meanwhile {
    pub fn set(&self, happens: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::pin(happens));
    }

    async fn happen(&self) {
        let happens = self.0.lock().unwrap().take();
        if let Some(happens) = happens {
            happens.await;
        }
    }
}

pub struct Weather {
    pub inner: Arc<dyn ViewStore>,
    /// The next write fails, before or after it took place: the two halves of a crash.
    pub crash_before: AtomicBool,
    pub crash_after: AtomicBool,
    /// No table becomes live.
    pub holds_switch: AtomicBool,
    /// So many notes that a table stopped fail.
    pub lost_stops: AtomicUsize,
    /// Documents and checkpoints of this table's version and build wait.
    pub holds_writes: watch::Sender<Option<(u32, u32)>>,
    /// No table is dropped: whoever tries waits.
    pub holds_drops: watch::Sender<bool>,
    /// Drops that were begun.
    pub drops: AtomicUsize,
    /// Nobody can say what they read.
    pub loses_notes: AtomicBool,
    /// Writes that were taken.
    pub writes: AtomicUsize,
    /// Happens between the first page of a list and the next.
    pub between_pages: Meanwhile,
    /// Happens before documents are loaded.
    pub before_load: Meanwhile,
    /// Bytes of documents that one query loaded, at most.
    pub loaded_bytes: AtomicUsize,
}

fn away() -> ViewError {
    ViewError::Unavailable(StoreError::Closed)
}

impl Weather {
    pub fn over(inner: Arc<dyn ViewStore>) -> Self {
        Self {
            inner,
            crash_before: AtomicBool::new(false),
            crash_after: AtomicBool::new(false),
            holds_switch: AtomicBool::new(false),
            lost_stops: AtomicUsize::new(0),
            holds_writes: watch::Sender::default(),
            holds_drops: watch::Sender::default(),
            drops: AtomicUsize::new(0),
            loses_notes: AtomicBool::new(false),
            writes: AtomicUsize::new(0),
            between_pages: Meanwhile::default(),
            before_load: Meanwhile::default(),
            loaded_bytes: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl ViewStore for Weather {
    async fn tables(&self) -> Result<Vec<TableRow>, ViewError> {
        self.inner.tables().await
    }
    async fn begin(&self, view: ViewId, target: Position) -> Result<TableRow, ViewError> {
        self.inner.begin(view, target).await
    }
    async fn take_over(&self, table: &Table, token: u64) -> Result<Checkpoint, ViewError> {
        self.inner.take_over(table, token).await
    }
    async fn load(&self, table: &Table, ids: &[Uuid]) -> Result<Page, ViewError> {
        self.before_load.happen().await;
        let page = self.inner.load(table, ids).await?;
        self.loaded_bytes.fetch_max(page.documents.iter().map(|document| document.body.len()).sum(), SeqCst);
        Ok(page)
    }
    async fn store_behind(
        &self,
        table: &Table,
        documents: Vec<SealedDocument>,
        behind: Option<Position>,
        checkpoint: Checkpoint,
        token: u64,
    ) -> Result<(), ViewError> {
        if self.crash_before.swap(false, SeqCst) {
            return Err(away());
        }
        let held = Some((table.version, table.build));
        self.holds_writes.subscribe().wait_for(|held_back| *held_back != held).await.unwrap();
        self.inner.store_behind(table, documents, behind, checkpoint, token).await?;
        self.writes.fetch_add(1, SeqCst);
        if self.crash_after.swap(false, SeqCst) { Err(away()) } else { Ok(()) }
    }
    async fn list(&self, table: &Table, query: ListQuery) -> Result<Page, ViewError> {
        if query.before.is_some() {
            self.between_pages.happen().await;
        }
        self.inner.list(table, query).await
    }
    async fn find(&self, table: &Table, query: ListQuery) -> Result<Vec<Found>, ViewError> {
        self.inner.find(table, query).await
    }
    async fn make_live(&self, table: &Table, token: u64) -> Result<(), ViewError> {
        if self.holds_switch.load(SeqCst) {
            return Err(away());
        }
        self.inner.make_live(table, token).await
    }
    async fn stop(&self, table: &Table, token: u64, stopped: Stopped) -> Result<(), ViewError> {
        if self.lost_stops.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(away());
        }
        self.inner.stop(table, token, stopped).await
    }
    async fn resume(&self, table: &Table) -> Result<(), ViewError> {
        self.inner.resume(table).await
    }
    async fn cancel(&self, table: &Table) -> Result<(), ViewError> {
        self.inner.cancel(table).await
    }
    async fn retire(&self, table: &Table) -> Result<(), ViewError> {
        self.inner.retire(table).await
    }
    async fn lost_indexes(&self, table: &Table) -> Result<u64, ViewError> {
        self.inner.lost_indexes(table).await
    }
    async fn drop_table(&self, table: &Table) -> Result<(), ViewError> {
        self.drops.fetch_add(1, SeqCst);
        self.holds_drops.subscribe().wait_for(|is_held| !is_held).await.unwrap();
        self.inner.drop_table(table).await
    }
    async fn read_by_now(&self, tables: &[Table]) -> Result<(), ViewError> {
        if self.loses_notes.load(SeqCst) {
            return Err(away());
        }
        self.inner.read_by_now(tables).await
    }
    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
