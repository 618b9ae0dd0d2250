//! Makes the instance's schemas, tables and role, or brings them up to date. Safe from several nodes at once.
use refinery::Runner;
use std::{sync::Arc, time::Duration};
use tokio_postgres::{Client, Config};

use super::{Parameter, Postgres, STATEMENT_TIMEOUT, app_role, subjects_schema, views_schema};
use crate::store::{StoreError, chain};

mod log {
    refinery::embed_migrations!("migrations/postgres/log");
}
mod subjects {
    refinery::embed_migrations!("migrations/postgres/subjects");
}
mod views {
    refinery::embed_migrations!("migrations/postgres/views");
}

/// Nodes that start together migrate one after the other. The number is the lock's name, and means nothing.
const MIGRATION_LOCK: &str = "hashtextextended('marvin migrations', 20261122)";

/// How long a node waits for another one that migrates.
const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// What the runtime may do with each table. Whoever can run Marvin's statements cannot change or delete an event.
const LOG_GRANTS: &str = "GRANT SELECT, INSERT ON events, incarnations TO {role}; \
    GRANT SELECT, INSERT, UPDATE ON duties TO {role}; \
    GRANT SELECT, INSERT, UPDATE, DELETE ON checkpoints, leases TO {role}";
const SUBJECTS_GRANTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON instance_keys, subjects, credentials, sessions, secrets, checkpoints TO {role}";
/// The runtime makes the tables of documents itself, and owns them.
const VIEWS_GRANTS: &str = "GRANT CREATE ON SCHEMA {schema} TO {role}; \
    GRANT SELECT, INSERT, UPDATE, DELETE ON tables, builds, notes TO {role}";
/// Nobody else runs the functions, some of which run as their owner.
const FUNCTION_GRANTS: &str = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC; \
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}";
/// Whether the role has all of that. A restored dump may lack it, when the role was not there.
const IS_GRANTED: &str = "SELECT has_schema_privilege($1::text::name, $2::text, 'USAGE') \
    AND (NOT $3 OR has_schema_privilege($1::text::name, $2::text, 'CREATE')) \
    AND (SELECT bool_and(has_table_privilege($1::text::name, oid, 'SELECT') AND has_table_privilege($1::text::name, oid, 'INSERT')) FROM pg_class \
         WHERE relnamespace = to_regnamespace($2::text) AND relkind = 'r' AND relname <> 'refinery_schema_history') \
    AND (SELECT bool_and(has_function_privilege($1::text::name, oid, 'EXECUTE')) FROM pg_proc WHERE pronamespace = to_regnamespace($2::text))";
/// Functions look into their schema, then into the system's, and never first into what a session made for itself.
const FUNCTION_PATHS: &str = "SELECT format('ALTER FUNCTION %s SET search_path = %I, pg_catalog, pg_temp', oid::regprocedure, $1::text) \
    FROM pg_proc WHERE pronamespace = to_regnamespace($1::text)";

/// Tables of documents that are somebody else's, as a dump may leave them that was restored without owners.
const FOREIGN_TABLES: &str = "SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, $1::text) FROM pg_class \
    WHERE relnamespace = to_regnamespace($2::text) AND relkind = 'r' AND relname LIKE 'view\\_%' \
        AND relowner <> $1::text::regrole";

/// Why the database cannot be used. Each is one sentence for the person who started the program.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("MARVIN_DATABASE_URL is not a PostgreSQL URL: {0}")]
    Url(String),
    #[error("the database that MARVIN_DATABASE_URL names cannot be reached: {0}")]
    Unreachable(String),
    #[error("the schema {schema} was made by a newer Marvin: start that version, or a newer one")]
    Newer { schema: String },
    #[error("the schema {schema} cannot be migrated: {reason}")]
    Migration { schema: String, reason: String },
}

impl Postgres {
    /// Connects to the database that `url` names, and makes or migrates the tables of `instance` there.
    ///
    /// The user of the URL needs the right to create schemas and a role once, and none of that later.
    ///
    /// # Errors
    /// See [`PrepareError`]. A migration that failed left nothing half done.
    pub async fn prepare(url: &str, instance: &str) -> Result<Self, PrepareError> {
        let config: Config = url.parse().map_err(|error| PrepareError::Url(chain(&error)))?;
        let postgres = Self::new(config, instance).map_err(PrepareError::Unreachable)?;
        let unreachable = |error: StoreError| PrepareError::Unreachable(chain(&error));
        let (mut client, wire) = postgres.dedicated().await.map_err(unreachable)?;
        // Ends with the client.
        tokio::spawn(wire);
        let locking = format!("SET lock_timeout = {}", MIGRATION_LOCK_TIMEOUT.as_millis());
        let locking = format!("{locking}; SELECT pg_advisory_lock({MIGRATION_LOCK}); SET lock_timeout = 0");
        // The server gives up first, and says that it waited for a lock.
        let patience = MIGRATION_LOCK_TIMEOUT + STATEMENT_TIMEOUT;
        let locked = tokio::time::timeout(patience, client.batch_execute(&locking)).await;
        let locked = locked.map_err(|late| unreachable(StoreError::Unreachable(Arc::new(late))))?;
        locked.map_err(|error| unreachable(error.into()))?;
        make_role(&client, instance).await?;
        let parts = [
            (instance.to_owned(), log::migrations::runner(), LOG_GRANTS),
            (subjects_schema(instance), subjects::migrations::runner(), SUBJECTS_GRANTS),
            (views_schema(instance), views::migrations::runner(), VIEWS_GRANTS),
        ];
        for (schema, runner, grants) in parts {
            Part { schema, runner, grants }.migrate(&mut client, &app_role(instance)).await?;
        }
        Ok(postgres)
    }
}

impl Postgres {
    /// Whether `instance` has tables in the database that `url` names. Makes nothing.
    ///
    /// # Errors
    /// `Url` or `Unreachable`.
    pub async fn has_instance(url: &str, instance: &str) -> Result<bool, PrepareError> {
        let config: Config = url.parse().map_err(|error| PrepareError::Url(chain(&error)))?;
        let unreachable = |error: StoreError| PrepareError::Unreachable(chain(&error));
        let (client, wire) =
            Self::new(config, instance).map_err(PrepareError::Unreachable)?.dedicated().await.map_err(unreachable)?;
        tokio::spawn(wire);
        let asking = async { client.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&instance]).await };
        let found = tokio::time::timeout(STATEMENT_TIMEOUT, asking).await;
        let found = found.map_err(|late| unreachable(StoreError::Unreachable(Arc::new(late))))?;
        Ok(found.map_err(|error| unreachable(error.into()))?.is_some())
    }
}

struct Part {
    schema: String,
    runner: Runner,
    grants: &'static str,
}

impl Part {
    async fn migrate(self, client: &mut Client, role: &str) -> Result<(), PrepareError> {
        let Self { schema, runner, grants } = self;
        let failed = |reason: String| PrepareError::Migration { schema: schema.clone(), reason };
        let quoted = format!("\"{schema}\"");
        // Making what is there would need the right to make it.
        let exists = client.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&schema]).await;
        if exists.map_err(|error| failed(chain(&error)))?.is_none() {
            run(client, &format!("CREATE SCHEMA {quoted}")).await.map_err(failed)?;
        }
        run(client, &format!("SET search_path = {quoted}")).await.map_err(failed)?;
        let newest = newest(client).await.map_err(failed)?;
        let known = runner.get_migrations().iter().map(|migration| migration.version()).max();
        if newest > known {
            return Err(PrepareError::Newer { schema });
        }
        if newest != known {
            runner.run_async(client).await.map_err(|error| failed(chain(&error)))?;
        }
        let foreign = statements(client, FOREIGN_TABLES, &[&role, &schema]).await.map_err(failed)?;
        if newest == known && foreign.is_empty() && is_granted(client, &schema, role, grants).await.map_err(failed)? {
            return Ok(());
        }
        let grants = format!("GRANT USAGE ON SCHEMA {{schema}} TO {{role}}; {grants}; {FUNCTION_GRANTS}")
            .replace("{schema}", &quoted)
            .replace("{role}", &format!("\"{role}\""));
        let paths = statements(client, FUNCTION_PATHS, &[&schema]).await.map_err(failed)?;
        run(client, &[vec![grants], paths, foreign].concat().join("; ")).await.map_err(failed)
    }
}

async fn is_granted(client: &Client, schema: &str, role: &str, grants: &str) -> Result<bool, String> {
    let may_create = grants.contains("CREATE");
    let row = client.query_one(IS_GRANTED, &[&role, &schema, &may_create]).await.map_err(|error| chain(&error))?;
    Ok(row.get::<_, Option<bool>>(0).unwrap_or(false))
}

/// The statements that a query writes.
async fn statements(client: &Client, query: &str, parameters: &[Parameter<'_>]) -> Result<Vec<String>, String> {
    let rows = client.query(query, parameters).await.map_err(|error| chain(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The last migration that was applied in the schema on the search path.
async fn newest(client: &Client) -> Result<Option<i64>, String> {
    let has_history = client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await;
    if !has_history.map_err(|error| chain(&error))?.get::<_, bool>(0) {
        return Ok(None);
    }
    let newest = client.query_one("SELECT max(version)::bigint FROM refinery_schema_history", &[]).await;
    Ok(newest.map_err(|error| chain(&error))?.get(0))
}

/// The role that every runtime connection takes on, and the right of this user to take it on.
async fn make_role(client: &Client, instance: &str) -> Result<(), PrepareError> {
    let role = app_role(instance);
    let failed = |reason: String| PrepareError::Migration { schema: instance.to_owned(), reason };
    // From 16 on, who makes a role is a member of it without the right to take it on.
    let asked = "SELECT CASE WHEN current_setting('server_version_num')::integer >= 160000 \
                 THEN pg_has_role(current_user, oid, 'SET') ELSE pg_has_role(current_user, oid, 'MEMBER') END \
                 FROM pg_roles WHERE rolname = $1";
    let member = client.query_opt(asked, &[&role]).await.map_err(|error| failed(chain(&error)))?;
    if member.is_none() {
        run(client, &format!("CREATE ROLE \"{role}\" NOLOGIN")).await.map_err(failed)?;
    }
    if member.is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    run(client, &format!("GRANT \"{role}\" TO CURRENT_USER")).await.map_err(failed)
}

async fn run(client: &Client, sql: &str) -> Result<(), String> {
    client.batch_execute(sql).await.map_err(|error| chain(&error))
}
