//! The settings of a process: parsed once at the start, typed from then on.
//!
//! A flag overrides the environment, which overrides the file, which overrides the default. A setting that is wrong, or
//! whose part is not built yet, stops the start with its name, where it was set, and the reason.
mod cli;
mod sources;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

pub use cli::{Cli, Command, Flags, Keys};
pub use sources::{SetBy, SettingsError};
pub use values::{CipherSuite, LogFormat, Origin};

use crate::egress::Allowed;
use sources::Sources;

/// What a process runs with. Secrets in it are opaque to `Debug`.
#[derive(Debug)]
pub struct Settings {
    /// Where API, console and live feeds listen.
    pub listen: SocketAddr,
    /// The directory of the stores.
    pub data_dir: PathBuf,
    /// PostgreSQL for the log and the subjects; none means files of the data directory.
    pub database_url: Option<SecretString>,
    /// Redis for the cache of documents; none means the memory of this process.
    pub redis_url: Option<SecretString>,
    /// RabbitMQ for work and events; none means within this process.
    pub amqp_url: Option<SecretString>,
    /// The key-encryption key.
    pub key_file: PathBuf,
    /// How data is sealed from now on.
    pub cipher: CipherSuite,
    /// The name of this instance: `[a-z][a-z0-9_]{0,30}`.
    pub instance: String,
    /// Where `/metrics` listens; none when that is off.
    pub metrics_listen: Option<SocketAddr>,
    /// Which log lines are written, in the syntax of `tracing`'s filters.
    pub log: String,
    /// How they are written; none means text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// Networks that calls to others may reach beside public ones.
    pub egress_allow: Allowed,
    /// The administrator to create when there is no user yet.
    pub first_admin: Option<FirstAdmin>,
    /// What was passed over and is worth a line in the log.
    pub warnings: Vec<String>,
    public_url: Option<Origin>,
    shown: Vec<Shown>,
}

/// Who administers a fresh instance.
#[derive(Debug)]
pub struct FirstAdmin {
    pub email: String,
    pub password: SecretString,
}

/// One line of what is in effect.
#[derive(Debug)]
enum Shown {
    Set { name: &'static str, value: String, by: SetBy },
    Defaulted { name: &'static str, value: String },
    Unset(&'static str),
}

impl Settings {
    /// Brings flags, environment and file together.
    ///
    /// # Errors
    /// At the first setting that is wrong, unknown to the file's reader, or not built yet.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let (sources, warnings) = Sources::gather(flags, environment)?;
        let mut reader = Reader { sources: &sources, shown: Vec::new() };
        let listen = reader.read("listen", "127.0.0.1:8080", values::socket)?;
        let public_url = reader.read_optional("public_url", "public_url follows listen", values::origin)?;
        let data_dir: PathBuf = reader.read("data_dir", "./marvin-data", values::path)?;
        let database_url =
            reader.read_secret("database_url", "no database_url: the log and keys are files", values::database)?;
        let redis_url =
            reader.read_secret("redis_url", "no redis_url: documents are cached in memory", values::redis)?;
        let amqp_url = reader.read_secret("amqp_url", "no amqp_url: work is moved within the process", values::amqp)?;
        let key_file = reader.read("key_file", &data_dir.join("master.key").to_string_lossy(), values::path)?;
        Ok(Self {
            listen,
            data_dir,
            database_url,
            redis_url,
            amqp_url,
            key_file,
            cipher: reader.read("cipher", "xchacha20poly1305", values::cipher)?,
            instance: reader.read("instance", "marvin", values::instance)?,
            metrics_listen: reader.read("metrics_listen", "127.0.0.1:9464", values::socket_or_off)?,
            log: reader.read("log", "info", values::log)?,
            log_format: reader.read_optional(
                "log_format",
                "log_format is text on a terminal, else json",
                values::log_format,
            )?,
            egress_allow: reader
                .read_optional("egress_allow", "no egress_allow: webhooks reach public addresses only", Allowed::parse)?
                .unwrap_or_default(),
            first_admin: first_admin(&sources)?,
            warnings,
            public_url,
            shown: reader.shown,
        })
    }

    /// The origin that browsers know this server by: as set, else as it is bound.
    pub fn public_origin(&self, bound: SocketAddr) -> Origin {
        self.public_url.clone().unwrap_or_else(|| Origin::of(bound))
    }
}

/// The settings in effect and where each comes from, as a `marvin.toml` would state them; without secrets.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shown in &self.shown {
            match shown {
                Shown::Set { name, value, by } => writeln!(f, "{name} = {value:?} # from {}", by.of(name))?,
                Shown::Defaulted { name, value } => writeln!(f, "{name} = {value:?}")?,
                Shown::Unset(what) => writeln!(f, "# {what}")?,
            }
        }
        if self.first_admin.is_some() {
            writeln!(f, "# the first administrator comes from MARVIN_ADMIN_EMAIL and MARVIN_ADMIN_PASSWORD")?;
        }
        Ok(())
    }
}

/// Reads one setting after the other and remembers what was taken.
struct Reader<'a> {
    sources: &'a Sources,
    shown: Vec<Shown>,
}

type Parse<T> = fn(&str) -> Result<T, String>;

impl Reader<'_> {
    fn read<T>(&mut self, name: &'static str, default: &str, parse: Parse<T>) -> Result<T, SettingsError> {
        if let Some(value) = self.take(name, parse)? {
            return Ok(value);
        }
        self.shown.push(Shown::Defaulted { name, value: default.to_owned() });
        parse(default).map_err(|reason| SettingsError::Invalid { name, set_by: SetBy::Default, reason })
    }

    /// `otherwise` says what holds when nobody sets `name`.
    fn read_optional<T>(
        &mut self,
        name: &'static str,
        otherwise: &'static str,
        parse: Parse<T>,
    ) -> Result<Option<T>, SettingsError> {
        let value = self.take(name, parse)?;
        if value.is_none() {
            self.shown.push(Shown::Unset(otherwise));
        }
        Ok(value)
    }

    /// As [`read_optional`](Self::read_optional), for a value that must not be shown; `parse` answers what may be.
    fn read_secret(
        &mut self,
        name: &'static str,
        otherwise: &'static str,
        parse: Parse<String>,
    ) -> Result<Option<SecretString>, SettingsError> {
        let given = self.sources.find(name)?;
        let shown = self.read_optional(name, otherwise, parse)?;
        if let (Some(value), Some(Shown::Set { value: kept, .. })) = (shown, self.shown.last_mut()) {
            *kept = value;
        }
        Ok(given.map(|(value, _)| SecretString::from(value)))
    }

    fn take<T>(&mut self, name: &'static str, parse: Parse<T>) -> Result<Option<T>, SettingsError> {
        let Some((value, by)) = self.sources.find(name)? else { return Ok(None) };
        let parsed = parse(&value).map_err(|reason| SettingsError::Invalid { name, set_by: by.clone(), reason })?;
        self.shown.push(Shown::Set { name, value, by });
        Ok(Some(parsed))
    }
}

/// One of the two alone would leave an instance that nobody can administer, or nobody meant to.
fn first_admin(sources: &Sources) -> Result<Option<FirstAdmin>, SettingsError> {
    match (sources.variable("admin_email"), sources.variable("admin_password")) {
        (Some(email), Some(password)) => {
            Ok(Some(FirstAdmin { email: email.to_owned(), password: SecretString::from(password) }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(SettingsError::Alone { name: "admin_email", missing: "admin_password" }),
        (None, Some(_)) => Err(SettingsError::Alone { name: "admin_password", missing: "admin_email" }),
    }
}

/// `listen` as the environment spells it.
fn variable_of(name: &str) -> String {
    format!("MARVIN_{}", name.to_ascii_uppercase())
}

#[cfg(test)]
mod tests;
