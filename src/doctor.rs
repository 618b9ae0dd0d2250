//! Examines stores that are open, also while they serve: which log they tell, and whether every document that people read is what
//! a replay of that log gives. Changes nothing in them.
//!
//! A replay goes into a file that is thrown away, so this names the adapter that owns it. One comparison runs at a time.
use chrono::{DateTime, Utc};
use marvin_domain::Position;
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, oneshot, watch},
    task::{JoinError, spawn_blocking},
};
use tracing::info;
use uuid::Uuid;

use crate::{
    dispatch::Dispatcher,
    health::bounded,
    log::{
        EventLog,
        codec::Codec,
        incarnation::{Incarnation, Incarnations},
    },
    security::sealer::Sealer,
    sqlite::OpenError,
    store::StoreError,
    views::{
        Stopped, ViewError, ViewStore,
        documents::Documents,
        equality::{CompareError, Comparer, Comparison, Findings},
        sqlite::SqliteViews,
    },
};

#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("the views are being compared for somebody else: ask again when that is done")]
    Busy,
    /// Nothing is known of any view.
    #[error("the server is being stopped, and the comparison with it: ask again")]
    Stopped,
    #[error("a rebuild replaced a view while it was compared: ask again")]
    Replaced,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Compare(CompareError),
    #[error("there is no room for a replay")]
    Directory(#[from] io::Error),
    #[error("there is no room for a replay")]
    File(#[from] OpenError),
    #[error("it ended before it was done")]
    Ended(#[from] JoinError),
}

impl From<CompareError> for DoctorError {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::View(ViewError::Gone) | CompareError::Live(ViewError::Gone) => Self::Replaced,
            other => Self::Compare(other),
        }
    }
}

/// Which log the stores tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    pub events: Position,
    /// Whether the stores are files, each of which was checked when they were opened.
    pub in_files: bool,
    pub history: Uuid,
    /// The last event that it shares with the history before.
    pub behind: Position,
    pub drawn_at: DateTime<Utc>,
}

/// What a comparison of every view found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Projections of which no table of this version is built yet.
    pub unbuilt: Vec<String>,
    pub views: Vec<ComparedView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedView {
    pub name: String,
    /// How far the view and its replay were.
    pub position: Position,
    pub documents: u64,
    pub findings: Findings,
    pub stopped: Option<Stopped>,
    /// The event that the replay could not take, although the view has come beyond it: the view was not compared.
    pub unreplayed: Option<Stopped>,
    /// Why no document could be read: the table was dropped or changed by hand.
    #[serde(default)]
    pub unreadable: Option<String>,
    /// Indexes that somebody dropped: its lists are right, and slow.
    #[serde(default)]
    pub lost_indexes: u64,
}

/// One is shared by all of the process.
pub struct Doctor {
    log: Arc<dyn EventLog>,
    codec: Codec,
    sealer: Arc<Sealer>,
    views: Arc<dyn ViewStore>,
    incarnations: Arc<dyn Incarnations>,
    in_files: bool,
    turn: Arc<Mutex<()>>,
    stopped: watch::Sender<bool>,
}

impl Doctor {
    pub fn new(
        log: Arc<dyn EventLog>,
        codec: Codec,
        sealer: Arc<Sealer>,
        views: Arc<dyn ViewStore>,
        incarnations: Arc<dyn Incarnations>,
        in_files: bool,
    ) -> Self {
        let (turn, stopped) = (Arc::default(), watch::Sender::default());
        Self { log, codec, sealer, views, incarnations, in_files, turn, stopped }
    }

    /// # Errors
    /// When the log cannot be read.
    pub async fn examine(&self) -> Result<Examination, StoreError> {
        let Incarnation { id, behind, drawn_at } = self.incarnations.newest().await?;
        let events = *self.log.head().borrow();
        Ok(Examination { events, in_files: self.in_files, history: id, behind: behind.position, drawn_at })
    }

    /// Compares every document of every view with one folded from the log alone. Ends early, and leaves nothing behind, when
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// `Busy` while another one is under way; `Stopped` behind [`stop`](Self::stop); else when something cannot be read, or the
    /// replay not be kept. It may be repeated.
    pub async fn compare(self: &Arc<Self>) -> Result<Compared, DoctorError> {
        let turn = self.turn.clone().try_lock_owned().map_err(|_| DoctorError::Busy)?;
        // Dropped with this call.
        let (_waiting, deserted) = oneshot::channel();
        // Apart, so that the turn is not free before the replay is gone.
        tokio::spawn(self.clone().compare_until(turn, deserted)).await?
    }

    /// Ends the comparison that runs, and those to come, and waits until nothing is left of its replay. Call it before the stores
    /// are closed.
    pub async fn stop(&self) {
        self.stopped.send_replace(true);
        drop(self.turn.lock().await);
    }

    async fn compare_until(
        self: Arc<Self>,
        _turn: OwnedMutexGuard<()>,
        deserted: oneshot::Receiver<()>,
    ) -> Result<Compared, DoctorError> {
        let begun = Instant::now();
        let mut stopped = self.stopped.subscribe();
        let fresh = FreshStore::make().await?;
        let compared = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => Err(DoctorError::Stopped),
            _ = deserted => Err(DoctorError::Stopped),
            compared = self.compare_with(fresh.views.clone()) => compared,
        };
        fresh.remove().await;
        tell(&compared, begun.elapsed());
        compared
    }

    async fn compare_with(&self, fresh: Arc<SqliteViews>) -> Result<Compared, DoctorError> {
        let folds = marvin_projections::all();
        let known: Vec<_> = folds.iter().map(|fold| fold.name()).collect();
        let comparer = Comparer {
            log: self.log.clone(),
            codec: self.codec.clone(),
            documents: Documents::new(self.sealer.clone()),
            dispatcher: Dispatcher::new(self.log.clone(), self.codec.clone()),
            live: self.views.clone(),
            fresh,
        };
        let comparisons = comparer.compare(folds).await?;
        let is_built = |name: &str| comparisons.iter().any(|comparison| comparison.table.name == name);
        let unbuilt = known.into_iter().filter(|name| !is_built(name)).map(str::to_owned).collect();
        Ok(Compared { unbuilt, views: comparisons.into_iter().map(ComparedView::from).collect() })
    }
}

fn tell(compared: &Result<Compared, DoctorError>, took: Duration) {
    let duration_ms = took.as_millis() as u64;
    match compared {
        Ok(compared) => {
            let differing: u64 = compared.views.iter().map(|view| view.findings.differing).sum();
            info!(differing, duration_ms, "the views were compared with a replay");
        }
        Err(DoctorError::Stopped) => info!(duration_ms, "a comparison of the views was given up"),
        // Whoever asked is told.
        Err(_) => {}
    }
}

impl From<Comparison> for ComparedView {
    fn from(comparison: Comparison) -> Self {
        let Comparison { table, position, documents, findings, stopped, unreplayed, unreadable, lost_indexes } =
            comparison;
        // Another program may have written it.
        let shortened = |stopped: Stopped| Stopped { reason: bounded(stopped.reason), ..stopped };
        Self {
            name: table.name,
            position,
            documents,
            findings,
            stopped: stopped.map(shortened),
            unreplayed: unreplayed.map(shortened),
            unreadable: unreadable.map(bounded),
            lost_indexes,
        }
    }
}

/// Where a replay goes: in the system's temporary directory, so that it takes no room from the log.
struct FreshStore {
    views: Arc<SqliteViews>,
    /// Dropped behind the file in it.
    directory: TempDir,
}

impl FreshStore {
    async fn make() -> Result<Self, DoctorError> {
        let made = spawn_blocking(|| {
            let directory = tempfile::tempdir()?;
            let views = Arc::new(SqliteViews::open(&directory.path().join("views.db"))?);
            Ok(Self { views, directory })
        });
        made.await?
    }

    async fn remove(self) {
        let Self { views, directory } = self;
        // Finishes what a comparison that was given up had handed in: nothing comes into the directory behind that.
        views.close().await.ok();
        drop(views);
        spawn_blocking(move || directory.close()).await.ok();
    }
}
