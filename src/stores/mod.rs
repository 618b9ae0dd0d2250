//! The stores of this process, and what is built straight on them. The only place that knows the mode: embedded, on the files of a
//! data directory, or services, on PostgreSQL.
use secrecy::ExposeSecret;
use std::{path::Path, sync::Arc};
use uuid::Uuid;

use crate::{
    agent::slots::Slots,
    broker::{Broker, local::LocalBroker, rabbit::RabbitBroker},
    cache::{Cache, guarded::Guarded, memory::MemoryCache, redis::RedisCache},
    config::Settings,
    datadir::{DataDir, DataDirError},
    dispatch::DispatchError,
    doctor::Doctor,
    duty::Duties,
    erasure::{self, ErasedInLog, followed},
    health::Health,
    log::{
        EventLog,
        checkpoint::{Checkpoint, Checkpoints},
        codec::Codec,
        incarnation::Incarnations,
    },
    postgres::{Postgres, PrepareError},
    rollback::{Place, SetBack},
    security::{
        keyfile::KeyFileError,
        sealer::Sealer,
        subjects::{SubjectStore, SubjectsError},
    },
    sqlite::OpenError,
    store::StoreError,
    upkeep::Upkeep,
    views::{ViewError, ViewStore},
};

mod embedded;
mod services;

/// Why the program does not start: one sentence for whoever started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Absent(String),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Database(#[from] PrepareError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Subjects(#[from] SubjectsError),
    #[error("{missing} is missing beside {present}: put it back from a backup; nothing was changed")]
    Missing { missing: String, present: String },
    #[error(transparent)]
    SetBack(SetBack),
    #[error("the store cannot be prepared")]
    Store(#[from] StoreError),
    #[error("the views cannot be prepared")]
    Views(#[from] ViewError),
    #[error("the log cannot be read")]
    Log(#[from] DispatchError),
    #[error("the cache cannot be used: {0}")]
    Cache(String),
    #[error("the broker cannot be used: {0}")]
    Broker(String),
    #[error("nobody outside can be called: {0}")]
    Egress(String),
    #[error("the first administrator cannot be created: {0}")]
    Administrator(String),
}

/// Opened and owned by this process.
pub struct Stores {
    pub log: Arc<dyn EventLog>,
    pub subjects: Arc<dyn SubjectStore>,
    pub views: Arc<dyn ViewStore>,
    pub slots: Arc<dyn Slots>,
    pub duties: Arc<dyn Duties>,
    pub checkpoints: Arc<dyn Checkpoints>,
    pub sealer: Arc<Sealer>,
    pub codec: Codec,
    /// The history that the log tells.
    pub incarnation: Uuid,
    pub upkeep: Arc<Upkeep>,
    pub doctor: Arc<Doctor>,
    /// What was ahead of the log and was set back with it; empty unless that was accepted.
    pub accepted: Vec<SetBack>,
    /// People whose erasure the log had forgotten with what was cut off, and tells of again.
    pub erased_again: Vec<Uuid>,
    redis: Option<Arc<RedisCache>>,
    broker: Arc<dyn Broker>,
    incarnations: Arc<dyn Incarnations>,
    /// The log's file, in embedded mode.
    file: Option<crate::sqlite::Database>,
    /// Held for as long as the stores are open, where it is taken.
    _data_dir: Option<DataDir>,
}

/// What differs by mode, before anything is built on it.
struct Opened {
    log: Arc<dyn EventLog>,
    subjects: Arc<dyn SubjectStore>,
    views: Arc<dyn ViewStore>,
    slots: Arc<dyn Slots>,
    duties: Arc<dyn Duties>,
    checkpoints: Arc<dyn Checkpoints>,
    incarnations: Arc<dyn Incarnations>,
    upkeep: Upkeep,
    set_back: Vec<SetBack>,
    /// The log's last event.
    end: Checkpoint,
    file: Option<crate::sqlite::Database>,
    data_dir: Option<DataDir>,
}

/// How stores are opened.
#[derive(Debug, Clone, Copy)]
struct How {
    takes_data_dir: bool,
    accepts_rollback: bool,
}

impl Stores {
    /// Refuses settings under which nothing was ever started: opening would make a new instance, and a mistyped directory must not
    /// pass for a healthy one. In a database the log is elsewhere; what every node has is the key file.
    ///
    /// # Errors
    /// `Absent`.
    pub async fn require(settings: &Settings) -> Result<(), StartError> {
        let (file, what) = match settings.database_url {
            Some(_) => (settings.key_file.clone(), "is missing: no node was started here"),
            None => (settings.data_dir.join("log.db"), "is missing: the directory holds no log"),
        };
        if !file.exists() {
            return Err(StartError::Absent(format!("{} {what}", file.display())));
        }
        let instance = &settings.instance;
        match &settings.database_url {
            Some(url) if !Postgres::has_instance(url.expose_secret(), instance).await? => {
                Err(StartError::Absent(format!("the database holds no instance {instance}")))
            }
            _ => Ok(()),
        }
    }

    /// Opens the stores that the settings name, or makes them. What does not fit together stays as it is.
    ///
    /// # Errors
    /// See [`StartError`]; `SetBack` where a checkpoint does not fit the log.
    pub async fn open(settings: &Settings) -> Result<Self, StartError> {
        Self::open_with(settings, How { takes_data_dir: true, accepts_rollback: false }).await
    }

    /// As [`open`](Self::open), beside other processes that use the same key file: the data directory stays theirs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open_beside(settings: &Settings) -> Result<Self, StartError> {
        Self::open_with(settings, How { takes_data_dir: false, accepts_rollback: false }).await
    }

    /// As [`open`](Self::open), but a log that was set back is accepted: what is ahead of it begins anew, and so does its
    /// history. Changes nothing where everything fits.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open_accepting_rollback(settings: &Settings) -> Result<Self, StartError> {
        Self::open_with(settings, How { takes_data_dir: true, accepts_rollback: true }).await
    }

    async fn open_with(settings: &Settings, how: How) -> Result<Self, StartError> {
        let opened = match &settings.database_url {
            None => embedded::open(settings, how.accepts_rollback).await?,
            Some(url) => services::open(settings, url, how).await?,
        };
        let Opened { log, subjects, views, slots, duties, checkpoints, incarnations, upkeep, .. } = opened;
        let Opened { set_back, end, file, data_dir, .. } = opened;
        let redis = settings.redis_url.as_ref().map(|url| {
            let redis = RedisCache::new(url.expose_secret(), &settings.instance, subjects.facts_key());
            redis.map(Arc::new).map_err(|error| StartError::Cache(error.to_string()))
        });
        let redis = redis.transpose()?;
        let broker: Arc<dyn Broker> = match &settings.amqp_url {
            None => Arc::new(LocalBroker::default()),
            Some(url) => {
                let rabbit = RabbitBroker::new(url.expose_secret(), &settings.instance).map_err(StartError::Broker)?;
                Arc::new(rabbit)
            }
        };
        let erased = Arc::new(ErasedInLog::new(log.clone()));
        let sealer = Arc::new(Sealer::new(settings.cipher, subjects.clone(), erased));
        let codec = Codec::new(sealer.clone());
        let (read, read_views) = (log.clone(), views.clone());
        let doctor = Doctor::new(read, codec.clone(), sealer.clone(), read_views, incarnations.clone(), file.is_some());
        let mut stores = Self {
            log,
            subjects,
            views,
            slots,
            duties,
            checkpoints,
            codec,
            sealer,
            incarnation: incarnations.newest().await?.id,
            upkeep: Arc::new(upkeep),
            doctor: Arc::new(doctor),
            accepted: set_back,
            erased_again: Vec::new(),
            redis,
            broker,
            incarnations,
            file,
            _data_dir: data_dir,
        };
        if !stores.accepted.is_empty() {
            stores.set_back(end).await?;
        }
        // Where the duties were restored without the views, the tables demand newer tokens than the duties know of.
        for row in stores.views.tables().await? {
            stores.duties.pass(&row.table.duty(), row.token).await?;
        }
        Ok(stores)
    }

    /// The new history is drawn first: after a crash in between, what is still ahead of the log is found again.
    async fn set_back(&mut self, end: Checkpoint) -> Result<(), StartError> {
        self.incarnation = self.incarnations.draw(end).await?.id;
        // A log that went on another way may know people whose keys stand in other subjects: those are not to be given up.
        if self.accepted.iter().any(|ahead| ahead.place == Place::Subjects && ahead.is_beyond_the_end()) {
            self.erased_again = erasure::record_lost(&self.log, &self.codec, &*self.subjects).await?;
        }
        for SetBack { place, follower, .. } in &self.accepted {
            match place {
                Place::Views => forget(&*self.views, follower).await?,
                Place::Log => self.checkpoints.store(follower, Checkpoint::START).await?,
                Place::Subjects => self.subjects.put_checkpoint(follower, Checkpoint::START).await?,
            }
        }
        Ok(())
    }

    /// Where documents are cached: in Redis, or in this process. A Redis that is away is passed over, and told of in `health`.
    pub fn cache(&self, health: &Health) -> Arc<dyn Cache> {
        match &self.redis {
            Some(redis) => Arc::new(Guarded::new(redis.clone(), health.clone())),
            None => Arc::new(MemoryCache::default()),
        }
    }

    /// What moves work and events: RabbitMQ, or this process.
    pub fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    /// Finishes what was handed in and leaves each file whole. Nothing is written to files from then on.
    pub async fn close(&self) {
        self.upkeep.stop();
        self.doctor.stop().await;
        let log = match &self.file {
            Some(file) => file.close().await.map_err(|error| error.to_string()),
            None => Ok(()),
        };
        let views = self.views.close().await.map_err(|error| error.to_string());
        let subjects = self.subjects.close().await.map_err(|error| error.to_string());
        for (file, closed) in [("log.db", log), ("views.db", views), ("subjects.db", subjects)] {
            if let Err(error) = closed {
                tracing::warn!(file, error, "the newest changes stay in the write-ahead log beside the file");
            }
        }
    }
}

/// How far erasures are done, as a checkpoint to compare with the log.
async fn erasures(subjects: &dyn SubjectStore) -> Result<Option<(String, Checkpoint)>, SubjectsError> {
    Ok(followed(subjects).await?.map(|checkpoint| (erasure::NAME.to_owned(), checkpoint)))
}

/// Drops the table of this name, so that the log builds it anew.
async fn forget(views: &dyn ViewStore, table: &str) -> Result<(), ViewError> {
    for row in views.tables().await?.iter().filter(|row| row.table.to_string() == table) {
        views.drop_table(&row.table).await?;
    }
    Ok(())
}

fn refuse(set_back: &[SetBack], accepts_rollback: bool) -> Result<(), StartError> {
    match set_back.first() {
        Some(first) if !accepts_rollback => Err(StartError::SetBack(first.clone())),
        _ => Ok(()),
    }
}

fn missing(missing: &Path, present: &Path) -> StartError {
    StartError::Missing { missing: missing.display().to_string(), present: present.display().to_string() }
}
