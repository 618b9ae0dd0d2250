//! What administrators see of projections, and what they do to them: rebuild, call that off, resume, pass over an event.
//!
//! Writes to the registry and the log only. Whoever keeps the tables up finds it there within a second, and is woken if it runs
//! in this process.
use marvin_domain::{
    Position,
    projection::{ProjectionCommand, Reason},
};
use marvin_projections::Fold;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{State, Stopped, Table, TableRow, ViewError, ViewId, ViewStore, board::choose, pace::Paces};
use crate::{
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    duty::{Duties, Held},
    log::{ReadError, Receipt, tail::Tail},
};

/// A projection as it stands, over all of its tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub name: String,
    /// This program's.
    pub version: u32,
    /// Of the table that readers read: lower than `version` until the first table of that is built; none while there is nothing
    /// to read.
    pub serving_version: Option<u32>,
    /// The live table of this program's version.
    pub build: Option<u32>,
    /// The last event that readers find in it; while there is nothing to read, the last one in the table that is being filled.
    pub position: Position,
    /// Events behind that position.
    pub lag: u64,
    pub state: Condition,
    /// The process that does the work; none when nobody does.
    pub holder: Option<Uuid>,
    /// Of the table that readers read, or else of the one that is being filled.
    pub stopped: Option<Stopped>,
    /// The table that is being filled.
    pub rebuild: Option<Rebuild>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Readers are answered from a table of this program's version, which is kept up.
    Live,
    /// There is no table of this version yet. Readers are answered from one of an older version, where there is one.
    Building,
    /// At least one of its tables met an event that it cannot take.
    Stopped,
}

/// How a table comes along that is being filled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rebuild {
    pub build: u32,
    pub position: Position,
    /// Where the log ends: there the table becomes the one that readers read.
    pub target: Position,
    /// As seen from this process in the last half minute; none for the first second.
    pub events_per_s: Option<f64>,
    /// At that rate. None when it does not move.
    pub seconds_left: Option<u64>,
    pub stopped: Option<Stopped>,
}

/// Why an administrator's request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("there is no projection of this name")]
    Unknown,
    /// The projection is in no state for this; nothing was changed.
    #[error("{0}")]
    Conflict(&'static str),
    /// Whether something was changed is unknown. All of this may be repeated.
    #[error(transparent)]
    View(#[from] ViewError),
    /// As [`DispatchError`] says.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
}

/// One is shared by all of the process.
pub struct Projections {
    store: Arc<dyn ViewStore>,
    duties: Arc<dyn Duties>,
    dispatcher: Dispatcher,
    views: Vec<ViewId>,
    tail: Arc<Tail>,
    poke: Arc<Notify>,
    paces: Paces,
}

impl Projections {
    /// `tail` is where the tables are kept up from. `poke` wakes those who keep them up, wherever they wait for it.
    pub fn new(
        store: Arc<dyn ViewStore>,
        duties: Arc<dyn Duties>,
        dispatcher: Dispatcher,
        folds: &[Arc<dyn Fold>],
        tail: Arc<Tail>,
        poke: Arc<Notify>,
    ) -> Self {
        let views = folds.iter().map(|fold| ViewId::of(&**fold)).collect();
        Self { store, duties, dispatcher, views, tail, poke, paces: Paces::default() }
    }

    /// Every projection, in the order of their registration.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn all(&self) -> Result<Vec<Standing>, ViewError> {
        // The log's end is read last, so that a table seldom is ahead of it.
        let (rows, held) = (self.store.tables().await?, self.duties.held().await?);
        let head = self.tail.log_end();
        self.paces.see(rows.iter().filter(|row| row.state == State::Building), Instant::now());
        Ok(self.views.iter().map(|view| self.standing(*view, &rows, &held, head)).collect())
    }

    /// # Errors
    /// `Unknown`, or that of [`all`](Self::all).
    pub async fn one(&self, name: &str) -> Result<Standing, AdminError> {
        self.view(name)?;
        let standing = self.all().await?.into_iter().find(|standing| standing.name == name);
        standing.ok_or(AdminError::Unknown)
    }

    /// Has the projection built anew beside what serves. Where that is under way already, it goes on; one that was called off
    /// goes on from where it was, and from the event that it stopped at.
    ///
    /// # Errors
    /// `Unknown` or `View`.
    pub async fn rebuild(&self, name: &str) -> Result<Standing, AdminError> {
        let view = self.view(name)?;
        let (before, head) = (self.own(view).await?, self.tail.log_end());
        let begun = self.store.begin(view, head).await?;
        let was_called_off = before.iter().any(|row| row.table == begun.table && row.state == State::Cancelled);
        if was_called_off && begun.stopped.is_some() {
            self.resume_tables([&begun.table]).await?;
        }
        self.poke.notify_waiters();
        self.one(name).await
    }

    /// Calls a rebuild off. Its table stays for a while, so that the next rebuild goes on from there.
    ///
    /// # Errors
    /// `Conflict` when nothing is being rebuilt, or when readers would be left without any table; `Unknown` or `View`.
    pub async fn cancel(&self, name: &str) -> Result<Standing, AdminError> {
        let view = self.view(name)?;
        let rows = self.store.tables().await?;
        let building = rows.iter().find(|row| row.table.is_of(view) && row.state == State::Building);
        let building = building.ok_or(AdminError::Conflict("nothing is being rebuilt"))?;
        if choose(view, &rows).is_none() {
            return Err(AdminError::Conflict("there is no other table that could answer: it is the first one"));
        }
        match self.store.cancel(&building.table).await {
            Err(ViewError::Gone) => return Err(AdminError::Conflict("the rebuild has ended by now")),
            cancelled => cancelled?,
        }
        self.poke.notify_waiters();
        self.one(name).await
    }

    /// Has a projection that stopped try the same event again: its cause may be gone.
    ///
    /// # Errors
    /// `Conflict` when it is not stopped; `Unknown` or `View`.
    pub async fn resume(&self, name: &str) -> Result<Standing, AdminError> {
        let view = self.view(name)?;
        let stopped = self.stopped(view, |_| true).await?;
        if stopped.is_empty() {
            return Err(AdminError::Conflict("the projection is not stopped"));
        }
        self.resume_tables(stopped.iter().map(|row| &row.table)).await?;
        self.one(name).await
    }

    /// Takes the event at which the projection is stopped out of it, for good: a rebuild passes over it as well. The log keeps
    /// the reason, in the words of the administrator.
    ///
    /// Repeated under its command id it answers its first result, and does what a crash had left undone.
    ///
    /// # Errors
    /// `Conflict` unless a table of this version is stopped at that very event, while a rebuild is not, and when the event cannot even
    /// be read or is in the table;
    /// `Unknown`, `View` or `Dispatch`.
    pub async fn skip(
        &self,
        meta: &CommandMeta,
        administrator: Uuid,
        name: &str,
        position: Position,
        reason: String,
    ) -> Result<Receipt, AdminError> {
        let view = self.view(name)?;
        let stopped = self.stopped(view, |stopped| stopped.position == position).await?;
        if stopped.is_empty() {
            let first = self.dispatcher.first_result(meta).await?;
            return first.ok_or(AdminError::Conflict("the projection is not stopped at this position"));
        }
        if stopped.iter().all(|row| row.checkpoint.position >= position) {
            return Err(AdminError::Conflict("this event is in the table already: nobody knows which one stopped it"));
        }
        // It knows of no skip until it begins again, and what it makes takes the place of what is stopped.
        let own = self.own(view).await?;
        let goes_on = |row: &TableRow| row.state == State::Building && !stopped.iter().any(|it| it.table == row.table);
        if own.iter().any(goes_on) {
            return Err(AdminError::Conflict(
                "a rebuild is under way that may well take this event: call it off first",
            ));
        }
        match self.tail.read(position.saturating_sub(1), 1).await {
            Err(ReadError::Corrupt { .. }) => {
                return Err(AdminError::Conflict("nobody can read this event, so passing over it would not help"));
            }
            read => read.map_err(DispatchError::from)?,
        };
        let (name, version, reason) = (view.name.to_owned(), view.version, Reason { reason });
        let skip = ProjectionCommand::Skip { name, version, position, administrator, reason };
        let receipt = self.dispatcher.dispatch(meta, &[skip.directed()]).await?;
        // A rebuild would go on from there.
        for row in own.iter().filter(|row| row.state == State::Cancelled && row.checkpoint.position >= position) {
            match self.store.retire(&row.table).await {
                Err(ViewError::Gone) => {}
                retired => retired?,
            }
        }
        // Only now: whoever goes on has to find the skip in the log.
        self.resume_tables(stopped.iter().map(|row| &row.table)).await?;
        Ok(receipt)
    }

    fn view(&self, name: &str) -> Result<ViewId, AdminError> {
        self.views.iter().copied().find(|view| view.name == name).ok_or(AdminError::Unknown)
    }

    /// The tables of this program's version.
    async fn own(&self, view: ViewId) -> Result<Vec<TableRow>, ViewError> {
        Ok(self.store.tables().await?.into_iter().filter(|row| row.table.is_of(view)).collect())
    }

    /// Those that somebody should be writing to, and that stopped at such an event.
    async fn stopped(&self, view: ViewId, at: impl Fn(&Stopped) -> bool) -> Result<Vec<TableRow>, ViewError> {
        let own = self.own(view).await?.into_iter();
        Ok(own.filter(|row| row.state.is_kept_up() && row.stopped.as_ref().is_some_and(&at)).collect())
    }

    async fn resume_tables(&self, tables: impl IntoIterator<Item = &Table>) -> Result<(), ViewError> {
        for table in tables {
            match self.store.resume(table).await {
                // Dropped meanwhile: nobody waits for it any more.
                Err(ViewError::Gone) => {}
                resumed => resumed?,
            }
        }
        self.poke.notify_waiters();
        Ok(())
    }

    fn standing(&self, view: ViewId, rows: &[TableRow], held: &[Held], head: Position) -> Standing {
        let own = |state| rows.iter().rfind(|row| row.table.is_of(view) && row.state == state);
        let (live, building, serving) = (own(State::Live), own(State::Building), choose(view, rows));
        let stopped = live.and_then(|row| row.stopped.clone());
        let stopped = stopped.or_else(|| building.and_then(|row| row.stopped.clone()));
        let state = match (&stopped, live) {
            (Some(_), _) => Condition::Stopped,
            (None, Some(_)) => Condition::Live,
            (None, None) => Condition::Building,
        };
        let position = serving.or(building).map_or(0, |row| row.checkpoint.position);
        let duty = view.duty();
        Standing {
            name: view.name.to_owned(),
            version: view.version,
            serving_version: serving.map(|row| row.table.version),
            build: live.map(|row| row.table.build),
            position,
            lag: head.saturating_sub(position),
            state,
            holder: held.iter().find(|held| held.duty == duty).map(|held| held.holder),
            stopped,
            rebuild: building.map(|row| self.progress(row, head)),
        }
    }

    fn progress(&self, row: &TableRow, head: Position) -> Rebuild {
        let position = row.checkpoint.position;
        let target = row.target.max(head);
        let events_per_s = self.paces.of(&row.table);
        let pace = events_per_s.filter(|pace| *pace > 0.0);
        let seconds_left = pace.map(|pace| (target.saturating_sub(position) as f64 / pace).ceil() as u64);
        Rebuild { build: row.table.build, position, target, events_per_s, seconds_left, stopped: row.stopped.clone() }
    }
}
