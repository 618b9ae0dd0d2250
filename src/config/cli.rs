//! The grammar of the command line. Values are read with the other sources of settings, not here.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};

/// A backend on which people and software agents work together, every change an event in one log.
#[derive(Debug, Parser)]
#[command(name = "marvin", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs everything in one process; migrates its stores first
    Serve {
        #[command(flatten)]
        settings: Flags,
        /// Shows the settings in effect, without secrets, and ends
        #[arg(long)]
        check: bool,
    },
    /// Runs agents only, beside the servers of an instance; any number may run. Needs PostgreSQL
    Worker {
        #[command(flatten)]
        settings: Flags,
    },
    /// Looks for damage, also while a server runs
    Doctor {
        #[command(flatten)]
        settings: Flags,
        /// Compares every read model with a fresh replay of the log
        #[arg(long)]
        views: bool,
        /// Goes on with a log that was set back: what is ahead of it begins anew. No server may run then
        #[arg(long)]
        accept_rollback: bool,
    },
    /// Builds a read model anew from the log beside the one that serves, also while a server runs
    Rebuild {
        #[command(flatten)]
        settings: Flags,
        /// The projection
        #[arg(value_name = "NAME", value_parser = projections(), required_unless_present = "all", conflicts_with = "all")]
        name: Option<String>,
        /// Every projection
        #[arg(long)]
        all: bool,
        /// Calls the rebuild off; the next one goes on where it was
        #[arg(long, conflicts_with = "all")]
        cancel: bool,
    },
    /// Copies the log and the keys of people, also while a server runs; not the key file
    Backup {
        #[command(flatten)]
        settings: Flags,
        /// A directory that is empty or not there yet
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Changes the key-encryption key
    #[command(subcommand)]
    Keys(Keys),
}

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Draws a new key-encryption key and wraps every key under it, also while a server runs
    Rotate {
        #[command(flatten)]
        settings: Flags,
    },
}

impl Command {
    /// The settings that were given as flags.
    pub fn flags(&self) -> &Flags {
        match self {
            Self::Serve { settings, .. }
            | Self::Worker { settings }
            | Self::Doctor { settings, .. }
            | Self::Rebuild { settings, .. }
            | Self::Backup { settings, .. }
            | Self::Keys(Keys::Rotate { settings }) => settings,
        }
    }
}

/// The names that a projection may be called by.
fn projections() -> PossibleValuesParser {
    PossibleValuesParser::new(marvin_projections::all().iter().map(|fold| fold.name()))
}

/// The settings that may be given as flags. A flag overrides the environment, which overrides the file.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// A TOML file with settings, such as `listen = "127.0.0.1:8080"`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where API, console and live feeds listen [env: MARVIN_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The origin that browsers use [env: MARVIN_PUBLIC_URL] [default: from --listen]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// The directory of the stores [env: MARVIN_DATA_DIR] [default: ./marvin-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// PostgreSQL for log and keys, in place of files; better given in the environment, where others do not see its password
    /// [env: MARVIN_DATABASE_URL] [default: none]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Redis for the cache of read models, redis:// or rediss://; better given in the environment, as --database-url
    /// [env: MARVIN_REDIS_URL] [default: none]
    #[arg(long, value_name = "URL")]
    pub redis_url: Option<String>,
    /// RabbitMQ for work and events, amqp:// or amqps://; better given in the environment, as --database-url
    /// [env: MARVIN_AMQP_URL] [default: none]
    #[arg(long, value_name = "URL")]
    pub amqp_url: Option<String>,
    /// The key-encryption key [env: MARVIN_KEY_FILE] [default: master.key in the data directory]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<String>,
    /// xchacha20poly1305 or aes256gcm, for what is sealed from now on [env: MARVIN_CIPHER]
    #[arg(long, value_name = "SUITE")]
    pub cipher: Option<String>,
    /// The name of this instance [env: MARVIN_INSTANCE] [default: marvin]
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Where /metrics listens, or off [env: MARVIN_METRICS_LISTEN] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// Which log lines are written, such as info or marvin::http=debug [env: MARVIN_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// text or json [env: MARVIN_LOG_FORMAT] [default: text on a terminal, else json]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Networks that webhooks may reach beside public ones, such as 10.1.0.0/16,fd00::/8 [env: MARVIN_EGRESS_ALLOW]
    /// [default: none]
    #[arg(long, value_name = "NETWORKS")]
    pub egress_allow: Option<String>,
}

impl Flags {
    /// The value given for the setting `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = match name {
            "listen" => &self.listen,
            "public_url" => &self.public_url,
            "data_dir" => &self.data_dir,
            "database_url" => &self.database_url,
            "redis_url" => &self.redis_url,
            "amqp_url" => &self.amqp_url,
            "key_file" => &self.key_file,
            "cipher" => &self.cipher,
            "instance" => &self.instance,
            "metrics_listen" => &self.metrics_listen,
            "log" => &self.log,
            "log_format" => &self.log_format,
            "egress_allow" => &self.egress_allow,
            _ => return None,
        };
        value.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::SETTINGS;
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use rstest::rstest;

    #[test]
    fn the_grammar_contradicts_nothing() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_its_flag() {
        for name in SETTINGS {
            let flag = format!("--{}", name.replace('_', "-"));
            let cli = Cli::try_parse_from(["marvin", "serve", &flag, "given"]).unwrap();
            let Command::Serve { settings, check: false } = cli.command else { panic!("not parsed as serve") };
            assert_eq!(settings.get(name), Some("given"));
        }
    }

    #[rstest]
    #[case::no_command(&[], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)]
    #[case::unknown_command(&["explode"], ErrorKind::InvalidSubcommand)]
    #[case::unknown_flag(&["serve", "--lisen", "x"], ErrorKind::UnknownArgument)]
    #[case::flag_without_value(&["serve", "--listen"], ErrorKind::InvalidValue)]
    #[case::backup_to_nowhere(&["backup"], ErrorKind::MissingRequiredArgument)]
    #[case::keys_alone(&["keys"], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)]
    #[case::rebuild_of_nothing(&["rebuild"], ErrorKind::MissingRequiredArgument)]
    #[case::rebuild_of_what_is_no_projection(&["rebuild", "Tasks"], ErrorKind::InvalidValue)]
    #[case::rebuild_of_one_and_of_all(&["rebuild", "tasks", "--all"], ErrorKind::ArgumentConflict)]
    #[case::calling_off_all(&["rebuild", "--all", "--cancel"], ErrorKind::ArgumentConflict)]
    #[case::flag_given_twice(&["serve", "--log", "a", "--log", "b"], ErrorKind::ArgumentConflict)]
    fn a_usage_error_exits_with_2(#[case] arguments: &[&str], #[case] kind: ErrorKind) {
        let error = Cli::try_parse_from([&["marvin"], arguments].concat()).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (kind, 2));
    }

    #[test]
    fn the_version_is_told() {
        let told = Cli::try_parse_from(["marvin", "--version"]).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::DisplayVersion);
        assert_eq!(told.to_string(), format!("marvin {}\n", env!("CARGO_PKG_VERSION")));
    }
}
