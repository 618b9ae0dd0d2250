//! Services mode: log, subjects and read models in PostgreSQL, which any number of nodes share. A node's own data directory holds
//! the key file.
use marvin_domain::Position;
use secrecy::{ExposeSecret, SecretString};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

use super::{How, Opened, StartError, erasures, refuse};
use crate::{
    agent::slots::postgres::PostgresSlots,
    config::Settings,
    datadir::DataDir,
    duty::postgres::PostgresDuties,
    log::{
        EventLog, ReadError,
        checkpoint::{Checkpoint, postgres::PostgresCheckpoints},
        incarnation::postgres::PostgresIncarnations,
        postgres::PostgresLog,
    },
    postgres::Postgres,
    rollback::{Place, Standing, compare},
    security::{
        keyfile::MasterKey,
        subjects::{SubjectsError, postgres::PostgresSubjects},
    },
    store::StoreError,
    upkeep::Upkeep,
    views::{ViewStore, postgres::PostgresViews},
};

pub(super) async fn open(settings: &Settings, url: &SecretString, how: How) -> Result<Opened, StartError> {
    let data_dir = how.takes_data_dir.then(|| DataDir::take(&settings.data_dir)).transpose()?;
    let postgres = Postgres::prepare(url.expose_secret(), &settings.instance).await?;
    let log = Arc::new(PostgresLog::start(postgres.clone()).await?);
    let head = *log.head().borrow();
    // A key file is made only for a store that holds nothing yet: for the first node.
    let is_new = head == 0 && !PostgresSubjects::holds_keys(&postgres).await?;
    let made = !settings.key_file.exists();
    let key = Arc::new(MasterKey::load_or_create(&settings.key_file, is_new)?);
    let subjects = match PostgresSubjects::open(postgres.clone(), key.clone(), head == 0).await {
        Ok(subjects) => Arc::new(subjects),
        Err(error) => {
            // Another first node was faster: what was just made here opens nothing, and must not look like a key to keep.
            if is_new && made && matches!(error, SubjectsError::WrongKey(_)) {
                std::fs::remove_file(&settings.key_file).ok();
            }
            return Err(error.into());
        }
    };

    let (checkpoints, views) = (PostgresCheckpoints(postgres.clone()), PostgresViews::new(postgres.clone()));
    let rows = views.tables().await?;
    let in_views: Vec<_> = rows.into_iter().map(|row| (row.table.to_string(), row.checkpoint)).collect();
    let (in_log, in_subjects) = (checkpoints.all().await?, erasures(&*subjects).await?);
    let kept = in_views.iter().chain(&in_log).chain(&in_subjects).map(|(_, checkpoint)| checkpoint.position);
    let events = Events::at(&*log, kept.chain([head])).await?;
    let mut set_back = compare(&events, Place::Views, "the store of views", in_views)?;
    set_back.extend(compare(&events, Place::Log, "the table of checkpoints", in_log)?);
    set_back.extend(compare(&events, Place::Subjects, "the store of subjects", in_subjects)?);
    refuse(&set_back, how.accepts_rollback)?;

    let end = Checkpoint { position: head, event_id: events.event_at(head)?.unwrap_or_default() };
    Ok(Opened {
        slots: Arc::new(PostgresSlots(postgres.clone())),
        duties: Arc::new(PostgresDuties(postgres.clone())),
        checkpoints: Arc::new(checkpoints),
        incarnations: Arc::new(PostgresIncarnations(postgres)),
        upkeep: Upkeep::of_keys(subjects.clone(), key),
        log,
        subjects,
        views: Arc::new(views),
        set_back,
        end,
        file: None,
        data_dir,
    })
}

/// The log at some of its positions, read beforehand.
struct Events {
    head: Position,
    ids: HashMap<Position, Uuid>,
}

impl Events {
    async fn at(log: &dyn EventLog, positions: impl Iterator<Item = Position>) -> Result<Self, StartError> {
        let mut ids = HashMap::new();
        for position in positions.filter(|position| *position > 0) {
            let found = log.read(position - 1, 1).await.map_err(|error| match error {
                ReadError::Unavailable(error) => StartError::Store(error),
                other => StartError::Log(other.into()),
            })?;
            ids.extend(
                found.first().filter(|event| event.position == position).map(|event| (position, event.event_id)),
            );
        }
        Ok(Self { head: *log.head().borrow(), ids })
    }
}

impl Standing for Events {
    type Error = StoreError;
    const NAME: &str = "the log";

    fn head(&self) -> Result<Position, StoreError> {
        Ok(self.head)
    }

    fn event_at(&self, position: Position) -> Result<Option<Uuid>, StoreError> {
        Ok(self.ids.get(&position).copied())
    }
}
