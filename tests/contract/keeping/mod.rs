//! What keepers promise on every store: a view that is built, kept up, rebuilt and read as if it had always been there.
use marvin::{
    cache::{Cache, memory::MemoryCache},
    config::Flags,
    dispatch::DispatchError,
    duty::holder::Holder,
    erasure::Eraser,
    health::Health,
    log::{subscription::Follower, tail::Tail},
    views::{
        ListQuery, Order, State, Table, TableRow, ViewId, ViewStore,
        board::Board,
        documents::Documents,
        keeper::{Keeper, Parts},
        projector::Ground,
        query::Views,
        replay::replay,
        skips::skips,
        sqlite::SqliteViews,
    },
};
use marvin_domain::{
    Command, Directed, Envelope, Position,
    projection::{ProjectionCommand, Reason},
    user::{Role, UserCommand},
};
use marvin_projections::{Fold, Projection, RawDocument, fold_of};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinHandle};
use uuid::Uuid;

use crate::{
    postgres::Database,
    stack::{Stack, meta},
    wait::eventually,
    weather::Weather,
};

mod comparing;
mod dropping;
mod duty;
mod equality;
mod erasure;
mod large;
mod late;
mod life;
mod names;
mod poison;
mod quiet;
mod reading;
mod set_back;

use names::{Names, changed, named};

#[derive(Debug, Clone, Copy)]
enum Adapter {
    Sqlite,
    Postgres,
}

/// A log, a view store whose weather a test makes, and everybody who works on them.
struct World {
    stack: Stack,
    store: Arc<Weather>,
    database: Option<Database>,
}

impl Adapter {
    async fn world(self) -> World {
        let directory = tempfile::tempdir().unwrap();
        let database = match self {
            Self::Sqlite => None,
            Self::Postgres => Some(Database::shared()),
        };
        let flags = Flags {
            database_url: database.as_ref().map(|database| database.url.clone()),
            instance: database.as_ref().map(|database| database.instance.clone()),
            ..Flags::default()
        };
        let stack = Stack::on(directory, flags).await;
        let store = Arc::new(Weather::over(stack.stores.views.clone()));
        World { stack, store, database }
    }
}

impl World {
    fn documents(&self) -> Documents {
        Documents::new(self.stack.stores.sealer.clone())
    }

    /// Changes the views by hand.
    async fn tamper(&self, sql: &str) {
        match &self.database {
            Some(database) => database.views_stranger().await.batch_execute(sql).await.unwrap(),
            None => {
                let file = self.stack.directory.path().join("data/views.db");
                rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
            }
        }
    }

    fn head(&self) -> Position {
        *self.stack.stores.log.head().borrow()
    }

    async fn rows(&self, view: ViewId) -> Vec<TableRow> {
        let rows = self.store.tables().await.unwrap();
        rows.into_iter().filter(|row| row.table.is_of(view)).collect()
    }

    /// Builds and their states, of a name and version.
    async fn states(&self, view: ViewId) -> Vec<(u32, State)> {
        self.rows(view).await.iter().map(|row| (row.table.build, row.state)).collect()
    }

    /// Waits for what the registry is to say of the view.
    async fn until(&self, what: &str, view: ViewId, is_so: impl Fn(&[TableRow]) -> bool) -> Vec<TableRow> {
        eventually(what, async || Some(self.rows(view).await).filter(|rows| is_so(rows))).await
    }

    /// Waits until a live table of the view reflects the whole log, and answers it.
    async fn live(&self, view: ViewId) -> Table {
        let whole = |rows: &[TableRow]| is_live_at(rows, self.head());
        let rows = self.until("the view keeps up", view, whole).await;
        rows.into_iter().find(|row| row.state == State::Live).unwrap().table
    }

    /// Every document of a table, opened.
    async fn opened(&self, table: &Table) -> Vec<RawDocument> {
        opened(&*self.store, &self.documents(), table).await
    }

    /// What a fresh process makes of the log in an empty store.
    async fn replayed(&self, fold: &Arc<dyn Fold>) -> Vec<RawDocument> {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn ViewStore> = Arc::new(SqliteViews::open(&directory.path().join("views.db")).unwrap());
        let (log, codec) = (self.stack.stores.log.clone(), self.stack.stores.codec.clone());
        let tail = Tail::new(log, codec);
        let skips = skips(&**fold, &self.stack.dispatcher, &tail).await.unwrap();
        let (documents, upto) = (self.documents(), self.head());
        let table = replay(&tail, fold.clone(), skips, store.clone(), documents.clone(), upto).await.unwrap();
        opened(&*store, &documents, &table).await
    }

    /// Asserts that the view's live table holds what a replay makes, and answers how many documents those are, and how many of
    /// them have a personal part.
    async fn assert_equal(&self, fold: Arc<dyn Fold>) -> (usize, usize) {
        let live = self.opened(&self.live(ViewId::of(&*fold)).await).await;
        assert_same(&live, &self.replayed(&fold).await);
        (live.len(), live.iter().filter(|document| document.personal.is_some()).count())
    }

    /// Whether it was not refused.
    async fn try_send(&self, id: Uuid, command: impl Into<Command>) -> bool {
        match self.stack.dispatcher.dispatch(&meta(), &[Directed::new(id, command)]).await {
            Ok(_) => true,
            Err(DispatchError::Refused(_)) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn skip<P: Projection>(&self, position: Position) {
        let name = P::NAME.to_owned();
        let reason = Reason { reason: "It was written by hand".into() };
        let email = format!("{}@example.com", Uuid::now_v7());
        let administrator = self.stack.user(&email, &[Role::Admin]).await;
        let skip = ProjectionCommand::Skip { name, version: P::VERSION, position, administrator, reason };
        self.stack.dispatcher.dispatch(&meta(), &[skip.directed()]).await.unwrap();
    }

    /// Records the erasure and destroys the key, as the program does.
    async fn erase(&self, user: Uuid) {
        if self.try_send(user, UserCommand::Erase).await {
            self.forget(user).await;
        }
    }

    async fn forget(&self, user: Uuid) {
        let events: Vec<_> = self.events_behind(0).await;
        let of_user = events.into_iter().filter(|event| event.stream.id == user).collect::<Vec<_>>();
        let (mut eraser, mut scrubber) = Eraser::new(self.stack.stores.subjects.clone());
        eraser.take(&of_user).await.unwrap();
        scrubber.settle().await.unwrap();
    }

    async fn events_behind(&self, after: Position) -> Vec<Arc<Envelope>> {
        let mut events: Vec<Arc<Envelope>> = Vec::new();
        loop {
            let after = events.last().map_or(after, |event| event.position);
            let rows = self.stack.stores.log.read(after, 10_000).await.unwrap();
            if rows.is_empty() {
                return events;
            }
            events.extend(self.stack.codec().open(rows).await.unwrap().into_iter().map(Arc::new));
        }
    }
}

async fn opened(store: &dyn ViewStore, documents: &Documents, table: &Table) -> Vec<RawDocument> {
    let mut all: Vec<RawDocument> = Vec::new();
    loop {
        let before = all.last().map(|document| document.id);
        let query = ListQuery { filters: Vec::new(), order: Order::Newest, before, limit: 1_000 };
        let page = store.list(table, query).await.unwrap().documents;
        if page.is_empty() {
            return all;
        }
        all.extend(documents.open(table, page).await.unwrap());
    }
}

fn assert_same(live: &[RawDocument], replayed: &[RawDocument]) {
    let shown = |documents: &[RawDocument]| -> Vec<_> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        documents
            .iter()
            .map(|it| (it.id, it.position, text(&it.facts), it.personal.as_deref().map(text), it.keys.clone()))
            .collect()
    };
    assert_eq!(shown(live), shown(replayed));
}

fn is_live_at(rows: &[TableRow], position: Position) -> bool {
    rows.iter().any(|row| row.state == State::Live && row.checkpoint.position >= position)
}

/// One process, as far as views go.
struct Node {
    board: Arc<Board>,
    views: Views,
    holder: Arc<Holder>,
    health: Health,
    poke: Arc<Notify>,
    loops: Vec<JoinHandle<()>>,
}

impl Node {
    /// Keeps the views of `folds`.
    fn keeping(world: &World, folds: &[Arc<dyn Fold>]) -> Self {
        Self::new(world, folds, folds, Arc::new(MemoryCache::default()))
    }

    /// Reads the views of `read`, and keeps those of `kept`.
    fn new(world: &World, read: &[Arc<dyn Fold>], kept: &[Arc<dyn Fold>], cache: Arc<dyn Cache>) -> Self {
        let stores = &world.stack.stores;
        let tail = Tail::new(stores.log.clone(), stores.codec.clone());
        let store: Arc<dyn ViewStore> = world.store.clone();
        let (health, poke) = (Health::default(), Arc::new(Notify::new()));
        let board = Board::new(store.clone(), read.iter().map(|fold| ViewId::of(&**fold)), health.clone());
        let holder = Holder::new(stores.duties.clone());
        let ground =
            Ground { store: store.clone(), documents: world.documents(), board: board.clone(), head: tail.head() };
        let parts = Parts {
            ground,
            tail: tail.clone(),
            dispatcher: world.stack.dispatcher.clone(),
            cache: cache.clone(),
            holder: holder.clone(),
            health: health.clone(),
            poke: poke.clone(),
        };
        let mut loops = vec![tokio::spawn(board.clone().run(tail.head())), tokio::spawn(tail.feed(health.clone()))];
        loops.push(tokio::spawn(holder.clone().run()));
        loops.extend(kept.iter().map(|fold| tokio::spawn(Keeper::new(fold.clone(), parts.clone()).run())));
        let views = Views::new(store, world.documents(), board.clone(), cache);
        Self { board, views, holder, health, poke, loops }
    }

    /// As a process that is killed: nothing is given up.
    async fn killed(self) {
        for running in &self.loops {
            running.abort();
        }
        for running in self.loops {
            running.await.ok();
        }
    }

    /// As a process that is stopped.
    async fn closed(self) {
        let holder = self.holder.clone();
        self.killed().await;
        holder.release_all().await;
    }

    async fn first_look(&self) {
        self.board.first_look(Duration::from_secs(30)).await;
    }
}

fn view<P: Projection>() -> ViewId {
    ViewId::of(&*fold_of::<P>())
}
