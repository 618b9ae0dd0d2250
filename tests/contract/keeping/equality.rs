//! Random commands, batches, crashes, redeliveries, rebuilds, skips and erasures: every live view holds what a fresh process makes of
//! the log in an empty store.
use super::{Adapter, World, assert_same, opened};
use marvin::{
    cache::{memory::MemoryCache, publisher::Publisher},
    health::Health,
    log::{
        subscription::{FollowError, Follower},
        tail::Tail,
    },
    views::{
        State, ViewId, ViewStore,
        board::Board,
        projector::{Ground, Projector, Told, key},
        skips::skips,
    },
};
use marvin_domain::{
    Envelope, Name, Position,
    agent::AgentCommand,
    notification::{Link, Message, NotificationCommand, Severity},
    projection::{ProjectionCommand, Reason},
    task::{CancelReason, Failure, TaskCommand},
    user::Role,
};
use marvin_projections::{Fold, Skips};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::stack::submission;

const TOKEN: u64 = 1;

/// What may happen, one after the other.
#[derive(Debug, Clone)]
enum Step {
    User,
    Agent,
    Submit {
        user: Index,
        agent: Index,
    },
    /// Something that may happen to a task; what it refuses is no event.
    Work {
        task: Index,
        what: u8,
    },
    Change {
        agent: Index,
        what: u8,
    },
    Notify {
        user: Index,
    },
    Read {
        notification: Index,
    },
    Erase {
        user: Index,
    },
    /// A projector takes so many events, crashing before or after it stores them where that is said.
    Project {
        table: Index,
        count: usize,
        crash: Option<bool>,
    },
    /// It is given again what it had.
    Redeliver {
        table: Index,
        back: usize,
        count: usize,
    },
    /// Another build of a view begins, and is filled beside the others.
    Rebuild {
        fold: Index,
    },
    /// The newest build of a view catches up and takes the place of what served.
    Switch {
        fold: Index,
    },
    /// The next event that none of a view's tables has taken is taken out of it.
    Skip {
        fold: Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        3 => Just(Step::User),
        2 => Just(Step::Agent),
        8 => (index(), index()).prop_map(|(user, agent)| Step::Submit { user, agent }),
        24 => (index(), 0..7u8).prop_map(|(task, what)| Step::Work { task, what }),
        3 => (index(), 0..4u8).prop_map(|(agent, what)| Step::Change { agent, what }),
        4 => index().prop_map(|user| Step::Notify { user }),
        3 => index().prop_map(|notification| Step::Read { notification }),
        1 => index().prop_map(|user| Step::Erase { user }),
        24 => (index(), 1..40usize, prop_oneof![6 => Just(None), 1 => any::<bool>().prop_map(Some)])
            .prop_map(|(table, count, crash)| Step::Project { table, count, crash }),
        4 => (index(), 1..30usize, 1..30usize)
            .prop_map(|(table, back, count)| Step::Redeliver { table, back, count }),
        2 => index().prop_map(|fold| Step::Rebuild { fold }),
        2 => index().prop_map(|fold| Step::Switch { fold }),
        1 => index().prop_map(|fold| Step::Skip { fold }),
    ]
}

/// A table and who writes to it.
struct Kept {
    fold: usize,
    projector: Projector,
    at: Position,
}

struct History {
    world: World,
    folds: Vec<Arc<dyn Fold>>,
    tables: Vec<Kept>,
    /// As they were first opened: with the words of who was erased since.
    events: Vec<Arc<Envelope>>,
    users: Vec<Uuid>,
    agents: Vec<Uuid>,
    tasks: Vec<(Uuid, u32, u32)>,
    notifications: Vec<Uuid>,
    skipped: usize,
}

impl History {
    async fn new(adapter: Adapter) -> Self {
        let (world, folds) = (adapter.world().await, marvin_projections::all());
        let none = Vec::new;
        let (users, agents, notifications) = (none(), none(), none());
        let mut history = Self {
            world,
            folds,
            tables: Vec::new(),
            events: Vec::new(),
            users,
            agents,
            tasks: Vec::new(),
            notifications,
            skipped: 0,
        };
        for fold in 0..history.folds.len() {
            history.begin(fold).await;
            history.make_live(fold).await;
        }
        history.take(Step::User).await;
        history.take(Step::Agent).await;
        history
    }

    async fn skips(&self, fold: usize) -> Skips {
        let tail = Tail::new(self.world.stack.stores.log.clone(), self.world.stack.stores.codec.clone());
        skips(&*self.folds[fold], &self.world.stack.dispatcher, &tail).await.unwrap()
    }

    async fn projector(&self, fold: usize, table: &marvin::views::Table) -> Projector {
        let store: Arc<dyn ViewStore> = self.world.store.clone();
        let board = Board::new(store.clone(), [ViewId::of(&*self.folds[fold])], Health::default());
        let ground = Ground { store, documents: self.world.documents(), board, head: watch::channel(0).1 };
        let told = Told::new(Publisher::new(Arc::new(MemoryCache::default()), key(table), TOKEN));
        let skips = self.skips(fold).await;
        Projector::new(self.folds[fold].clone(), table.clone(), TOKEN, skips, ground, told)
    }

    async fn begin(&mut self, fold: usize) {
        let row = self.world.store.begin(ViewId::of(&*self.folds[fold]), self.world.head()).await.unwrap();
        if !self.tables.iter().any(|kept| *kept.projector.table() == row.table) {
            let mut projector = self.projector(fold, &row.table).await;
            let at = projector.resume().await.unwrap();
            self.tables.push(Kept { fold, projector, at });
        }
    }

    async fn make_live(&mut self, fold: usize) {
        let Some(newest) = self.tables.iter().rposition(|kept| kept.fold == fold) else { return };
        self.project(newest, usize::MAX, None).await;
        self.world.store.make_live(self.tables[newest].projector.table(), TOKEN).await.unwrap();
        let mut number = 0;
        self.tables.retain(|kept| {
            number += 1;
            kept.fold != fold || number == newest + 1
        });
    }

    async fn read(&mut self) {
        let after = self.events.last().map_or(0, |event| event.position);
        self.events.extend(self.world.events_behind(after).await);
    }

    async fn project(&mut self, table: usize, count: usize, crash: Option<bool>) {
        self.read().await;
        let kept = &mut self.tables[table];
        let from = usize::try_from(kept.at).unwrap();
        let batch = &self.events[from..self.events.len().min(from.saturating_add(count))];
        let Some(last) = batch.last().map(|event| event.position) else { return };
        match crash {
            Some(true) => self.world.store.crash_before.store(true, SeqCst),
            Some(false) => self.world.store.crash_after.store(true, SeqCst),
            None => {}
        }
        match (kept.projector.take(batch).await, crash) {
            (Ok(()), None) => kept.at = last,
            (Err(FollowError::Again(_)), Some(_)) => {
                let (fold, table) = (kept.fold, kept.projector.table().clone());
                // Half of the time the process ends, else it tries again.
                if last % 2 == 0 {
                    let projector = self.projector(fold, &table).await;
                    self.tables.iter_mut().find(|kept| *kept.projector.table() == table).unwrap().projector = projector;
                }
                let kept = self.tables.iter_mut().find(|kept| *kept.projector.table() == table).unwrap();
                kept.at = kept.projector.resume().await.unwrap();
            }
            (answer, _) => panic!("{answer:?}"),
        }
    }

    async fn redeliver(&mut self, table: usize, back: usize, count: usize) {
        let kept = &mut self.tables[table];
        let end = usize::try_from(kept.at).unwrap();
        let from = end.saturating_sub(back);
        let batch = &self.events[from..end.min(from + count)];
        kept.projector.take(batch).await.unwrap();
    }

    async fn skip(&mut self, fold: usize) {
        self.read().await;
        let reached = self.tables.iter().filter(|kept| kept.fold == fold).map(|kept| kept.at).max().unwrap_or(0);
        let folds = &self.folds[fold];
        let touches = |event: &&Arc<Envelope>| event.position > reached && !folds.ids(event).unwrap().is_empty();
        let Some(position) = self.events.iter().find(touches).map(|event| event.position) else { return };
        let (name, version, administrator) = (folds.name().to_owned(), folds.version(), self.users[0]);
        let reason = Reason { reason: "It is not wanted".into() };
        let skip = ProjectionCommand::Skip { name, version, position, administrator, reason };
        self.world.stack.dispatcher.dispatch(&crate::stack::meta(), &[skip.directed()]).await.unwrap();
        self.skipped += 1;
        for table in 0..self.tables.len() {
            if self.tables[table].fold == fold {
                let of = self.tables[table].projector.table().clone();
                let mut projector = self.projector(fold, &of).await;
                self.tables[table].at = projector.resume().await.unwrap();
                self.tables[table].projector = projector;
            }
        }
    }

    async fn take(&mut self, step: Step) {
        let pick = |index: Index, of: &[Uuid]| (!of.is_empty()).then(|| *index.get(of));
        match step {
            Step::User => {
                let user = self.world.stack.user(&format!("{}@example.com", Uuid::now_v7()), &[Role::Member]).await;
                self.users.push(user);
            }
            Step::Agent => self.agents.push(self.world.stack.agent("scribe").await),
            Step::Submit { user, agent } => {
                let (user, agent, id) = (*user.get(&self.users), *agent.get(&self.agents), Uuid::now_v7());
                let submission = submission(agent, user, json!({ "words of": user }));
                if self.world.try_send(id, TaskCommand::Submit(submission)).await {
                    self.tasks.push((id, 0, 0));
                }
            }
            Step::Work { task, what } => {
                if !self.tasks.is_empty() {
                    let task = task.index(self.tasks.len());
                    self.work(task, what).await;
                }
            }
            Step::Change { agent, what } => {
                let command = match what {
                    0 => AgentCommand::Pause,
                    1 => AgentCommand::Resume,
                    _ => {
                        let name = Some(Name::parse(&format!("agent {what}")).unwrap());
                        AgentCommand::Change { name, description: None, config: None, limits: None }
                    }
                };
                self.world.try_send(*agent.get(&self.agents), command).await;
            }
            Step::Notify { user } => {
                let (recipient, id) = (*user.get(&self.users), Uuid::now_v7());
                let link = Link { kind: "task".into(), id };
                let message = Message { title: "Words".into(), body: "for them alone".into() };
                let raise = NotificationCommand::Raise { recipient, severity: Severity::Info, link, message };
                if self.world.try_send(id, raise).await {
                    self.notifications.push(id);
                }
            }
            Step::Read { notification } => {
                if let Some(id) = pick(notification, &self.notifications) {
                    self.world.try_send(id, NotificationCommand::Read).await;
                }
            }
            // The first one stays: it is who skips.
            Step::Erase { user } if self.users.len() > 1 => {
                let user = *user.get(&self.users[1..]);
                self.read().await;
                self.world.erase(user).await;
            }
            Step::Erase { .. } => {}
            Step::Project { table, count, crash } => self.project(table.index(self.tables.len()), count, crash).await,
            Step::Redeliver { table, back, count } => {
                self.redeliver(table.index(self.tables.len()), back, count).await;
            }
            Step::Rebuild { fold } => self.begin(fold.index(self.folds.len())).await,
            Step::Switch { fold } => self.make_live(fold.index(self.folds.len())).await,
            Step::Skip { fold } => self.skip(fold.index(self.folds.len())).await,
        }
    }

    async fn work(&mut self, task: usize, what: u8) {
        let (id, attempt, step) = self.tasks[task];
        let at = chrono::Utc::now();
        let failure = || Failure::new("broken", "words of theirs");
        let command = match what {
            0 | 1 => TaskCommand::Start { worker: Uuid::now_v7(), at },
            2 | 3 => TaskCommand::CompleteStep {
                attempt,
                step: step + 1,
                kind: "rule".into(),
                name: "look".into(),
                started_at: at,
                result: json!("words"),
            },
            4 => TaskCommand::Complete { attempt, output: json!("words") },
            5 => TaskCommand::Fail { attempt, failure: failure(), retry_at: Some(at) },
            _ => TaskCommand::Cancel { reason: CancelReason::Requested },
        };
        let known = &mut self.tasks[task];
        if self.world.try_send(id, command).await {
            match what {
                0 | 1 => *known = (id, attempt + 1, step),
                2 | 3 => known.2 += 1,
                _ => {}
            }
        }
    }

    /// How many documents were compared, and how many personal parts.
    async fn compare(mut self) -> (usize, usize) {
        let (mut documents, mut personal) = (0, 0);
        for fold in 0..self.folds.len() {
            // What serves, as far as the log goes; then what is built beside it, which is to be the same.
            for table in 0..self.tables.len() {
                if self.tables[table].fold == fold {
                    self.project(table, usize::MAX, None).await;
                }
            }
            let replayed = self.world.replayed(&self.folds[fold]).await;
            let rows = self.world.rows(ViewId::of(&*self.folds[fold])).await;
            assert!(rows.iter().any(|row| row.state == State::Live));
            for row in rows.iter().filter(|row| row.state.is_kept_up()) {
                let live = opened(&*self.world.store, &self.world.documents(), &row.table).await;
                assert_same(&live, &replayed);
                documents += live.len();
                personal += live.iter().filter(|document| document.personal.is_some()).count();
            }
        }
        (documents, personal)
    }
}

fn run(adapter: Adapter, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (documents, personal, skipped) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    proptest!(ProptestConfig { cases, ..ProptestConfig::default() }, |(steps in vec(step(), 100..300))| {
        runtime.block_on(async {
            let mut history = History::new(adapter).await;
            for step in steps {
                history.take(step).await;
            }
            skipped.fetch_add(history.skipped, SeqCst);
            let compared = history.compare().await;
            documents.fetch_add(compared.0, SeqCst);
            personal.fetch_add(compared.1, SeqCst);
        });
    });
    let found = (documents.into_inner(), personal.into_inner(), skipped.into_inner());
    let least = cases as usize;
    assert!(found.0 >= least * 20 && found.1 >= least * 10 && found.2 >= 1, "too little was compared: {found:?}");
}

#[test]
fn views_in_files_equal_a_replay() {
    run(Adapter::Sqlite, 16);
}

#[test]
fn views_in_a_database_equal_a_replay() {
    run(Adapter::Postgres, 8);
}
