//! What this process knows of the tables: which one answers for each view, and how far that is. The registry tells it once a
//! second and whenever somebody waits; a projector that runs here tells it at once.
use marvin_domain::Position;
use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, watch};
use tracing::warn;

use super::{
    State, Stopped, Table, TableRow, ViewError, ViewId, ViewStore,
    due::{self, Heads},
};
use crate::health::Health;

/// Between two looks into the registry while nobody waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks while the start waits for tables.
const FIRST_LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Between two notes in the registry that this process reads its tables: a table is dropped a day after the last one.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);

/// The table that answers, and every event up to `position` is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    pub table: Arc<Table>,
    pub position: Position,
}

/// One view, as it stands.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub serving: Option<Serving>,
    /// What takes its place once it is as far: what was read is not unread by a switch.
    next: Option<Serving>,
    /// The table of this version that is being filled, also where it stands still; or that somebody called off in favour of an
    /// older version, so that this stays known.
    unread: Option<Table>,
    /// How far the table is that is being filled, and where it is to get.
    pub building: Option<(Position, Position)>,
    /// Whether the projector of the view's own version runs in this process.
    is_local: bool,
}

pub struct Board {
    store: Arc<dyn ViewStore>,
    views: HashMap<&'static str, (ViewId, watch::Sender<Seen>)>,
    /// When the registry was read last. Held while it is read: who waits for that needs no look of its own.
    looked: Mutex<Option<Instant>>,
    /// What every view should reflect by now.
    due: AtomicU64,
    /// Whether the registry knows by now that this process is there.
    has_noted: AtomicBool,
    health: Health,
}

impl Board {
    pub fn new(store: Arc<dyn ViewStore>, views: impl IntoIterator<Item = ViewId>, health: Health) -> Arc<Self> {
        let views = views.into_iter().map(|view| (view.name, (view, watch::Sender::default()))).collect();
        Arc::new(Self {
            store,
            views,
            looked: Mutex::default(),
            due: AtomicU64::new(0),
            has_noted: AtomicBool::new(false),
            health,
        })
    }

    /// Looks into the registry until the process ends, and says what is far behind `head`, the log's end. Runs once per process.
    pub async fn run(self: Arc<Self>, head: watch::Receiver<Position>) {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        let mut heads = Heads::default();
        let mut noted: Option<Instant> = None;
        loop {
            tick.tick().await;
            self.due.store(heads.see(*head.borrow(), Instant::now()), Relaxed);
            let looked = self.look_within(LOOK_INTERVAL / 2).await;
            if looked.is_ok() && noted.is_none_or(|noted| noted.elapsed() >= NOTE_INTERVAL) {
                match self.store.read_by_now(&self.tables()).await {
                    Ok(()) => {
                        noted = Some(Instant::now());
                        self.has_noted.store(true, Relaxed);
                    }
                    Err(error) => warn!(error = %error, "the views in use could not be noted"),
                }
            }
        }
    }

    /// Waits until every view has a table that answers, at most `patience`.
    pub async fn first_look(&self, patience: Duration) {
        let all = async {
            for (name, _) in self.views.iter() {
                let mut seen = self.watch(name);
                loop {
                    if seen.borrow_and_update().serving.is_some() {
                        break;
                    }
                    tokio::time::timeout(FIRST_LOOK_PAUSE, seen.changed()).await.ok();
                    self.look_within(FIRST_LOOK_PAUSE).await.ok();
                }
            }
        };
        tokio::time::timeout(patience, all).await.ok();
    }

    /// Reads the registry, unless that was done within `age`.
    ///
    /// # Errors
    /// `Unavailable`; what was known stays.
    pub async fn look_within(&self, age: Duration) -> Result<(), ViewError> {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|looked| looked.elapsed() < age) {
            return Ok(());
        }
        self.show(&self.store.tables().await?);
        *looked = Some(Instant::now());
        Ok(())
    }

    /// Takes over what the registry says. Positions of a table only grow.
    pub fn show(&self, rows: &[TableRow]) {
        for (view, seen) in self.views.values() {
            self.tell(*view, rows);
            let serving = choose(*view, rows);
            let building = rows.iter().find(|row| row.state == State::Building && row.table.is_of(*view));
            let unread = building.or_else(|| called_off(*view, rows)).map(|row| row.table.clone());
            let building = building.map(|row| (row.checkpoint.position, row.target));
            seen.send_if_modified(|seen| {
                seen.unread = unread;
                let before = (seen.serving.take(), seen.next.take(), mem::replace(&mut seen.building, building));
                let known = [&before.0, &before.1];
                seen.serving = before.0.as_ref().and_then(|serving| {
                    let row = rows.iter().find(|row| row.table == *serving.table)?;
                    Some(serving_of(row, known))
                });
                seen.next = serving.map(|row| serving_of(row, known));
                seen.promote();
                before != (seen.serving.clone(), seen.next.clone(), seen.building)
            });
        }
    }

    /// Says of the tables of the view's own version whether they stand still, whichever process keeps them up, and of the one that
    /// answers whether it is far behind. The first table of all is no rebuild.
    fn tell(&self, view: ViewId, rows: &[TableRow]) {
        let own = |state| rows.iter().rfind(|row| row.state == state && row.table.is_of(view));
        let (live, building) = (own(State::Live), own(State::Building));
        let stop = |row: Option<&TableRow>| {
            let Stopped { position, reason } = row?.stopped.as_ref()?;
            Some((*position, format!("stopped at position {position}: {reason}")))
        };
        let projection = stop(live.or(building)).or_else(|| self.lateness(view, rows));
        for (what, told) in [("projection", projection), ("rebuild", stop(live.and(building)))] {
            let part = format!("{what}:{}", view.name);
            match told {
                Some((position, reason)) => self.health.degrade(&part, reason, Some(position)),
                None => self.health.recover(&part),
            }
        }
    }

    /// How far the table is that answers, and in words that it should be farther.
    fn lateness(&self, view: ViewId, rows: &[TableRow]) -> Option<(Position, String)> {
        let (serving, due) = (choose(view, rows)?, self.due.load(Relaxed));
        let position = serving.checkpoint.position;
        if position >= due {
            return None;
        }
        let (answers, wanted) = (serving.table.version, view.version);
        let which = if answers == wanted {
            String::new()
        } else if called_off(view, rows).is_some() {
            format!("version {answers} answers, since version {wanted} was called off; ")
        } else {
            format!("version {answers} answers until version {wanted} is built; ")
        };
        let patience_s = due::PATIENCE.as_secs();
        Some((position, format!("{which}behind: position {due} was there {patience_s} s ago, and is not in it yet")))
    }

    /// A projector of this process has committed up to `position`.
    pub fn reached(&self, table: &Table, position: Position) {
        let Some((_, seen)) = self.views.get(table.name.as_str()) else { return };
        seen.send_if_modified(|seen| {
            let mut moved = false;
            for known in [&mut seen.serving, &mut seen.next].into_iter().flatten() {
                if *known.table == *table && position > known.position {
                    (known.position, moved) = (position, true);
                }
            }
            seen.promote();
            moved
        });
    }

    /// Whether this process has said what it reads. Before that, all may seem unread though only nobody was there.
    pub fn has_noted(&self) -> bool {
        self.has_noted.load(Relaxed)
    }

    /// Whether readers of this process are given the table or may be one day, or this process goes by its having been called off.
    pub fn uses(&self, table: &Table) -> bool {
        self.views.get(table.name.as_str()).is_some_and(|(_, seen)| {
            let seen = seen.borrow();
            let is_read = [&seen.serving, &seen.next].into_iter().flatten().any(|known| *known.table == *table);
            is_read || seen.unread.as_ref() == Some(table)
        })
    }

    /// Whether the view's projector runs in this process from now on.
    pub fn set_local(&self, name: &str, is_local: bool) {
        if let Some((_, seen)) = self.views.get(name) {
            seen.send_modify(|seen| seen.is_local = is_local);
        }
    }

    /// The view of a registered projection, and every change of it.
    pub fn watch(&self, name: &str) -> watch::Receiver<Seen> {
        self.views.get(name).expect("every registered projection has a view").1.subscribe()
    }

    /// How far each view is, by name.
    pub fn positions(&self) -> Vec<(&'static str, Position)> {
        let position = |seen: &Seen| seen.serving.as_ref().map_or(0, |serving| serving.position);
        let mut all: Vec<_> = self.views.iter().map(|(name, (_, seen))| (*name, position(&seen.borrow()))).collect();
        all.sort_unstable();
        all
    }

    /// Those that this process cannot do without.
    fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::with_capacity(self.views.len());
        for (_, seen) in self.views.values() {
            let seen = seen.borrow();
            tables.extend(seen.serving.as_ref().map(|serving| (*serving.table).clone()));
            tables.extend(seen.unread.clone());
        }
        tables
    }
}

impl Seen {
    /// Whether the table that answers is kept up in this process, which then needs no look into the registry to know how far it is.
    pub fn is_followed_here(&self, version: u32) -> bool {
        self.is_local && self.serving.as_ref().is_some_and(|serving| serving.table.version == version)
    }

    fn promote(&mut self) {
        let reached = self.serving.as_ref().map_or(0, |serving| serving.position);
        if let Some(next) = self.next.take_if(|next| next.position >= reached) {
            self.serving = Some(next);
        }
    }
}

/// A table as far as it is known to be.
fn serving_of(row: &TableRow, known: [&Option<Serving>; 2]) -> Serving {
    match known.into_iter().flatten().find(|known| *known.table == row.table) {
        Some(known) => Serving { table: known.table.clone(), position: known.position.max(row.checkpoint.position) },
        None => Serving { table: Arc::new(row.table.clone()), position: row.checkpoint.position },
    }
}

/// The live table of the view's own version, or else of the highest one below: an older program's documents are better than none
/// while this one's are being built.
pub(super) fn choose(view: ViewId, rows: &[TableRow]) -> Option<&TableRow> {
    let live = rows.iter().filter(|row| row.state == State::Live && row.table.name == view.name);
    live.filter(|row| row.table.version <= view.version).max_by_key(|row| (row.table.version, row.table.build))
}

/// The table of the view's own version whose filling somebody called off, where one of an older version answers in its stead.
pub(super) fn called_off(view: ViewId, rows: &[TableRow]) -> Option<&TableRow> {
    let mut own = rows.iter().filter(|row| row.table.is_of(view));
    if own.clone().any(|row| row.state.is_kept_up()) || choose(view, rows).is_none() {
        return None;
    }
    own.rfind(|row| row.state == State::Cancelled)
}
