//! The parts over a fresh data directory, joined as the program joins them but without its loops.
use marvin::{
    agent::webhook::{Outside, callback::Callbacks},
    cache::{Cache, memory::MemoryCache, publisher::Publisher},
    config::{Flags, Settings},
    dispatch::{CommandMeta, Dispatcher},
    egress::{Allowed, Egress},
    health::Health,
    log::{EventLog, codec::Codec, tail::Tail},
    secrets::Secrets,
    security::subjects::Registration,
    stores::Stores,
    views::{
        Table, ViewId, ViewStore,
        board::Board,
        documents::Documents,
        projector::{Ground, Projector, Told, key},
    },
};
use marvin_domain::{
    Actor, Directed, Envelope, Name, Position,
    agent::{AgentCommand, Limits},
    task::{Submission, TaskCommand},
    user::{Profile, Role, UserCommand},
};
use marvin_projections::{Fold, Skips};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

pub struct Stack {
    pub directory: tempfile::TempDir,
    pub stores: Stores,
    pub dispatcher: Dispatcher,
    pub tail: Arc<Tail>,
}

async fn stores(directory: &tempfile::TempDir, flags: Flags) -> Stores {
    let data_dir = Some(directory.path().join("data").display().to_string());
    let settings = Settings::load(&Flags { data_dir, ..flags }, []).unwrap();
    Stores::open(&settings).await.unwrap()
}

impl Stack {
    pub async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    pub async fn over(directory: tempfile::TempDir) -> Self {
        Self::on(directory, Flags::default()).await
    }

    /// On the stores that `flags` name.
    pub async fn on(directory: tempfile::TempDir, flags: Flags) -> Self {
        let stores = stores(&directory, flags).await;
        let log: Arc<dyn EventLog> = stores.log.clone();
        let dispatcher = Dispatcher::new(log.clone(), stores.codec.clone());
        let tail = Tail::new(log, stores.codec.clone());
        Self { directory, stores, dispatcher, tail }
    }

    /// The ways out, which nobody takes.
    pub fn outside(&self) -> Outside {
        let (dispatcher, subjects) = (self.dispatcher.clone(), self.stores.subjects.clone());
        let (log, codec) = (self.stores.log.clone(), self.stores.codec.clone());
        Outside {
            egress: Egress::new(Allowed::default()).unwrap(),
            secrets: Secrets::new(dispatcher.clone(), subjects.clone()),
            callbacks: Callbacks::new(dispatcher, log, codec, subjects, String::new()),
        }
    }

    /// As after a crash: everything that was only in memory is gone.
    pub async fn restarted(self) -> Self {
        let Self { directory, stores, dispatcher, tail } = self;
        drop((stores, dispatcher, tail));
        Self::over(directory).await
    }

    pub fn codec(&self) -> &Codec {
        &self.stores.codec
    }

    pub async fn send(&self, id: Uuid, command: impl Into<marvin_domain::Command>) -> marvin::log::Receipt {
        self.dispatcher.dispatch(&meta(), &[Directed::new(id, command)]).await.unwrap()
    }

    /// A person with a key, who holds `roles`.
    pub async fn user(&self, email: &str, roles: &[Role]) -> Uuid {
        let registration = self.stores.subjects.register(Uuid::now_v7(), email, 0).await.unwrap();
        let Registration::Created { user_id } = registration else { panic!("{email} is taken") };
        let profile = Profile { email: email.into(), display_name: Name::parse("Somebody").unwrap() };
        let roles = BTreeSet::from_iter(roles.iter().copied());
        self.send(user_id, UserCommand::Register { profile, roles, credential: Uuid::now_v7() }).await;
        user_id
    }

    pub async fn agent(&self, name: &str) -> Uuid {
        let id = Uuid::now_v7();
        let (name, config) = (Name::parse(name).unwrap(), json!({ "rules": [] }).into());
        let create = AgentCommand::Create {
            name,
            description: String::new(),
            kind: "rules".into(),
            config,
            limits: Limits::default(),
        };
        self.send(id, create).await;
        id
    }

    pub async fn task(&self, agent_id: Uuid, requested_by: Uuid, input: Value) -> Uuid {
        let id = Uuid::now_v7();
        self.send(id, TaskCommand::Submit(submission(agent_id, requested_by, input))).await;
        id
    }

    /// A projector on a new table, which readers read.
    pub async fn projector(&self, fold: Arc<dyn Fold>, store: Arc<dyn ViewStore>) -> Projector {
        self.projector_at(fold, store, 0, Arc::new(MemoryCache::default())).await
    }

    /// One that believes the log to end at `head`.
    pub async fn projector_at(
        &self,
        fold: Arc<dyn Fold>,
        store: Arc<dyn ViewStore>,
        head: Position,
        cache: Arc<dyn Cache>,
    ) -> Projector {
        let view = ViewId::of(&*fold);
        let table = store.begin(view, 0).await.unwrap().table;
        store.take_over(&table, 1).await.unwrap();
        store.make_live(&table, 1).await.unwrap();
        self.projector_on(table, fold, store, head, cache)
    }

    /// One on a table that is there.
    pub fn projector_on(
        &self,
        table: Table,
        fold: Arc<dyn Fold>,
        store: Arc<dyn ViewStore>,
        head: Position,
        cache: Arc<dyn Cache>,
    ) -> Projector {
        let told = Told::new(Publisher::new(cache, key(&table), 1));
        self.projector_telling(table, fold, store, watch::channel(head).1, told)
    }

    /// One whose cache somebody else tells as well.
    pub fn projector_telling(
        &self,
        table: Table,
        fold: Arc<dyn Fold>,
        store: Arc<dyn ViewStore>,
        head: watch::Receiver<Position>,
        told: Arc<Mutex<Told>>,
    ) -> Projector {
        let board = Board::new(store.clone(), [ViewId::of(&*fold)], Health::default());
        let documents = Documents::new(self.stores.sealer.clone());
        let ground = Ground { store, documents, board, head };
        Projector::new(fold, table, 1, Skips::default(), ground, told)
    }

    pub async fn events(&self) -> Vec<Envelope> {
        let rows = self.stores.log.read(0, 10_000).await.unwrap();
        self.codec().open(rows).await.unwrap()
    }
}

pub fn meta() -> CommandMeta {
    CommandMeta::new(Actor::System)
}

pub fn submission(agent_id: Uuid, requested_by: Uuid, input: Value) -> Submission {
    Submission {
        agent_id,
        requested_by,
        input,
        conversation_id: None,
        priority: 5,
        deadline: None,
        max_attempts: 3,
        parent: None,
        chain_depth: 0,
    }
}
