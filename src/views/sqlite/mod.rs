//! Views in one SQLite file that may be deleted at any time.
use async_trait::async_trait;
use marvin_domain::Position;
use rusqlite::Connection;
use std::path::Path;
use uuid::Uuid;

use super::{
    ABSENCE_MIN, Found, ListQuery, PAGE_BYTES_MAX, Page, SealedDocument, State, Stopped, Table, TableRow, ViewError,
    ViewId, ViewStore,
    sql::{self, Dialect, Wanted},
};
use crate::{
    log::checkpoint::{Checkpoint, sqlite::checkpoint_at},
    sqlite::{Database, Durability, Inspected, NOW_MS, OpenError},
    store::StoreError,
};

mod documents;
mod registry;

mod migrations {
    refinery::embed_migrations!("migrations/sqlite/views");
}

/// How lists are asked of it.
pub const DIALECT: Dialect<'static> = Dialect { mark: '?', schema: None, has_opinions: false, sends_all: false };

#[derive(Debug, Clone)]
pub struct SqliteViews {
    database: Database,
}

impl SqliteViews {
    /// Opens `views.db`, or makes it.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is then left as it is, and may be deleted.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::prepare(Self::inspect(path)?)
    }

    /// Opens `views.db` without writing to it.
    ///
    /// # Errors
    /// See [`Inspected::open`].
    pub fn inspect(path: &Path) -> Result<Inspected, OpenError> {
        Inspected::open(path, Durability::Crash, migrations::migrations::runner())
    }

    /// The tables in a file that was only looked at, by what the store calls them, each with its checkpoint.
    ///
    /// # Errors
    /// See [`Inspected::look`].
    pub fn kept(inspected: &Inspected) -> Result<Vec<(String, Checkpoint)>, OpenError> {
        if !inspected.has_table("tables")? {
            return Ok(Vec::new());
        }
        inspected
            .look(registry::tables)
            .map(|rows| rows.into_iter().map(|row| (row.table.to_string(), row.checkpoint)).collect())
    }

    /// # Errors
    /// See [`Inspected::prepare`].
    pub fn prepare(inspected: Inspected) -> Result<Self, OpenError> {
        Ok(Self { database: inspected.prepare()? })
    }

    /// Clears away what a process before this one had begun to drop.
    ///
    /// # Errors
    /// `Unavailable`; what is left then takes up room until this is called again.
    pub async fn finish_dropping(&self) -> Result<(), ViewError> {
        let left: Vec<Table> =
            self.database.read(|connection| registry::dropped(connection).map_err(StoreError::from)).await?;
        for table in &left {
            self.clear_away(table).await?;
        }
        Ok(())
    }

    /// A piece at a time, so that others write in between.
    async fn clear_away(&self, table: &Table) -> Result<(), ViewError> {
        while !self.change(table, |connection, table| Ok(registry::go_on_dropping(connection, table)?)).await? {}
        Ok(())
    }

    /// As of one moment: the table's position, and what `ask` answers.
    async fn read<T, F>(&self, table: &Table, ask: F) -> Result<(T, Position), ViewError>
    where
        F: FnOnce(&Connection, &Table) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let table = table.clone();
        self.database
            .read(move |connection| {
                let moment = connection.unchecked_transaction().map_err(StoreError::from)?;
                let checkpoint = registry::checkpoint(&moment, &table).map_err(StoreError::from)?;
                let position = checkpoint.ok_or(ViewError::Gone)?.position;
                let found = ask(&moment, &table).map_err(StoreError::from)?;
                Ok((found, position))
            })
            .await
    }

    /// Runs `change` on the writer.
    async fn change<T, F>(&self, table: &Table, change: F) -> Result<T, ViewError>
    where
        F: FnOnce(&Connection, &Table) -> Result<T, ViewError> + Send + 'static,
        T: Send + 'static,
    {
        let table = table.clone();
        self.database.write(move |connection| change(connection, &table)).await
    }
}

#[async_trait]
impl ViewStore for SqliteViews {
    async fn tables(&self) -> Result<Vec<TableRow>, ViewError> {
        self.database.read(|connection| Ok(registry::tables(connection).map_err(StoreError::from)?)).await
    }

    async fn begin(&self, view: ViewId, target: Position) -> Result<TableRow, ViewError> {
        self.database.write(move |connection| registry::begin(connection, view, target)).await
    }

    async fn take_over(&self, table: &Table, token: u64) -> Result<Checkpoint, ViewError> {
        self.change(table, move |connection, table| registry::take_over(connection, table, token)).await
    }

    async fn load(&self, table: &Table, ids: &[Uuid]) -> Result<Page, ViewError> {
        let ids = ids.to_vec();
        let load = move |connection: &Connection, table: &Table| documents::load(connection, table, &ids);
        let (documents, position) = self.read(table, load).await?;
        Ok(Page { documents, position, is_cut: false })
    }

    async fn store_behind(
        &self,
        table: &Table,
        documents: Vec<SealedDocument>,
        behind: Option<Position>,
        checkpoint: Checkpoint,
        token: u64,
    ) -> Result<(), ViewError> {
        table.check(&documents)?;
        self.change(table, move |connection, table| {
            let stands = registry::held(connection, table, token)?.position;
            if stands > checkpoint.position {
                return Ok(());
            }
            if let Some(expected) = behind.filter(|behind| *behind != stands) {
                return Err(ViewError::SetBack { stands, expected });
            }
            documents::store(connection, table, &documents).map_err(StoreError::from)?;
            Ok(registry::move_to(connection, table, checkpoint).map_err(StoreError::from)?)
        })
        .await
    }

    async fn list(&self, table: &Table, query: ListQuery) -> Result<Page, ViewError> {
        let (statement, asked) = (sql::list(DIALECT, table, &query, Wanted::Documents)?, sql::asked(&query));
        let list = move |connection: &Connection, table: &Table| documents::list(connection, table, statement, asked);
        let ((documents, is_cut), position) = self.read(table, list).await?;
        Ok(Page { documents, position, is_cut })
    }

    async fn find(&self, table: &Table, query: ListQuery) -> Result<Vec<Found>, ViewError> {
        let (statement, asked) = (sql::list(DIALECT, table, &query, Wanted::Ids)?, sql::asked(&query));
        let find = move |connection: &Connection, _: &Table| documents::find(connection, statement, asked);
        Ok(self.read(table, find).await?.0)
    }

    async fn make_live(&self, table: &Table, token: u64) -> Result<(), ViewError> {
        self.change(table, move |connection, table| registry::make_live(connection, table, token)).await
    }

    async fn stop(&self, table: &Table, token: u64, stopped: Stopped) -> Result<(), ViewError> {
        self.change(table, move |connection, table| {
            registry::held(connection, table, token)?;
            registry::set_stopped(connection, table, Some(&stopped))
        })
        .await
    }

    async fn resume(&self, table: &Table) -> Result<(), ViewError> {
        self.change(table, |connection, table| registry::set_stopped(connection, table, None)).await
    }

    async fn cancel(&self, table: &Table) -> Result<(), ViewError> {
        self.change(table, registry::cancel).await
    }

    async fn retire(&self, table: &Table) -> Result<(), ViewError> {
        self.change(table, registry::retire).await
    }

    async fn drop_table(&self, table: &Table) -> Result<(), ViewError> {
        self.change(table, |connection, table| Ok(registry::begin_drop(connection, table)?)).await?;
        self.clear_away(table).await
    }

    async fn lost_indexes(&self, table: &Table) -> Result<u64, ViewError> {
        let table = table.clone();
        Ok(self
            .database
            .read(move |connection| Ok::<_, StoreError>(registry::lost_indexes(connection, &table)?))
            .await?)
    }

    async fn read_by_now(&self, tables: &[Table]) -> Result<(), ViewError> {
        let tables = tables.to_vec();
        self.database
            .write(move |connection| {
                registry::forgive_absence(connection)?;
                Ok::<_, StoreError>(tables.iter().try_for_each(|table| registry::read_by_now(connection, table))?)
            })
            .await
            .map_err(ViewError::from)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.database.close().await
    }
}
