//! Embedded mode: three files of a data directory, which one process owns.
use marvin_domain::Position;
use std::{path::Path, sync::Arc};
use uuid::Uuid;

use super::{Opened, StartError, erasures, missing, refuse};
use crate::{
    agent::slots::sqlite::SqliteSlots,
    config::Settings,
    datadir::{DataDir, DataDirError},
    duty::sqlite::SqliteDuties,
    log::{
        checkpoint::{
            Checkpoint,
            sqlite::{SqliteCheckpoints, kept},
        },
        incarnation::sqlite::SqliteIncarnations,
        sqlite::SqliteLog,
    },
    rollback::{Place, Standing, compare},
    security::{
        keyfile::MasterKey,
        subjects::{SqliteSubjects, sqlite::holds_data},
    },
    sqlite::{Inspected, OpenError},
    store::chain,
    upkeep::Upkeep,
    views::sqlite::SqliteViews,
};

/// Opens the data directory, or makes it. Every file is looked at before any is written.
pub(super) async fn open(settings: &Settings, accepts_rollback: bool) -> Result<Opened, StartError> {
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
    let mut set_back = compare(&log, Place::Views, "views.db", SqliteViews::kept(&views)?)?;
    set_back.extend(compare(&log, Place::Log, "log.db", kept(&log)?)?);
    refuse(&set_back, accepts_rollback)?;
    let subjects = Arc::new(subjects.prepare().await?);
    let erasures = erasures(&*subjects).await?;
    set_back.extend(compare(&log, Place::Subjects, "subjects.db", erasures)?);
    refuse(&set_back, accepts_rollback)?;

    let end = Checkpoint { position: head, event_id: SqliteLog::event_at(&log, head)?.unwrap_or_default() };
    let (log, views) = (Arc::new(SqliteLog::prepare(log)?), Arc::new(SqliteViews::prepare(views)?));
    let cleared = views.clone();
    tokio::spawn(async move {
        if let Err(error) = cleared.finish_dropping().await {
            tracing::warn!(error = chain(&error), "a view that was dropped still takes up room");
        }
    });
    let (slots, duties) = (SqliteSlots(log.database().clone()), SqliteDuties(log.database().clone()));
    // The lock on the data directory proves that whoever held a slot or a duty in a process before is gone.
    slots.release_inside().await?;
    duties.release_all().await?;
    Ok(Opened {
        slots: Arc::new(slots),
        duties: Arc::new(duties),
        checkpoints: Arc::new(SqliteCheckpoints(log.database().clone())),
        incarnations: Arc::new(SqliteIncarnations(log.database().clone())),
        file: Some(log.database().clone()),
        upkeep: Upkeep::of_files(log.clone(), subjects.clone(), key),
        log,
        subjects,
        views,
        set_back,
        end,
        data_dir: Some(data_dir),
    })
}

/// The log's file before anything is written to it.
impl Standing for Inspected {
    type Error = OpenError;
    const NAME: &str = "log.db";

    fn head(&self) -> Result<Position, OpenError> {
        SqliteLog::last_position(self)
    }

    fn event_at(&self, position: Position) -> Result<Option<Uuid>, OpenError> {
        SqliteLog::event_at(self, position)
    }
}
