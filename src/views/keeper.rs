//! Runs a projection: holds its duty, makes its tables, keeps up the live one and those being built, lets readers have what has
//! caught up, and drops what nobody reads. Knows nothing of documents.
use marvin_domain::Position;
use marvin_projections::{Fold, Skips};
use std::{collections::HashMap, convert::Infallible, mem, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    task::{JoinError, JoinHandle},
};
use tracing::{error, info, warn};

use super::{
    State, Stopped, Table, TableRow, ViewError, ViewId,
    board::called_off,
    dropper::Dropper,
    projector::{Ground, Projector, Told, key, name_of},
    skips::skips,
};
use crate::{
    cache::{Cache, publisher::Publisher},
    dispatch::Dispatcher,
    duty::holder::{Holder, Tenure},
    health::Health,
    log::{
        subscription::{Halted, follow},
        tail::Tail,
    },
};

/// Between two looks at what there is to do; whoever wants something done pokes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same while a table is being built, since readers may wait for it.
const BUILDING_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a panic says may quote what a person wrote, and the reason of a stop is stored in clear.
const PANICKED: &str = "the program panicked at an event behind it; the log of the process says where";

/// What keepers of all projections share.
#[derive(Clone)]
pub struct Parts {
    pub ground: Ground,
    pub tail: Arc<Tail>,
    pub dispatcher: Dispatcher,
    pub cache: Arc<dyn Cache>,
    pub holder: Arc<Holder>,
    pub health: Health,
    /// Somebody asked for a rebuild, or for a stopped projection to go on.
    pub poke: Arc<Notify>,
}

pub struct Keeper {
    fold: Arc<dyn Fold>,
    view: ViewId,
    parts: Parts,
}

/// A projector at work, and what keeps its cache's head alive. Both end with it.
struct Running {
    projector: JoinHandle<Halted>,
    heartbeat: JoinHandle<()>,
    /// What it passes over.
    skips: Skips,
    /// Where it says that it tries again.
    health: Health,
    part: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.projector.abort();
        self.heartbeat.abort();
        // Whether its table stands still, the registry says.
        self.health.recover(&self.part);
    }
}

impl Running {
    /// Ends it, or answers what ended it. Nothing of it runs any more then.
    async fn end(mut self) -> Result<Halted, JoinError> {
        if !self.projector.is_finished() {
            self.projector.abort();
        }
        (&mut self.projector).await
    }
}

/// One tenure of the duty.
struct Watch {
    tenure: Tenure,
    running: HashMap<Table, Running>,
    /// What stopped under an earlier tenure is tried again once: the program may be another one.
    is_first: bool,
    /// A projector is filling a table.
    is_building: bool,
    /// Where the log ended at the look before. What has got there keeps pace, though under load it never stands at the very end.
    head_before: Position,
    dropper: Dropper,
}

impl Keeper {
    pub fn new(fold: Arc<dyn Fold>, parts: Parts) -> Self {
        Self { view: ViewId::of(&*fold), fold, parts }
    }

    /// Keeps the projection until the process ends.
    pub async fn run(self) {
        let duty = format!("projector:{}:{}", self.view.name, self.view.version);
        loop {
            let tenure = self.parts.holder.take(&duty).await;
            let mut lost = tenure.clone();
            let ground = &self.parts.ground;
            let watch = Watch {
                tenure,
                running: HashMap::new(),
                is_first: true,
                is_building: false,
                head_before: Position::MAX,
                dropper: Dropper::new(self.view, ground.store.clone(), ground.board.clone()),
            };
            ground.board.set_local(self.view.name, true);
            tokio::select! {
                () = lost.lost() => warn!(duty, "another process may have this duty now"),
                never = self.keep(watch) => match never {},
            }
            ground.board.set_local(self.view.name, false);
            // How the view is, whoever has the duty says from now on.
            self.parts.health.recover(&self.part());
        }
    }

    async fn keep(&self, mut watch: Watch) -> Infallible {
        let mut failing = false;
        loop {
            // Before the look: what is asked for during it is not missed.
            let poked = self.parts.poke.notified();
            let part = self.part();
            match self.look(&mut watch).await {
                Ok(None) if failing => {
                    self.parts.health.recover(&part);
                    failing = false;
                }
                Ok(None) => {}
                Ok(Some((position, target))) => {
                    let reason = format!("it is being built: position {position} of {target}");
                    self.parts.health.degrade(&part, reason, Some(position));
                    failing = true;
                }
                Err(error) => {
                    warn!(view = self.view.name, error = %error, "a view cannot be kept for now");
                    self.parts.health.degrade(&part, error.to_string(), None);
                    failing = true;
                }
            }
            let pause = if watch.is_building { BUILDING_LOOK_INTERVAL } else { LOOK_INTERVAL };
            tokio::select! {
                () = poked => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does what there is to do. Answers how far the view's first table is, and where it is to get, while there is no other.
    async fn look(&self, watch: &mut Watch) -> Result<Option<(Position, Position)>, ViewError> {
        let store = &*self.parts.ground.store;
        self.note_halts(watch).await?;
        let head = *self.parts.ground.head.borrow();
        let mut rows = store.tables().await?;
        if self.wants_table(&rows) {
            store.begin(self.view, head).await?;
            rows = store.tables().await?;
        }
        watch.dropper.look(&rows);
        let mut mine: Vec<TableRow> = rows.into_iter().filter(|row| row.table.is_of(self.view)).collect();
        self.end_unkept(watch, &mine).await;
        for row in mine.iter_mut().filter(|row| row.state.is_kept_up()) {
            if row.stopped.is_some() && watch.is_first {
                store.resume(&row.table).await?;
                row.stopped = None;
            }
            if row.stopped.is_none() && !watch.running.contains_key(&row.table) {
                let running = self.start(&row.table, &watch.tenure).await?;
                watch.running.insert(row.table.clone(), running);
            }
        }
        watch.is_first = false;
        let enough = mem::replace(&mut watch.head_before, head).min(head);
        let (mut is_live, mut building) = (mine.iter().any(|row| row.state == State::Live), None);
        for row in mine.iter().filter(|row| row.state == State::Building) {
            if row.checkpoint.position >= enough && row.stopped.is_none() {
                if self.is_folded_under_todays_skips(watch, row).await? {
                    self.switch(row, &watch.tenure).await?;
                    is_live = true;
                } else {
                    self.build_anew(watch, row, head).await?;
                }
            } else if row.stopped.is_none() {
                building = Some((row.checkpoint.position, row.target));
            }
        }
        self.parts.ground.board.look_within(LOOK_INTERVAL / 2).await?;
        watch.is_building = building.is_some();
        Ok(building.filter(|_| !is_live))
    }

    /// Whether there is none of this version, nor an older one in whose favour the building of it was called off.
    fn wants_table(&self, rows: &[TableRow]) -> bool {
        let has_one = rows.iter().any(|row| row.table.is_of(self.view) && row.state.is_kept_up());
        !has_one && called_off(self.view, rows).is_none()
    }

    /// Starts a projector for the table, with the events that administrators took out of it by now.
    async fn start(&self, table: &Table, tenure: &Tenure) -> Result<Running, ViewError> {
        let Parts { ground, tail, cache, health, .. } = self.parts.clone();
        ground.store.take_over(table, tenure.token).await?;
        let told = Told::new(Publisher::new(cache, key(table), tenure.token));
        let skips = self.skips().await?;
        let projector =
            Projector::new(self.fold.clone(), table.clone(), tenure.token, skips.clone(), ground, told.clone());
        let mut renewed = tenure.clone();
        let heartbeat = tokio::spawn(async move {
            loop {
                renewed.renewed().await;
                told.lock().await.again().await;
            }
        });
        let projector = tokio::spawn(follow(tail, projector, health.clone()));
        Ok(Running { projector, heartbeat, skips, health, part: name_of(table) })
    }

    /// Writes down which projectors stopped, and why; unless the event was taken out since they began.
    async fn note_halts(&self, watch: &mut Watch) -> Result<(), ViewError> {
        let ended: Vec<Table> =
            watch.running.iter().filter(|(_, it)| it.projector.is_finished()).map(|(table, _)| table.clone()).collect();
        for table in ended {
            // Whatever fails from here on, it is started again, and stops at the same event again.
            let Some(running) = watch.running.remove(&table) else { continue };
            let knew = running.skips.clone();
            let stopped = match running.end().await {
                Ok(Halted { position, reason }) if knew.holds(position) || !self.skips().await?.holds(position) => {
                    Ok(Stopped { position, reason })
                }
                Err(ended) if ended.is_panic() => self.panicked(&table, watch.tenure.token).await,
                _ => continue,
            };
            let noted = async { self.parts.ground.store.stop(&table, watch.tenure.token, stopped?).await };
            match noted.await {
                Ok(()) => self.parts.ground.board.look_within(Duration::ZERO).await?,
                Err(ViewError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Where the table stood when its projector panicked: at which event behind that, nobody knows.
    async fn panicked(&self, table: &Table, token: u64) -> Result<Stopped, ViewError> {
        let position = self.parts.ground.store.take_over(table, token).await?.position;
        error!(table = %table, position, "a projector panicked, and is not started again by itself");
        Ok(Stopped { position, reason: PANICKED.to_owned() })
    }

    /// Ends what writes to tables that were retired, cancelled or dropped. It may have found out by itself, and said so.
    async fn end_unkept(&self, watch: &mut Watch, rows: &[TableRow]) {
        let is_kept = |table: &Table| rows.iter().any(|row| row.table == *table && row.state.is_kept_up());
        for (_, running) in watch.running.extract_if(|table, _| !is_kept(table)) {
            running.end().await.ok();
        }
    }

    /// The view's name in `/readyz`.
    fn part(&self) -> String {
        format!("view:{}", self.view.name)
    }

    /// Whether no event was taken out since its projector began: it may have taken one.
    async fn is_folded_under_todays_skips(&self, watch: &Watch, row: &TableRow) -> Result<bool, ViewError> {
        let skips = self.skips().await?;
        Ok(watch.running.get(&row.table).is_some_and(|running| running.skips == skips))
    }

    async fn build_anew(&self, watch: &mut Watch, row: &TableRow, head: Position) -> Result<(), ViewError> {
        if let Some(running) = watch.running.remove(&row.table) {
            running.end().await.ok();
        }
        warn!(table = %row.table, "an event was taken out while it was built: it is built anew");
        let store = &*self.parts.ground.store;
        store.retire(&row.table).await?;
        store.begin(self.view, head).await?;
        Ok(())
    }

    /// Lets readers have what has caught up.
    async fn switch(&self, row: &TableRow, tenure: &Tenure) -> Result<(), ViewError> {
        self.parts.ground.store.make_live(&row.table, tenure.token).await?;
        info!(table = %row.table, position = row.checkpoint.position, "a view was built, and is read from now on");
        self.parts.ground.board.look_within(Duration::ZERO).await
    }

    /// The events that administrators took out of this version of the projection.
    async fn skips(&self) -> Result<Skips, ViewError> {
        skips(&*self.fold, &self.parts.dispatcher, &self.parts.tail).await.map_err(ViewError::of_log)
    }
}
