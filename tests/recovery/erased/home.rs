//! A server's data in either mode: read, copied and changed behind its back, as whoever holds the files or the database could.
use marvin::{
    erasure::ErasedInLog,
    log::{EventLog, codec::Codec, postgres::PostgresLog, sqlite::SqliteLog},
    security::{
        cipher::Suite,
        keyfile::{KeyWrap, MasterKey},
        sealer::{Erasures, Sealer},
        subjects::{PostgresSubjects, SqliteSubjects, SubjectStore},
    },
};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio, sync::Arc};
use uuid::Uuid;

use super::search::Secrets;
use crate::{
    files,
    support::{Database, Launch, Stopped, postgres},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Embedded,
    Postgres,
}

/// How a server is started, and its database where it has one.
pub struct Home {
    pub launch: Launch,
    pub database: Option<Database>,
}

/// The one file of the key-encryption key.
const KEY_FILE: &str = "master.key";

impl Home {
    pub async fn new(mode: Mode) -> Self {
        match mode {
            Mode::Embedded => Self { launch: files_only(), database: None },
            Mode::Postgres => Self::on(Database::own().await),
        }
    }

    fn on(database: Database) -> Self {
        Self { launch: Launch::with_admin().on(&database), database: Some(database) }
    }

    /// Takes an order of this server, such as another setting, into its launch.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.launch = self.launch.set(name, value);
        self
    }

    fn file(&self, name: &str) -> PathBuf {
        self.launch.data_dir().join(name)
    }

    /// All of a stopped server, to go on by itself.
    pub async fn copy(&self, stopped: &Stopped) -> Self {
        let Some(database) = &self.database else {
            return Self { launch: files::copy_of(stopped), database: None };
        };
        let copy = self.empty_copy().await;
        restore(database, &[], copy.database.as_ref().unwrap());
        fs::copy(self.file(KEY_FILE), copy.file(KEY_FILE)).unwrap();
        copy
    }

    /// What somebody has who kept a copy of the log and comes back with today's subjects and key file.
    pub async fn with_log_of(&self, old: &Self) -> Self {
        let (copy, key_file) = (self.empty_copy().await, self.file(KEY_FILE));
        match (&self.database, &old.database, &copy.database) {
            (Some(today), Some(kept), Some(both)) => {
                restore(kept, &[&format!("--schema={}", kept.instance)], both);
                restore(today, &[&format!("--schema={}_subjects", today.instance)], both);
            }
            _ => {
                old.hand_over("log.db", &copy);
                self.hand_over("subjects.db", &copy);
            }
        }
        fs::copy(key_file, copy.file(KEY_FILE)).unwrap();
        copy
    }

    /// A database's file, and what a killed server left of it in its write-ahead log.
    fn hand_over(&self, name: &str, to: &Self) {
        fs::copy(self.file(name), to.file(name)).unwrap();
        fs::copy(self.file(&format!("{name}-wal")), to.file(&format!("{name}-wal"))).ok();
    }

    async fn empty_copy(&self) -> Self {
        match &self.database {
            None => Self { launch: files_only(), database: None },
            Some(database) => {
                let Database { url, .. } = Database::own().await;
                Self::on(Database { url, instance: database.instance.clone() })
            }
        }
    }

    /// The log, and what opens its rows: all that is there, without a server.
    pub async fn reader(&self) -> (Arc<dyn EventLog>, Arc<dyn SubjectStore>, Codec) {
        let key = Arc::new(self.key());
        let (log, subjects): (Arc<dyn EventLog>, Arc<dyn SubjectStore>) = match &self.database {
            None => (
                Arc::new(SqliteLog::open(&self.file("log.db")).unwrap()),
                Arc::new(SqliteSubjects::open(&self.file("subjects.db"), key).await.unwrap()),
            ),
            Some(database) => {
                let postgres = database.prepare().await;
                let log = PostgresLog::start(postgres.clone()).await.unwrap();
                (Arc::new(log), Arc::new(PostgresSubjects::open(postgres, key, false).await.unwrap()))
            }
        };
        let codec = codec(&subjects, Arc::new(ErasedInLog::new(log.clone())));
        (log, subjects, codec)
    }

    fn key(&self) -> MasterKey {
        MasterKey::load_or_create(&self.file(KEY_FILE), false).unwrap()
    }

    /// What must be gone after the erasure: taken from the store, and the key unwrapped with the key file.
    pub async fn secrets_of(&self, person: Uuid) -> Secrets {
        let row = format!("FROM subjects WHERE user_id = {}", self.id(person));
        let wrapped = self.bytes_of(&format!("SELECT wrapped_key {row}")).await.remove(0);
        let email_hmac = self.bytes_of(&format!("SELECT email_hmac {row}")).await.remove(0);
        let context = [b"subject key ".as_slice(), person.as_bytes()].concat();
        let raw = self.key().unwrap_key(&context, &wrapped).await.unwrap().to_vec();
        Secrets { raw, wrapped, email_hmac }
    }

    /// Rows that still belong to a person, over all tables of the store of subjects.
    pub async fn rows_of(&self, person: Uuid) -> i64 {
        let id = self.id(person);
        let count = |table: &str| format!("(SELECT count(*) FROM {table} WHERE user_id = {id})");
        let sum = ["subjects", "credentials", "sessions"].map(count).join(" + ");
        self.number(&format!("SELECT {sum}")).await
    }

    /// How far erasures are done: whoever was erased at or before this position is gone from every file.
    pub async fn erased_up_to(&self) -> u64 {
        let sql = "SELECT coalesce(max(position), 0) FROM checkpoints WHERE name = 'erasure'";
        self.number(sql).await.cast_unsigned()
    }

    /// A number from the store of subjects.
    async fn number(&self, sql: &str) -> i64 {
        match &self.database {
            None => self.open("subjects.db").query_row(sql, [], |row| row.get(0)).unwrap(),
            Some(database) => {
                let stranger = database.stranger().await;
                let path = format!("SET search_path = {}_subjects", database.instance);
                stranger.batch_execute(&path).await.unwrap();
                stranger.query_one(&sql.replace("count(*)", "count(*)::bigint"), &[]).await.unwrap().get(0)
            }
        }
    }

    /// A column of bytes from the store of subjects.
    async fn bytes_of(&self, sql: &str) -> Vec<Vec<u8>> {
        let Some(database) = &self.database else {
            let store = self.open("subjects.db");
            let mut statement = store.prepare(sql).unwrap();
            return statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        };
        let stranger = database.stranger().await;
        stranger.batch_execute(&format!("SET search_path = {}_subjects", database.instance)).await.unwrap();
        stranger.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Every byte that the server keeps: the files of its directory; a dump of its database, and that database's own files.
    pub async fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let mut contents = files::snapshot(self.launch.data_dir());
        let Some(database) = &self.database else { return contents };
        contents.insert("dump".to_owned(), dump(database));
        let stranger = database.stranger().await;
        stranger.batch_execute("CHECKPOINT").await.unwrap();
        let sql = "SELECT home || name, coalesce(pg_read_binary_file(home || name, 0, 1 << 28, true), '') \
                   FROM (SELECT 'base/' || oid || '/' AS home FROM pg_database WHERE datname = current_database()) d, \
                   LATERAL pg_ls_dir(home) AS name";
        let rows = stranger.query(sql, &[]).await.unwrap();
        contents.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
        contents
    }

    /// Where the log ends.
    pub async fn head(&self) -> u64 {
        let sql = "SELECT max(position) FROM events";
        let head: i64 = match &self.database {
            None => self.open("log.db").query_row(sql, [], |row| row.get(0)).unwrap(),
            Some(database) => database.stranger().await.query_one(sql, &[]).await.unwrap().get(0),
        };
        head.cast_unsigned()
    }

    /// The payload of the event at this position.
    pub async fn payload(&self, position: u64) -> Vec<u8> {
        let sql = format!("SELECT payload FROM events WHERE position = {position}");
        match &self.database {
            None => self.open("log.db").query_row(&sql, [], |row| row.get(0)).unwrap(),
            Some(database) => database.stranger().await.query_one(&sql, &[]).await.unwrap().get(0),
        }
    }

    /// Changes events as only an owner of the file or a superuser can: past the triggers, which stand again afterwards.
    pub async fn tamper(&self, sql: &str) {
        let Some(database) = &self.database else {
            let log = self.open("log.db");
            let triggers = "SELECT group_concat(sql, ';') FROM sqlite_schema WHERE name LIKE 'events_are_never%'";
            let triggers: String = log.query_row(triggers, [], |row| row.get(0)).unwrap();
            for name in ["events_are_never_changed", "events_are_never_deleted", "events_are_never_replaced"] {
                log.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
            }
            assert_eq!(log.execute(sql, []).unwrap(), 1);
            return log.execute_batch(&triggers).unwrap();
        };
        let stranger = database.stranger().await;
        stranger.batch_execute("ALTER TABLE events DISABLE TRIGGER events_are_never_changed").await.unwrap();
        assert_eq!(stranger.execute(sql, &[]).await.unwrap(), 1);
        stranger.batch_execute("ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_changed").await.unwrap();
    }

    /// An id as SQL of this store.
    pub fn id(&self, id: Uuid) -> String {
        if self.database.is_some() { format!("'{id}'") } else { self.bytes(id.as_bytes()) }
    }

    /// Bytes as SQL of this store.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if self.database.is_some() { format!("'\\x{hex}'") } else { format!("x'{hex}'") }
    }

    /// Leaves bytes where a careless program would: in a file of the directory, and in a table where there is a database.
    pub async fn plant(&self, value: &[u8]) {
        fs::write(self.file("planted"), value).unwrap();
        if let Some(database) = &self.database {
            let table = format!("CREATE TABLE planted AS SELECT {}::bytea AS value", self.bytes(value));
            database.stranger().await.batch_execute(&table).await.unwrap();
        }
    }

    /// Takes away what was planted.
    pub async fn unplant(&self) {
        fs::remove_file(self.file("planted")).unwrap();
        if let Some(database) = &self.database {
            database.stranger().await.batch_execute("DROP TABLE planted").await.unwrap();
        }
    }

    fn open(&self, name: &str) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.file(name)).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        connection
    }
}

pub fn codec(subjects: &Arc<dyn SubjectStore>, erasures: Arc<dyn Erasures>) -> Codec {
    Codec::new(Arc::new(Sealer::new(Suite::default(), subjects.clone(), erasures)))
}

/// In embedded mode, whatever the run says of others.
fn files_only() -> Launch {
    Launch::with_admin().unset("MARVIN_DATABASE_URL").unset("MARVIN_INSTANCE")
}

fn dump(database: &Database) -> Vec<u8> {
    let output = postgres::program("pg_dump").args(["--dbname", &database.url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Dumps what the arguments name into another database.
fn restore(from: &Database, arguments: &[&str], to: &Database) {
    let mut dump = postgres::program("pg_dump");
    let mut dump = dump.args(arguments).args(["--dbname", &from.url]).stdout(Stdio::piped()).spawn().unwrap();
    let restored = postgres::program("psql")
        .args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--dbname", &to.url])
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(restored.success() && dump.wait().unwrap().success());
}
