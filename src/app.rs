//! The composition root: opens the stores, joins the parts, starts the loops. The only place that knows the mode.
use actix_web::web;
use chrono::Utc;
use marvin_domain::{
    Actor, Name, Position,
    instance::{self, Instance},
    process,
    user::Role,
};
use std::{collections::BTreeSet, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{info, warn};

use crate::{
    accounts::{AccountError, Accounts, NewUser},
    agent::{
        Kinds,
        slots::{Slots, sqlite::SqliteSlots},
        worker::Worker,
    },
    config::Settings,
    control,
    datadir::{DataDir, DataDirError},
    dispatch::{CommandMeta, DispatchError, Dispatcher},
    erasure::{ErasedInLog, Eraser, followed},
    health::Health,
    http::api::Api,
    log::{
        EventLog,
        checkpoint::{Checkpoints, sqlite::SqliteCheckpoints},
        codec::Codec,
        sqlite::SqliteLog,
        subscription::follow,
        tail::Tail,
    },
    process::Process,
    security::{
        keyfile::{KeyFileError, MasterKey},
        passwords::{Passwords, check_policy},
        sealer::Sealer,
        sessions::Sessions,
        subjects::{SqliteSubjects, SubjectStore, SubjectsError, sqlite::holds_data},
        throttle::SignInThrottle,
    },
    setup::SetupTokens,
    sqlite::OpenError,
    store::StoreError,
    upkeep::Upkeep,
    views::{ViewError, ViewStore, documents::Documents, projector::Projector, query::Views, sqlite::SqliteViews},
};

/// Expired sessions are removed, and gauges are set, this often.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);

/// Why the program does not start: one sentence for whoever started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Subjects(#[from] SubjectsError),
    #[error("{missing} is missing beside {present}: put it back from a backup; nothing was changed")]
    Missing { missing: String, present: String },
    #[error(
        "views.db reaches position {reached} and log.db ends at {head}: the log was set back; put the right one back, or \
         delete views.db to go on with this one"
    )]
    SetBack { reached: Position, head: Position },
    #[error(
        "subjects.db has followed the log to position {reached} and log.db ends at {head}: the log was set back or lost; put \
         the right one back"
    )]
    LogBehindSubjects { reached: Position, head: Position },
    #[error("the store cannot be prepared")]
    Store(#[from] StoreError),
    #[error("the views cannot be prepared")]
    Views(#[from] ViewError),
    #[error("the log cannot be read")]
    Log(#[from] DispatchError),
    #[error("the first administrator cannot be created: {0}")]
    Administrator(String),
}

/// The stores and what is built straight on them, opened and owned by this process.
pub struct Stores {
    pub log: Arc<SqliteLog>,
    pub subjects: Arc<dyn SubjectStore>,
    pub views: SqliteViews,
    pub sealer: Arc<Sealer>,
    pub codec: Codec,
    pub upkeep: Arc<Upkeep>,
    /// Held for as long as the stores are open.
    _data_dir: DataDir,
}

impl Stores {
    /// Opens the data directory of embedded mode, or makes it. Every file is looked at before any is written, so what does not
    /// fit together stays as it is.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(settings: &Settings) -> Result<Self, StartError> {
        let data_dir = DataDir::take(&settings.data_dir)?;
        let (log_path, subjects_path) = (data_dir.log(), data_dir.subjects());
        // A file of no bytes was lost as surely as one that is not there.
        let holds =
            |path: &Path| holds_data(path).map_err(|source| DataDirError::Unusable { path: path.to_owned(), source });
        let subjects_hold = holds(&subjects_path)?;
        if subjects_hold && !holds(&log_path)? {
            return Err(missing(&log_path, &subjects_path));
        }
        let log = SqliteLog::inspect(&log_path)?;
        let head = SqliteLog::last_position(&log)?;
        let is_new = head == 0;
        if !is_new && !subjects_hold {
            return Err(missing(&subjects_path, &log_path));
        }
        let key = Arc::new(MasterKey::load_or_create(&settings.key_file, is_new && !subjects_hold)?);
        let subjects = SqliteSubjects::inspect(&subjects_path, key.clone(), is_new).await?;
        let views = SqliteViews::inspect(&data_dir.views())?;
        let reached = SqliteViews::furthest(&views)?;
        if reached > head {
            return Err(StartError::SetBack { reached, head });
        }

        let subjects = Arc::new(subjects.prepare().await?);
        let reached = followed(&*subjects).await?;
        if reached > head {
            return Err(StartError::LogBehindSubjects { reached, head });
        }
        let (log, views) = (Arc::new(SqliteLog::prepare(log)?), SqliteViews::prepare(views)?);
        let upkeep = Arc::new(Upkeep::new(log.clone(), subjects.clone(), key));
        let subjects = subjects as Arc<dyn SubjectStore>;
        let erased = Arc::new(ErasedInLog::new(log.clone()));
        let sealer = Arc::new(Sealer::new(settings.cipher, subjects.clone(), erased));
        let codec = Codec::new(sealer.clone());
        Ok(Self { log, subjects, views, sealer, codec, upkeep, _data_dir: data_dir })
    }

    /// Finishes what was handed in and leaves each database whole in its one file. Nothing is written from then on.
    pub async fn close(&self) {
        self.upkeep.stop();
        let log = self.log.database().close().await.map_err(|error| error.to_string());
        let views = self.views.database().close().await.map_err(|error| error.to_string());
        let subjects = self.subjects.close().await.map_err(|error| error.to_string());
        for (file, closed) in [("log.db", log), ("views.db", views), ("subjects.db", subjects)] {
            if let Err(error) = closed {
                warn!(file, error, "the newest changes stay in the write-ahead log beside the file");
            }
        }
    }
}

fn missing(missing: &Path, present: &Path) -> StartError {
    StartError::Missing { missing: missing.display().to_string(), present: present.display().to_string() }
}

/// Everything that runs in this process, until it is dropped or stopped.
pub struct App {
    pub api: web::Data<Api>,
    pub health: Health,
    worker: Arc<Worker>,
    loops: Vec<JoinHandle<()>>,
    stores: Stores,
}

impl App {
    /// Opens the stores and starts every loop. `origin` is how people reach the server.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(settings: &Settings, bound: SocketAddr) -> Result<Self, StartError> {
        let stores = Stores::open(settings).await?;
        let views_store: Arc<dyn ViewStore> = Arc::new(stores.views.clone());
        let (log, codec): (Arc<dyn EventLog>, _) = (stores.log.clone(), stores.codec.clone());
        let health = Health::default();
        let tail = Tail::new(log.clone(), codec.clone());
        let dispatcher = Dispatcher::new(log.clone(), codec.clone());
        let documents = Documents::new(stores.sealer.clone());
        let database = stores.log.database().clone();
        let slots = SqliteSlots(database.clone());
        // The lock on the data directory proves that whoever held a slot before is gone.
        slots.release_all().await?;
        let slots: Arc<dyn Slots> = Arc::new(slots);
        let checkpoints: Arc<dyn Checkpoints> = Arc::new(SqliteCheckpoints(database));

        let mut loops = vec![tokio::spawn(tail.clone().feed(health.clone()))];
        loops.push(tokio::spawn(control::listen(&settings.data_dir, stores.upkeep.clone())));
        let mut reached = Vec::new();
        for fold in marvin_projections::all() {
            let (sender, receiver) = watch::channel(0);
            reached.push((fold.clone(), receiver));
            let projector = Projector::new(fold, views_store.clone(), documents.clone(), sender);
            projector.prepare().await?;
            loops.push(tokio::spawn(follow(tail.clone(), projector, health.clone())));
        }
        let views = Views::new(views_store, documents, reached);
        for manager in process::all() {
            let process = Process::new(manager, dispatcher.clone(), views.clone(), checkpoints.clone());
            loops.push(tokio::spawn(follow(tail.clone(), process, health.clone())));
        }
        let eraser = Eraser::new(stores.subjects.clone());
        loops.push(tokio::spawn(follow(tail.clone(), eraser, health.clone())));

        let kinds = Kinds::all(views.clone());
        let worker = Worker::new(kinds.clone(), dispatcher.clone(), views.clone(), log.clone(), codec.clone(), slots);
        loops.push(tokio::spawn(worker.clone().listen(tail.clone())));
        loops.push(tokio::spawn(worker.clone().heartbeat()));
        loops.push(tokio::spawn(worker.clone().sweep()));

        let passwords = Passwords::default();
        let api = web::Data::new(Api {
            source: format!("/marvin/{}", settings.instance),
            public_url: settings.public_origin(bound).to_string(),
            accounts: Accounts::new(dispatcher.clone(), stores.subjects.clone(), passwords.clone()),
            sessions: Sessions::new(stores.subjects.clone()),
            subjects: stores.subjects.clone(),
            throttle: SignInThrottle::default(),
            setup: SetupTokens::default(),
            dispatcher,
            views,
            tail,
            log,
            codec,
            kinds,
            passwords,
        });
        loops.push(tokio::spawn(keep_house(api.clone(), worker.clone())));
        Ok(Self { api, health, worker, loops, stores })
    }

    /// With no user yet: creates the administrator that the settings name, else answers a one-time setup link.
    ///
    /// # Errors
    /// `Administrator` when the named one is refused.
    pub async fn welcome(&self, settings: &Settings) -> Result<Option<String>, StartError> {
        let loaded = self.api.dispatcher.load(instance::STREAM).await?;
        if <&Instance>::try_from(&loaded.state).is_ok_and(Instance::is_set_up) {
            return Ok(None);
        }
        let Some(first) = &settings.first_admin else {
            let token = self.api.setup.issue(Utc::now().timestamp_millis());
            return Ok(Some(format!("{}/setup?token={token}", self.api.public_url)));
        };
        let refused = |reason: String| StartError::Administrator(reason);
        check_policy(&first.password).map_err(|error| refused(format!("MARVIN_ADMIN_PASSWORD {}", error.detail)))?;
        let new = NewUser {
            email: first.email.clone(),
            display_name: Name::parse("Administrator").map_err(|error| refused(error.to_string()))?,
            password: first.password.clone(),
            roles: BTreeSet::from([Role::Admin]),
        };
        let created = self.api.accounts.set_up(&CommandMeta::new(Actor::System), new).await;
        created.map_err(|error: AccountError| refused(error.to_string()))?;
        info!("the first administrator was created from MARVIN_ADMIN_EMAIL");
        Ok(None)
    }

    /// Takes no new task and lets those that run end, at most `patience`.
    pub async fn drain(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.worker.drain()).await.is_err() {
            warn!("tasks were still running; they go on after the restart");
        }
    }

    /// Stops every loop and leaves each database whole in its one file. What the loops had not finished is found at the next
    /// start. Call it last, when no request runs any more.
    pub async fn close(self) {
        for running in &self.loops {
            running.abort();
        }
        for running in self.loops {
            running.await.ok();
        }
        self.stores.close().await;
    }
}

async fn keep_house(api: web::Data<Api>, worker: Arc<Worker>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        tick.tick().await;
        if let Err(error) = api.sessions.purge(Utc::now().timestamp_millis()).await {
            warn!(error = %error, "expired sessions could not be removed");
        }
        let head = *api.tail.head().borrow();
        metrics::gauge!("marvin_log_position").set(head as f64);
        metrics::gauge!("marvin_tasks_running").set(worker.running_count() as f64);
        for (projection, position) in api.views.all_reached() {
            metrics::gauge!("marvin_projection_lag_events", "projection" => projection)
                .set(head.saturating_sub(position) as f64);
        }
    }
}
