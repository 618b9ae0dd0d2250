//! Every registered projection at work on tables of its own, as a server runs them.
use futures_util::future::join_all;
use marvin::{
    cache::{Cache, memory::MemoryCache, publisher::Publisher},
    health::Health,
    log::{EventLog, checkpoint::Checkpoint, subscription::follow, tail::Tail},
    views::{
        ListQuery, Order, PAGE_DOCUMENTS_MAX, Table, ViewId, ViewStore,
        board::Board,
        documents::Documents,
        projector::{Ground, Projector, Told, key},
    },
};
use marvin_domain::Position;
use marvin_projections::Skips;
use std::{sync::Arc, time::Instant};
use tokio::task::JoinHandle;

use crate::support::sample::Keys;

/// Of the duties, which nobody else wants.
const TOKEN: u64 = 1;

/// A log, the keys to read it, and a store for its views.
#[derive(Clone)]
pub struct Place {
    pub log: Arc<dyn EventLog>,
    pub keys: Arc<Keys>,
    pub views: Arc<dyn ViewStore>,
}

/// Projectors that run until they are dropped.
pub struct Running {
    pub board: Arc<Board>,
    pub tables: Vec<Table>,
    loops: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

impl Running {
    /// Begins empty tables, which answer from the first, so that the board tells of every commit; and starts their projectors at
    /// the log's first event.
    pub async fn start(place: &Place) -> Self {
        Self::start_behind(place, Checkpoint::START).await
    }

    /// The same from the log's end on.
    pub async fn start_at_end(place: &Place) -> Self {
        let end = *place.log.head().borrow();
        let rows = place.log.read(end - 1, 1).await.expect("it is readable");
        Self::start_behind(place, Checkpoint { position: end, event_id: rows[0].event_id }).await
    }

    async fn start_behind(place: &Place, checkpoint: Checkpoint) -> Self {
        let Place { log, keys, views } = place.clone();
        let tail = Tail::new(log, keys.codec.clone());
        let folds = marvin_projections::all();
        let board = Board::new(views.clone(), folds.iter().map(|fold| ViewId::of(&**fold)), Health::default());
        let cache: Arc<dyn Cache> = Arc::new(MemoryCache::default());
        let mut tables = Vec::new();
        for fold in &folds {
            let table = views.begin(ViewId::of(&**fold), 0).await.expect("the store is there").table;
            views.take_over(&table, TOKEN).await.expect("nobody else has it");
            views.store(&table, Vec::new(), checkpoint, TOKEN).await.expect("nobody else has it");
            views.make_live(&table, TOKEN).await.expect("nobody else has it");
            tables.push(table);
        }
        board.look_within(std::time::Duration::ZERO).await.expect("the store is there");
        let documents = Documents::new(keys.sealer.clone());
        let ground = Ground { store: views, documents, board: board.clone(), head: tail.head() };
        let mut loops = vec![tokio::spawn(tail.clone().feed(Health::default()))];
        for (fold, table) in folds.into_iter().zip(&tables) {
            let told = Told::new(Publisher::new(cache.clone(), key(table), TOKEN));
            let projector = Projector::new(fold, table.clone(), TOKEN, Skips::default(), ground.clone(), told);
            let following = follow(tail.clone(), projector, Health::default());
            loops.push(tokio::spawn(async move { panic!("a projector stopped: {:?}", following.await) }));
        }
        Self { board, tables, loops }
    }

    /// Waits until every view reflects `position`.
    pub async fn reach(&self, position: Position) {
        join_all(self.tables.iter().map(|table| async {
            let mut seen = self.board.watch(&table.name);
            let is_there = seen.wait_for(|seen| seen.serving.as_ref().is_some_and(|it| it.position >= position));
            is_there.await.expect("the board stays");
        }))
        .await;
    }

    /// Ends the projectors and answers how many documents each view has; the tables are dropped.
    pub async fn finish(self, views: &dyn ViewStore) -> Vec<u64> {
        self.loops.iter().for_each(JoinHandle::abort);
        let mut counts = Vec::new();
        for table in &self.tables {
            counts.push(count(views, table).await);
            views.drop_table(table).await.expect("the store is there");
        }
        counts
    }
}

/// By pages of ids.
async fn count(views: &dyn ViewStore, table: &Table) -> u64 {
    let (mut count, mut before) = (0, None);
    loop {
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before, limit: PAGE_DOCUMENTS_MAX };
        let found = views.find(table, query).await.expect("the table is there");
        count += found.len() as u64;
        let Some(last) = found.last() else { return count };
        before = Some(last.id);
    }
}

/// Seconds to build every view from the log's first event to its last, and how many documents each has then.
pub async fn rebuild(place: &Place) -> (f64, Vec<u64>) {
    let head = *place.log.head().borrow();
    let start = Instant::now();
    let running = Running::start(place).await;
    running.reach(head).await;
    let seconds = start.elapsed().as_secs_f64();
    (seconds, running.finish(&*place.views).await)
}
