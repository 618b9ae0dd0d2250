//! Workers and what they run, by handlers of the tests' own: who is stopped when, what a broken handler costs, who waits too long.
use crate::stack::{Stack, meta, submission};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use marvin::{
    agent::{AgentHandler, KindDescription, Kinds, Run, RunError, slots::Slots, worker::Worker},
    cache::memory::MemoryCache,
    dispatch::Dispatcher,
    error::FieldError,
    health::Health,
    log::{EventLog, subscription::Follower, tail::Tail},
    views::{ViewId, ViewStore, board::Board, documents::Documents, query::Views, sqlite::SqliteViews},
};
use marvin_domain::{
    AggregateKind, Directed, Event, Name, StreamId,
    agent::{AgentCommand, Limits},
    event::Recorded,
    task::{Phase, Submission, Task, TaskCommand, TaskEvent},
    user::Role,
};
use marvin_projections::tasks::Tasks;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::wait::eventually;

mod broken;
mod cancelling;
mod deadlines;
mod recorded;
mod together;

/// What a handler of the tests' own does with a task.
type Script = Arc<dyn for<'a> Fn(&'a mut Run) -> BoxFuture<'a, Result<Value, RunError>> + Send + Sync>;

/// The kind `rules`, as far as anybody can tell, which does as a test says.
pub struct Scripted(pub Script);

#[async_trait]
impl AgentHandler for Scripted {
    fn describe(&self) -> KindDescription {
        KindDescription {
            kind: "rules",
            title: "Scripted",
            description: "Does as a test says.",
            config_schema: json!(true),
            input_schema: json!(true),
            output_schema: json!(true),
            can_try: false,
        }
    }
    fn check_config(&self, _: &Value) -> Result<(), Vec<FieldError>> {
        Ok(())
    }
    fn check_input(&self, _: &Value, _: &Value) -> Result<(), Vec<FieldError>> {
        Ok(())
    }
    async fn run(&self, run: &mut Run) -> Result<Value, RunError> {
        (self.0)(run).await
    }
}

/// What runs agents.
pub struct Process {
    pub worker: Arc<Worker>,
    loops: [JoinHandle<()>; 4],
}

impl Process {
    /// It neither looks for work nor keeps what it has.
    pub fn stop_loops(&self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

/// A house with one owner, whose views are kept, and any number of processes that run agents in it.
pub struct Workshop {
    pub stack: Stack,
    pub owner: Uuid,
    pub views: Views,
}

impl Workshop {
    pub async fn open() -> Self {
        let stack = Stack::new().await;
        let owner = stack.user("a@example.com", &[Role::Operator]).await;
        let store: Arc<dyn ViewStore> = Arc::new(SqliteViews::open(&stack.directory.path().join("views.db")).unwrap());
        let all = marvin_projections::all();
        let ids = all.iter().map(|fold| ViewId::of(&**fold)).collect::<Vec<_>>();
        let board = Board::new(store.clone(), ids, Health::default());
        let documents = Documents::new(stack.stores.sealer.clone());
        let views = Views::new(store.clone(), documents, board, Arc::new(MemoryCache::default()));
        for fold in all.into_iter().filter(|fold| ["tasks", "agents"].contains(&fold.name())) {
            let mut projector = stack.projector(fold, store.clone()).await;
            let (log, codec) = (stack.stores.log.clone(), stack.codec().clone());
            let mut after = 0;
            tokio::spawn(async move {
                let mut head = log.head();
                loop {
                    head.borrow_and_update();
                    let events = codec.open(log.read(after, 500).await.unwrap()).await.unwrap();
                    let Some(last) = events.last() else {
                        head.changed().await.unwrap();
                        continue;
                    };
                    after = last.position;
                    projector.take(&events.into_iter().map(Arc::new).collect::<Vec<_>>()).await.unwrap();
                }
            });
        }
        Self { stack, owner, views }
    }

    /// A process that runs agents as the script says, with caches of its own, and hears of work by the sweep alone.
    pub fn worker(&self, script: Script) -> Process {
        self.worker_on(self.stack.stores.log.clone(), script)
    }

    pub fn worker_on(&self, log: Arc<dyn EventLog>, script: Script) -> Process {
        self.worker_with(log, self.stack.stores.slots.clone(), script)
    }

    pub fn worker_with(&self, log: Arc<dyn EventLog>, slots: Arc<dyn Slots>, script: Script) -> Process {
        let kinds = Kinds::of(vec![Arc::new(Scripted(script))]);
        let codec = self.stack.codec().clone();
        let tail = Tail::new(log.clone(), codec.clone());
        let dispatcher = Dispatcher::new(log.clone(), codec.clone());
        let worker = Worker::new(kinds, dispatcher, self.views.clone(), log, codec, slots);
        let loops = [
            tokio::spawn(tail.clone().feed(Health::default())),
            tokio::spawn(worker.clone().listen(tail)),
            tokio::spawn(worker.clone().heartbeat()),
            tokio::spawn(worker.clone().sweep()),
        ];
        Process { worker, loops }
    }

    /// Every lease has run out.
    pub fn let_leases_run_out(&self) {
        let log = rusqlite::Connection::open(self.stack.directory.path().join("data/log.db")).unwrap();
        log.busy_timeout(crate::wait::DEADLINE).unwrap();
        log.execute("UPDATE leases SET expires_at = 0", []).unwrap();
    }

    pub async fn agent(&self, limits: Limits) -> Uuid {
        let id = Uuid::now_v7();
        let (name, config) = (Name::parse("scribe").unwrap(), json!({}).into());
        let (description, kind) = (String::new(), "rules".to_owned());
        self.stack.send(id, AgentCommand::Create { name, description, kind, config, limits }).await;
        id
    }

    pub async fn submit(&self, agent: Uuid, change: impl FnOnce(&mut Submission)) -> Uuid {
        let id = Uuid::now_v7();
        let mut submission = submission(agent, self.owner, json!(1));
        change(&mut submission);
        self.stack.send(id, TaskCommand::Submit(submission)).await;
        id
    }

    /// As from another process, so that what is cached here is a guess.
    pub async fn send(&self, id: Uuid, command: impl Into<marvin_domain::Command>) {
        self.elsewhere().dispatch(&meta(), &[Directed::new(id, command)]).await.unwrap();
    }

    pub fn elsewhere(&self) -> Dispatcher {
        Dispatcher::new(self.stack.stores.log.clone(), self.stack.codec().clone())
    }

    pub async fn task(&self, id: Uuid) -> Task {
        let loaded = self.elsewhere().load(StreamId { kind: AggregateKind::Task, id }).await.unwrap();
        <&Task>::try_from(&loaded.state).unwrap().clone()
    }

    pub async fn in_phase(&self, id: Uuid, wanted: impl Fn(Phase) -> bool) -> Task {
        eventually("the task gets there", async || Some(self.task(id).await).filter(|task| wanted(task.phase))).await
    }

    pub async fn journal(&self, id: Uuid) -> Vec<TaskEvent> {
        let events = self.stack.events().await.into_iter().filter(|event| event.stream.id == id);
        events.filter_map(|event| if let Event::Task(event) = event.event { Some(event) } else { None }).collect()
    }

    /// What happened to the task, and the code of each failure.
    pub async fn story(&self, id: Uuid) -> Vec<String> {
        let told = |event: &TaskEvent| match event {
            TaskEvent::Failed(failed) => format!("failed: {}", failed.code),
            TaskEvent::RetryScheduled(failed) => format!("retry_scheduled: {}", failed.code),
            TaskEvent::DeadLettered(failed) => format!("dead_lettered: {}", failed.code),
            other => other.event_type().to_owned(),
        };
        self.journal(id).await.iter().map(told).collect()
    }

    pub async fn caught_up(&self) {
        let head = *self.stack.stores.log.head().borrow();
        self.views.wait::<Tasks>(head).await.unwrap();
    }
}

pub fn script<F>(script: F) -> Script
where
    F: for<'a> Fn(&'a mut Run) -> BoxFuture<'a, Result<Value, RunError>> + Send + Sync + 'static,
{
    Arc::new(script)
}

/// Quick to try again, and never for long.
pub fn hasty() -> Limits {
    Limits { max_attempts: 2, timeout_ms: 60_000, backoff_initial_ms: 0, backoff_max_ms: 0, max_concurrency: 4 }
}
