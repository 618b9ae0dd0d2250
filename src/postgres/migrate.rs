//! Makes the instance's schemas, tables and role, or brings them up to date. Safe from several nodes at once.
use refinery::Runner;
use tokio_postgres::{Client, Config};

use super::{Postgres, app_role, subjects_schema};
use crate::store::StoreError;

mod log {
    refinery::embed_migrations!("migrations/postgres/log");
}
mod subjects {
    refinery::embed_migrations!("migrations/postgres/subjects");
}

/// Nodes that start together migrate one after the other. The number is the lock's name, and means nothing.
const MIGRATION_LOCK: &str = "hashtextextended('marvin migrations', 20261122)";

/// What the runtime may do with each table. Whoever can run Marvin's statements cannot change or delete an event.
const LOG_GRANTS: &str = "GRANT SELECT, INSERT ON events, incarnations TO {role}; \
    GRANT SELECT, INSERT, UPDATE, DELETE ON checkpoints, leases TO {role}";
const SUBJECTS_GRANTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}";

/// Why the database cannot be used. Each is one sentence for the person who started the program.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("MARVIN_DATABASE_URL is not a PostgreSQL URL: {0}")]
    Url(String),
    #[error("the database cannot be reached: {0}")]
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
        let config: Config = url.parse().map_err(|error| PrepareError::Url(described(&error)))?;
        let postgres = Self::new(config, instance).map_err(PrepareError::Unreachable)?;
        let unreachable = |error: StoreError| PrepareError::Unreachable(described(&error));
        let (mut client, wire) = postgres.dedicated().await.map_err(unreachable)?;
        // Ends with the client.
        tokio::spawn(wire);
        let locked = client.batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).await;
        locked.map_err(|error| unreachable(error.into()))?;
        make_role(&client, instance).await?;
        let log = Part { schema: instance.to_owned(), runner: log::migrations::runner(), grants: LOG_GRANTS };
        let schema = subjects_schema(instance);
        let subjects = Part { schema, runner: subjects::migrations::runner(), grants: SUBJECTS_GRANTS };
        for part in [log, subjects] {
            part.migrate(&mut client, &app_role(instance)).await?;
        }
        Ok(postgres)
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
        let (quoted, role) = (format!("\"{schema}\""), format!("\"{role}\""));
        // Making what is there would need the right to make it.
        let exists = client.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&schema]).await;
        if exists.map_err(|error| failed(described(&error)))?.is_none() {
            run(client, &format!("CREATE SCHEMA {quoted}")).await.map_err(failed)?;
        }
        run(client, &format!("SET search_path = {quoted}")).await.map_err(failed)?;
        let newest = newest(client).await.map_err(failed)?;
        let known = runner.get_migrations().iter().map(|migration| migration.version()).max();
        if newest > known {
            return Err(PrepareError::Newer { schema });
        }
        if newest == known {
            return Ok(());
        }
        runner.run_async(client).await.map_err(|error| failed(described(&error)))?;
        let grants = grants.replace("{schema}", &quoted).replace("{role}", &role);
        run(client, &format!("GRANT USAGE ON SCHEMA {quoted} TO {role}; {grants}")).await.map_err(failed)
    }
}

/// The last migration that was applied in the schema on the search path.
async fn newest(client: &Client) -> Result<Option<i64>, String> {
    let has_history = client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await;
    if !has_history.map_err(|error| described(&error))?.get::<_, bool>(0) {
        return Ok(None);
    }
    let newest = client.query_one("SELECT max(version)::bigint FROM refinery_schema_history", &[]).await;
    Ok(newest.map_err(|error| described(&error))?.get(0))
}

/// The role that every runtime connection takes on, and the right of this user to take it on.
async fn make_role(client: &Client, instance: &str) -> Result<(), PrepareError> {
    let role = app_role(instance);
    let failed = |reason: String| PrepareError::Migration { schema: instance.to_owned(), reason };
    let asked = "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = $1";
    let member = client.query_opt(asked, &[&role]).await.map_err(|error| failed(described(&error)))?;
    if member.is_none() {
        run(client, &format!("CREATE ROLE \"{role}\" NOLOGIN")).await.map_err(failed)?;
    }
    if member.is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    run(client, &format!("GRANT \"{role}\" TO CURRENT_USER")).await.map_err(failed)
}

async fn run(client: &Client, sql: &str) -> Result<(), String> {
    client.batch_execute(sql).await.map_err(|error| described(&error))
}

/// The driver's errors say little by themselves; what the server said is their source.
fn described(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words.lines().collect::<Vec<_>>().join(" ")
}
