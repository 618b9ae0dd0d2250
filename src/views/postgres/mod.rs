//! Views in a schema of PostgreSQL that all nodes share. It may be dropped at any time.
use async_trait::async_trait;
use futures_util::future::try_join;
use marvin_domain::Position;
use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, PoisonError},
};
use tokio_postgres::{Row, error::SqlState};
use uuid::Uuid;

use super::{
    ABSENCE_MIN, Found, ListQuery, Page, SealedDocument, State, Stopped, Table, TableRow, ViewError, ViewId, ViewStore,
    sql::{self, Dialect, Wanted},
};
use crate::{
    log::checkpoint::Checkpoint,
    postgres::{Parameter, Postgres, STATEMENT_TIMEOUT, settle, views_schema},
    store::StoreError,
};

mod documents;
mod registry;

#[derive(Debug)]
pub struct PostgresViews {
    postgres: Postgres,
    schema: String,
    /// The tables that stood in the registry when it was read last.
    known: Mutex<HashSet<Table>>,
}

impl PostgresViews {
    pub fn new(postgres: Postgres) -> Self {
        Self { schema: views_schema(postgres.instance()), postgres, known: Mutex::default() }
    }

    /// Up to the first document that comes without its body.
    async fn page(&self, table: &Table, query: &ListQuery, wanted: Wanted) -> Result<Page, ViewError> {
        let statement = sql::list(self.dialect(), table, query, wanted)?;
        let (mut rows, position) = documents::ask(self, table, statement).await?;
        rows.truncate(sql::asked(query));
        let (documents, is_cut) = documents::all(&rows, table)?;
        Ok(Page { documents, position, is_cut })
    }

    /// How lists are asked of it.
    pub fn dialect(&self) -> Dialect<'_> {
        Dialect { mark: '$', schema: Some(&self.schema), has_opinions: true, sends_all: true }
    }

    /// SQL in which `$S` is the schema.
    fn sql(&self, sql: &str) -> String {
        sql.replace("$S", &sql::quoted(&self.schema))
    }

    async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, ViewError> {
        self.postgres.query(&self.sql(sql), parameters).await.map_err(error_of)
    }

    /// No connection needs what it prepared for a table that is gone, whichever node dropped that.
    fn forget_dropped(&self, rows: &[TableRow]) {
        let standing: HashSet<Table> = rows.iter().map(|row| row.table.clone()).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = mem::replace(&mut *known, standing.clone());
        if known.iter().any(|table| !standing.contains(table)) {
            self.postgres.forget_statements();
        }
    }

    /// What `sql` answers, and the table's position, which is no later.
    async fn read(
        &self,
        table: &Table,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<(Vec<Row>, Position), ViewError> {
        let client = self.postgres.client().await?;
        let (name, version, build) = registry::key(table);
        let key: [Parameter<'_>; 3] = [&name, &version, &build];
        let reading = async {
            let position = client.prepare_cached(&self.sql(registry::POSITION)).await?;
            let asked = client.prepare_cached(sql).await?;
            // Sent without waiting in between. The server does one after the other.
            try_join(client.query(&position, &key), client.query(&asked, parameters)).await
        };
        let answered = tokio::time::timeout(STATEMENT_TIMEOUT, reading).await;
        let (position, rows) = settle(client, answered).map_err(error_of)?;
        let position = position.first().ok_or(ViewError::Gone)?;
        Ok((rows, position.get::<_, i64>(0).cast_unsigned()))
    }
}

/// Somebody dropped the table while it was asked for.
fn error_of(error: StoreError) -> ViewError {
    if error.is_of(&SqlState::UNDEFINED_TABLE) { ViewError::Gone } else { error.into() }
}

#[async_trait]
impl ViewStore for PostgresViews {
    async fn tables(&self) -> Result<Vec<TableRow>, ViewError> {
        let rows: Vec<TableRow> =
            self.query(&registry::tables(), &[]).await?.iter().filter_map(registry::row).collect();
        self.forget_dropped(&rows);
        Ok(rows)
    }

    async fn begin(&self, view: ViewId, target: Position) -> Result<TableRow, ViewError> {
        registry::begin(self, view, target).await
    }

    async fn take_over(&self, table: &Table, token: u64) -> Result<Checkpoint, ViewError> {
        registry::take_over(self, table, token).await
    }

    async fn load(&self, table: &Table, ids: &[Uuid]) -> Result<Page, ViewError> {
        let sql = format!("SELECT {} FROM {} WHERE id = ANY ($1)", sql::columns(table), self.dialect().name_of(table));
        let (rows, position) = self.read(table, &sql, &[&ids]).await?;
        Ok(Page { documents: documents::all(&rows, table)?.0, position, is_cut: false })
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
        if documents::store(self, table, &documents, behind, checkpoint, token).await? {
            return Ok(());
        }
        match registry::kept_up(self, table).await? {
            (stands, _) if stands != token => Err(ViewError::Fenced),
            (_, at) if at > checkpoint.position => Ok(()),
            (_, stands) if behind.is_some_and(|behind| behind != stands) => {
                Err(ViewError::SetBack { stands, expected: behind.unwrap_or_default() })
            }
            // It was cancelled, and taken up again since.
            _ => Err(ViewError::Gone),
        }
    }

    async fn list(&self, table: &Table, query: ListQuery) -> Result<Page, ViewError> {
        let small = self.page(table, &query, Wanted::SmallDocuments).await?;
        if small.is_cut { self.page(table, &query, Wanted::Documents).await } else { Ok(small) }
    }

    async fn find(&self, table: &Table, query: ListQuery) -> Result<Vec<Found>, ViewError> {
        let statement = sql::list(self.dialect(), table, &query, Wanted::Ids)?;
        let (mut rows, _) = documents::ask(self, table, statement).await?;
        rows.truncate(sql::asked(&query));
        Ok(rows.iter().map(documents::found).collect::<Result<_, _>>()?)
    }

    async fn make_live(&self, table: &Table, token: u64) -> Result<(), ViewError> {
        registry::make_live(self, table, token).await
    }

    async fn stop(&self, table: &Table, token: u64, stopped: Stopped) -> Result<(), ViewError> {
        registry::stop(self, table, token, &stopped).await
    }

    async fn resume(&self, table: &Table) -> Result<(), ViewError> {
        registry::resume(self, table).await
    }

    async fn cancel(&self, table: &Table) -> Result<(), ViewError> {
        registry::cancel(self, table).await
    }

    async fn retire(&self, table: &Table) -> Result<(), ViewError> {
        registry::retire(self, table).await
    }

    async fn drop_table(&self, table: &Table) -> Result<(), ViewError> {
        registry::drop_table(self, table).await
    }

    async fn lost_indexes(&self, table: &Table) -> Result<u64, ViewError> {
        registry::lost_indexes(self, table).await
    }

    async fn read_by_now(&self, tables: &[Table]) -> Result<(), ViewError> {
        registry::read_by_now(self, tables).await
    }

    /// Nothing stays behind: what is committed is the server's.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
