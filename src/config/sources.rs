//! Where a setting can be given, which giver wins, and what to say when it is wrong. It knows names, not meanings.
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Value};

use super::cli::Flags;
use super::variable_of;

/// Every setting that flags, environment and file know alike.
pub(super) const SETTINGS: [&str; 13] = [
    "listen",
    "public_url",
    "data_dir",
    "database_url",
    "redis_url",
    "amqp_url",
    "key_file",
    "cipher",
    "instance",
    "metrics_listen",
    "log",
    "log_format",
    "egress_allow",
];

/// Given in the environment only, so that a secret is not left in a file or in the process list.
const ENVIRONMENT_ONLY: [&str; 2] = ["admin_email", "admin_password"];

/// Settings of parts that this version does not have, and the parts.
pub(super) const NOT_BUILT: [(&str, &str); 6] = [
    ("vault_addr", "Vault"),
    ("vault_token", "Vault"),
    ("vault_token_file", "Vault"),
    ("vault_transit_key", "Vault"),
    ("tls_cert", "HTTPS"),
    ("tls_key", "HTTPS"),
];

/// Why the process does not start. The text names the setting, who set it, and the reason; it holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The value does not do.
    #[error("the setting {name}, from {}, is wrong: {reason}", .set_by.of(.name))]
    Invalid { name: &'static str, set_by: SetBy, reason: String },
    /// The setting belongs to a part that this version does not have.
    #[error("the setting {name}, from {}, cannot be used: {part} is not built yet", .set_by.of(.name))]
    NotBuilt { name: &'static str, set_by: SetBy, part: &'static str },
    /// Two settings are only of use together.
    #[error("{} is set and {} is not: set both or none", variable_of(.name), variable_of(.missing))]
    Alone { name: &'static str, missing: &'static str },
    /// The file says something that nobody reads: most likely a misspelling.
    #[error("{} holds the unknown setting {key}; known are {}", .path.display(), SETTINGS.join(", "))]
    UnknownKey { path: PathBuf, key: String },
    /// The file is not there, or not TOML.
    #[error("the settings file {} cannot be read: {reason}", .path.display())]
    File { path: PathBuf, reason: String },
}

/// Who gave a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetBy {
    Flag,
    Environment,
    File(PathBuf),
    Default,
}

impl SetBy {
    /// How the setting `name` is spelled there.
    pub(super) fn of(&self, name: &str) -> impl fmt::Display {
        match self {
            Self::Flag => format!("--{}", name.replace('_', "-")),
            Self::Environment => variable_of(name),
            Self::File(path) => path.display().to_string(),
            Self::Default => "its default".to_owned(),
        }
    }
}

/// All that was given, before anything of it is understood.
pub(super) struct Sources {
    flags: Flags,
    variables: BTreeMap<String, String>,
    file: Option<(PathBuf, HashMap<String, Value>)>,
}

impl Sources {
    /// Collects what was given, and warnings for what nobody reads.
    ///
    /// Unknown variables only warn: Kubernetes makes some of its own, such as `MARVIN_SERVICE_HOST`.
    pub(super) fn gather(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Vec<String>), SettingsError> {
        let (variables, warnings) = read_environment(environment)?;
        let file = flags.config.as_deref().map(read_file).transpose()?;
        let sources = Self { flags: flags.clone(), variables, file };
        for (name, part) in NOT_BUILT {
            if let Some(set_by) = sources.who_set(name) {
                return Err(SettingsError::NotBuilt { name, set_by, part });
            }
        }
        Ok((sources, warnings))
    }

    /// The value of the setting `name` and who gave it; none when nobody did.
    pub(super) fn find(&self, name: &'static str) -> Result<Option<(String, SetBy)>, SettingsError> {
        let Some(set_by) = self.who_set(name) else { return Ok(None) };
        let given = match &set_by {
            SetBy::Flag => self.flags.get(name).map(str::to_owned),
            SetBy::Environment => self.variable(name).map(str::to_owned),
            SetBy::File(_) => {
                let value = self.file.as_ref().and_then(|(_, values)| values.get(name).cloned());
                value.map(Value::into_string).transpose().map_err(|_| SettingsError::Invalid {
                    name,
                    set_by: set_by.clone(),
                    reason: "it must be a single value".to_owned(),
                })?
            }
            SetBy::Default => None,
        };
        Ok(given.map(|value| (value, set_by)))
    }

    /// A setting's value in the environment. An empty variable counts as unset: that is how deployments blank one.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn who_set(&self, name: &str) -> Option<SetBy> {
        if self.flags.get(name).is_some() {
            return Some(SetBy::Flag);
        }
        if self.variable(name).is_some() {
            return Some(SetBy::Environment);
        }
        let (path, values) = self.file.as_ref()?;
        values.contains_key(name).then(|| SetBy::File(path.clone()))
    }
}

fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(BTreeMap<String, String>, Vec<String>), SettingsError> {
    let (mut variables, mut warnings) = (BTreeMap::new(), Vec::new());
    for (variable, value) in environment {
        let Some(variable) = variable.to_str().filter(|variable| variable.starts_with("MARVIN_")) else { continue };
        let known = known_names().find(|name| variable_of(name) == variable);
        match (known, value.into_string()) {
            (None, _) => warnings.push(format!("{variable} is no setting of Marvin and was passed over")),
            (Some(_), Ok(value)) if value.is_empty() => {}
            (Some(name), Ok(value)) => drop(variables.insert(name.to_owned(), value)),
            (Some(name), Err(_)) => {
                let reason = "it is not UTF-8".to_owned();
                return Err(SettingsError::Invalid { name, set_by: SetBy::Environment, reason });
            }
        }
    }
    warnings.sort();
    Ok((variables, warnings))
}

fn known_names() -> impl Iterator<Item = &'static str> {
    SETTINGS.into_iter().chain(ENVIRONMENT_ONLY).chain(NOT_BUILT.map(|(name, _)| name))
}

fn read_file(path: &Path) -> Result<(PathBuf, HashMap<String, Value>), SettingsError> {
    let refused = |reason: String| SettingsError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let values: HashMap<String, Value> = Config::builder()
        .add_source(File::from_str(&text, FileFormat::Toml))
        .build()
        .and_then(Config::try_deserialize)
        .map_err(|error| refused(without_excerpt(&error.to_string())))?;
    let is_known = |key: &&String| !SETTINGS.contains(&key.as_str()) && NOT_BUILT.iter().all(|(name, _)| name != key);
    match values.keys().filter(is_known).min() {
        Some(key) => Err(SettingsError::UnknownKey { path: path.to_owned(), key: key.clone() }),
        None => Ok((path.to_owned(), values)),
    }
}

/// The parser shows the line at fault, which may hold a secret: where and why is enough.
fn without_excerpt(message: &str) -> String {
    let lines: Vec<&str> = message.lines().filter(|line| !line.trim().is_empty() && !line.contains('|')).collect();
    lines.join(": ")
}
