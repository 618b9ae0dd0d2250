//! An instance of a test's own in the private PostgreSQL server of the run, which `.ci/services` starts and throws away.
#![allow(dead_code)]
use marvin::postgres::Postgres;
use std::{env, path::PathBuf, process::Command};
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

/// A database, and the name of an instance that nobody else uses.
pub struct Database {
    pub url: String,
    pub instance: String,
}

fn server() -> String {
    env::var("MARVIN_TEST_POSTGRES")
        .expect("tests on PostgreSQL need a server: '.ci/services run cargo nextest run …', or 'make test'")
}

/// One of the server's own programs.
pub fn program(name: &str) -> Command {
    let directory = env::var("MARVIN_TEST_POSTGRES_BIN").expect("set together with MARVIN_TEST_POSTGRES");
    Command::new(PathBuf::from(directory).join(name))
}

impl Database {
    /// Schemas of its own in the database that all tests share.
    pub fn shared() -> Self {
        Self { url: server(), instance: name() }
    }

    /// A database of its own, for a test that changes the database.
    pub async fn own() -> Self {
        let instance = name();
        connect(&server()).await.batch_execute(&format!("CREATE DATABASE {instance}")).await.unwrap();
        let (base, _) = server().rsplit_once('/').map(|(base, name)| (base.to_owned(), name.to_owned())).unwrap();
        Self { url: format!("{base}/{instance}"), instance }
    }

    /// What a node does at its start.
    pub async fn prepare(&self) -> Postgres {
        Postgres::prepare(&self.url, &self.instance).await.unwrap()
    }

    /// A superuser's connection that knows nothing of Marvin, but looks into the instance's schema.
    pub async fn stranger(&self) -> Client {
        let client = connect(&self.url).await;
        client.batch_execute(&format!("SET search_path = \"{}\"", self.instance)).await.unwrap();
        client
    }

    /// As [`stranger`](Self::stranger), in the schema of the views.
    pub async fn views_stranger(&self) -> Client {
        let client = connect(&self.url).await;
        client.batch_execute(&format!("SET search_path = \"{}_views\"", self.instance)).await.unwrap();
        client
    }

    /// With all that is in their schema.
    pub async fn drop_views(&self) {
        let schema = format!("{}_views", self.instance);
        self.stranger().await.batch_execute(&format!("DROP SCHEMA \"{schema}\" CASCADE")).await.unwrap();
    }

    /// Everything of the instance as text, in a file of a directory.
    pub fn dump(&self) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let mut dump = program("pg_dump");
        dump.args(["--dbname", &self.url, "--schema", &format!("{}*", self.instance), "--file"]);
        assert!(dump.arg(directory.path().join("dump.sql")).status().unwrap().success());
        directory
    }

    /// The host and port of the server.
    pub fn address(&self) -> String {
        let config: Config = self.url.parse().unwrap();
        format!("127.0.0.1:{}", config.get_ports()[0])
    }
}

fn name() -> String {
    format!("t{}", &Uuid::new_v4().simple().to_string()[..20])
}

async fn connect(url: &str) -> Client {
    let (client, wire) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(wire);
    client
}
