//! The settings as an operator gives them.
use super::*;
use clap::Parser;
use rstest::rstest;
use secrecy::ExposeSecret;
use std::path::Path;

fn flags(arguments: &[&str]) -> Flags {
    let Command::Serve { settings, .. } =
        Cli::try_parse_from([&["marvin", "serve"], arguments].concat()).unwrap().command
    else {
        panic!("not parsed as serve")
    };
    settings
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load(&flags(arguments), environment(variables))
}

fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    load(arguments, variables).unwrap_err().to_string()
}

/// Loads with a settings file that says `text`; `FILE` in the refusal stands for its path.
fn load_file(text: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("marvin.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    load(&[arguments, &["--config", path]].concat(), variables).map_err(|error| error.to_string().replace(path, "FILE"))
}

#[test]
fn without_any_setting_the_defaults_hold() {
    let settings = load(&[], &[]).unwrap();
    assert_eq!(settings.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(settings.public_origin(settings.listen).to_string(), "http://127.0.0.1:8080");
    assert_eq!(settings.data_dir, Path::new("./marvin-data"));
    assert_eq!(settings.key_file, Path::new("./marvin-data/master.key"));
    assert_eq!(settings.cipher, CipherSuite::XChaCha20Poly1305);
    assert_eq!(settings.instance, "marvin");
    assert_eq!(settings.metrics_listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!((settings.log.as_str(), settings.log_format), ("info", None));
    assert!(settings.first_admin.is_none() && settings.warnings.is_empty());
}

#[test]
fn a_flag_overrides_the_environment_which_overrides_the_file() {
    let file = "instance = \"of_file\"\nlog = \"warn\"\ncipher = \"aes256gcm\"";
    let variables = [("MARVIN_INSTANCE", "of_environment"), ("MARVIN_LOG", "debug")];
    let settings = load_file(file, &["--instance", "of_flag"], &variables).unwrap();
    assert_eq!(settings.instance, "of_flag");
    assert_eq!(settings.log, "debug");
    assert_eq!(settings.cipher, CipherSuite::Aes256Gcm);
}

#[test]
fn the_key_file_lies_in_the_data_directory_unless_set() {
    let settings = load(&[], &[("MARVIN_DATA_DIR", "/var/lib/marvin")]).unwrap();
    assert_eq!(settings.key_file, Path::new("/var/lib/marvin/master.key"));
    let settings = load(&["--key-file", "/run/key"], &[("MARVIN_DATA_DIR", "/var/lib/marvin")]).unwrap();
    assert_eq!(settings.key_file, Path::new("/run/key"));
}

#[test]
fn the_public_url_overrides_where_the_server_is_bound() {
    let settings = load(&["--public-url", "https://marvin.example.org/"], &[]).unwrap();
    assert_eq!(settings.public_origin(settings.listen).to_string(), "https://marvin.example.org");
}

#[test]
fn metrics_can_be_off() {
    assert_eq!(load(&["--metrics-listen", "off"], &[]).unwrap().metrics_listen, None);
}

#[test]
fn an_empty_variable_is_unset() {
    let settings = load(&[], &[("MARVIN_INSTANCE", ""), ("MARVIN_AMQP_URL", "")]).unwrap();
    assert_eq!(settings.instance, "marvin");
}

#[rstest]
#[case("MARVIN_LISTEN", "8080", "the setting listen, from MARVIN_LISTEN, is wrong: \"8080\" is not an IP address")]
#[case("MARVIN_LISTEN", "127.0.0.1:99999", "listen")]
#[case("MARVIN_PUBLIC_URL", "marvin.example.org", "public_url")]
#[case("MARVIN_METRICS_LISTEN", "none", "metrics_listen")]
#[case("MARVIN_CIPHER", "rot13", "cipher")]
#[case("MARVIN_INSTANCE", "My Marvin", "instance")]
#[case("MARVIN_LOG", "marvin=loud", "log")]
#[case("MARVIN_LOG_FORMAT", "xml", "log_format")]
fn a_wrong_value_is_refused_with_its_name_its_source_and_the_reason(
    #[case] variable: &str,
    #[case] value: &str,
    #[case] says: &str,
) {
    let in_environment = refusal(&[], &[(variable, value)]);
    assert!(in_environment.contains(says) && in_environment.contains(variable), "{in_environment}");
    let name = variable.trim_start_matches("MARVIN_").to_ascii_lowercase();
    let flag = format!("--{}", name.replace('_', "-"));
    let by_flag = refusal(&[&flag, value], &[]);
    assert!(by_flag.contains(&format!("{name}, from {flag}, is wrong: ")), "{by_flag}");
    let in_file = load_file(&format!("{name} = {value:?}"), &[], &[]).unwrap_err();
    assert!(in_file.contains(&format!("{name}, from FILE, is wrong: ")), "{in_file}");
}

#[test]
fn an_empty_directory_is_refused() {
    assert!(refusal(&["--data-dir", ""], &[]).ends_with("it is empty"));
}

#[rstest]
#[case("MARVIN_VAULT_ADDR", "Vault")]
#[case("MARVIN_VAULT_TOKEN", "Vault")]
#[case("MARVIN_VAULT_TOKEN_FILE", "Vault")]
#[case("MARVIN_VAULT_TRANSIT_KEY", "Vault")]
#[case("MARVIN_TLS_CERT", "HTTPS")]
#[case("MARVIN_TLS_KEY", "HTTPS")]
fn a_setting_of_a_part_that_is_not_built_stops_the_start(#[case] variable: &str, #[case] part: &str) {
    let in_environment = refusal(&[], &[(variable, "scheme://user:hunter2@host")]);
    assert!(in_environment.contains(variable) && in_environment.contains(&format!("{part} is not built yet")));
    assert!(!in_environment.contains("hunter2"));
    let name = variable.trim_start_matches("MARVIN_").to_ascii_lowercase();
    let in_file = load_file(&format!("{name} = [\"hunter2\"]"), &[], &[]).unwrap_err();
    assert!(in_file.contains(&format!("{name}, from FILE")) && in_file.contains("is not built yet"), "{in_file}");
}

#[rstest]
#[case::unknown("lisen = \"127.0.0.1:80\"", "holds the unknown setting lisen")]
#[case::section("[server]\nlisten = \"127.0.0.1:80\"", "holds the unknown setting server")]
#[case::upper_case("LISTEN = \"127.0.0.1:80\"", "holds the unknown setting LISTEN")]
#[case::secret("admin_password = \"hunter2\"", "holds the unknown setting admin_password")]
#[case::list("listen = [\"127.0.0.1:80\"]", "it must be a single value")]
#[case::not_toml("listen: hunter2", "cannot be read: TOML parse error at line 1")]
#[case::twice("log = \"info\"\nlog = \"hunter2\"", "cannot be read: TOML parse error at line 2")]
fn a_settings_file_that_says_something_else_is_refused(#[case] text: &str, #[case] says: &str) {
    let refusal = load_file(text, &[], &[]).unwrap_err();
    assert!(refusal.contains("FILE") && refusal.contains(says), "{refusal}");
    assert!(!refusal.contains("hunter2"), "{refusal}");
}

#[test]
fn a_settings_file_that_is_missing_is_refused() {
    let refusal = refusal(&["--config", "/nowhere/marvin.toml"], &[]);
    assert!(refusal.starts_with("the settings file /nowhere/marvin.toml cannot be read"), "{refusal}");
}

#[test]
fn unknown_variables_only_warn() {
    let variables = [("MARVIN_SERVICE_HOST", "10.0.0.1"), ("MARVIN_LISEN", "x"), ("PATH", "/bin"), ("MARVINS", "x")];
    let warnings = load(&[], &variables).unwrap().warnings;
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("MARVIN_LISEN ") && warnings[1].starts_with("MARVIN_SERVICE_HOST "));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let variables = [(OsString::from("MARVIN_DATA_DIR"), OsString::from_vec(vec![b'/', 0xff]))];
    let refusal = Settings::load(&Flags::default(), variables).unwrap_err().to_string();
    assert!(refusal.contains("MARVIN_DATA_DIR") && refusal.contains("UTF-8"), "{refusal}");
}

#[test]
fn the_first_administrator_needs_both_settings() {
    let email = ("MARVIN_ADMIN_EMAIL", "ada@example.org");
    let password = ("MARVIN_ADMIN_PASSWORD", "hunter2");
    let admin = load(&[], &[email, password]).unwrap().first_admin.unwrap();
    assert_eq!((admin.email.as_str(), admin.password.expose_secret()), ("ada@example.org", "hunter2"));
    assert_eq!(refusal(&[], &[email]), "MARVIN_ADMIN_EMAIL is set and MARVIN_ADMIN_PASSWORD is not: set both or none");
    assert_eq!(
        refusal(&[], &[password]),
        "MARVIN_ADMIN_PASSWORD is set and MARVIN_ADMIN_EMAIL is not: set both or none"
    );
}

#[test]
fn the_settings_in_effect_are_shown_with_their_sources_and_without_secrets() {
    let variables =
        [("MARVIN_ADMIN_EMAIL", "ada@example.org"), ("MARVIN_ADMIN_PASSWORD", "hunter2"), ("MARVIN_LOG", "warn")];
    let settings = load(&["--instance", "probe"], &variables).unwrap();
    insta::assert_snapshot!(settings.to_string(), @r#"
    listen = "127.0.0.1:8080"
    # public_url follows listen
    data_dir = "./marvin-data"
    # no database_url: the log and keys are files
    # no redis_url: documents are cached in memory
    # no amqp_url: work is moved within the process
    key_file = "./marvin-data/master.key"
    cipher = "xchacha20poly1305"
    instance = "probe" # from --instance
    metrics_listen = "127.0.0.1:9464"
    log = "warn" # from MARVIN_LOG
    # log_format is text on a terminal, else json
    # no egress_allow: webhooks reach public addresses only
    # the first administrator comes from MARVIN_ADMIN_EMAIL and MARVIN_ADMIN_PASSWORD
    "#);
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[rstest]
#[case(
    "postgres://marvin:p4ssw0rd@db.example.org:6543/prod?sslmode=require",
    "postgres://marvin@db.example.org:6543/prod"
)]
#[case("postgresql://db/prod", "postgres://db:5432/prod")]
#[case("postgres:///prod?host=/var/run/postgresql&user=marvin", "postgres://marvin@/var/run/postgresql/prod")]
fn a_database_url_is_taken_whole_and_shown_without_its_password(#[case] url: &str, #[case] shown: &str) {
    let settings = load(&[], &[("MARVIN_DATABASE_URL", url)]).unwrap();
    assert_eq!(settings.database_url.as_ref().unwrap().expose_secret(), url);
    let said = format!("{settings} {settings:?}");
    assert!(said.contains(&format!("database_url = {shown:?} # from MARVIN_DATABASE_URL")), "{said}");
    assert!(!said.contains("p4ssw0rd"));
}

#[rstest]
#[case("")]
#[case("mysql://u:p4ssw0rd@db/prod")]
#[case("postgres://")]
#[case("postgres://u:p4ssw0rd@db")]
#[case("postgres://u:p4ssw0rd@db/")]
#[case("postgres://u:p4ssw0rd@db:port/prod")]
#[case("postgres://u:p4ssw0rd@db/prod?sslmode=perhaps")]
#[case("postgres://u:secret@p4ssw0rd@db/prod")]
#[case("host=db dbname=prod password=p4ssw0rd")]
fn what_is_no_database_url_is_refused_without_being_echoed(#[case] url: &str) {
    let refused = refusal(&["--database-url", url], &[]);
    assert!(refused.contains("--database-url") && !refused.contains("p4ssw0rd"), "{refused}");
}

#[rstest]
#[case("redis://marvin:p4ssw0rd@cache.example.org:6380/2", "redis://marvin@cache.example.org:6380/2")]
#[case("rediss://:p4ssw0rd@cache", "rediss://cache:6379/0")]
#[case("redis://[::1]", "redis://[::1]:6379/0")]
fn a_redis_url_is_taken_whole_and_shown_without_its_password(#[case] url: &str, #[case] shown: &str) {
    let settings = load(&[], &[("MARVIN_REDIS_URL", url)]).unwrap();
    assert_eq!(settings.redis_url.as_ref().unwrap().expose_secret(), url);
    let said = format!("{settings} {settings:?}");
    assert!(said.contains(&format!("redis_url = {shown:?} # from MARVIN_REDIS_URL")), "{said}");
    assert!(!said.contains("p4ssw0rd"));
}

#[rstest]
#[case("")]
#[case("cache.example.org:6379")]
#[case("http://:p4ssw0rd@cache")]
#[case("redis+unix:///run/redis.sock?pass=p4ssw0rd")]
#[case("redis://")]
#[case("redis://:p4ssw0rd@")]
#[case("redis://:p4ssw0rd@cache:port")]
#[case("redis://:p4ssw0rd@cache/first")]
#[case("redis://:p4ssw0rd@cache?protocol=9")]
#[case("rediss://:p4ssw0rd@cache/#insecure")]
fn what_is_no_redis_url_is_refused_without_being_echoed(#[case] url: &str) {
    let refused = refusal(&["--redis-url", url], &[]);
    assert!(refused.contains("--redis-url") && !refused.contains("p4ssw0rd"), "{refused}");
}

#[rstest]
#[case("amqp://marvin:p4ssw0rd@mq.example.org:5673/prod", "amqp://marvin@mq.example.org:5673/prod")]
#[case("amqps://marvin:p4ssw0rd@mq", "amqps://marvin@mq:5671/")]
#[case("amqp://mq/%2f", "amqp://guest@mq:5672/")]
fn an_amqp_url_is_taken_whole_and_shown_without_its_password(#[case] url: &str, #[case] shown: &str) {
    let settings = load(&[], &[("MARVIN_AMQP_URL", url)]).unwrap();
    assert_eq!(settings.amqp_url.as_ref().unwrap().expose_secret(), url);
    let said = format!("{settings} {settings:?}");
    assert!(said.contains(&format!("amqp_url = {shown:?} # from MARVIN_AMQP_URL")), "{said}");
    assert!(!said.contains("p4ssw0rd"));
}

#[rstest]
#[case("")]
#[case("mq.example.org:5672")]
#[case("http://:p4ssw0rd@mq")]
#[case("amqp://")]
#[case("amqp://guest:p4ssw0rd@")]
#[case("amqp://guest:p4ssw0rd@mq:port")]
#[case("amqp://guest:secret@p4ssw0rd@mq")]
#[case("amqp://guest:p4ssw0rd@mq?heartbeat=0")]
#[case("amqps://guest:p4ssw0rd@mq/#insecure")]
fn what_is_no_amqp_url_is_refused_without_being_echoed(#[case] url: &str) {
    let refused = refusal(&["--amqp-url", url], &[]);
    assert!(refused.contains("--amqp-url") && !refused.contains("p4ssw0rd"), "{refused}");
}

#[test]
fn networks_that_calls_may_reach_are_read_and_shown() {
    let settings = load(&[], &[("MARVIN_EGRESS_ALLOW", "10.1.0.0/16, fd00::/8")]).unwrap();
    assert!(settings.egress_allow.admits("10.1.2.3".parse().unwrap()));
    assert!(!settings.egress_allow.admits("10.2.0.1".parse().unwrap()));
    assert!(settings.to_string().contains("egress_allow = \"10.1.0.0/16, fd00::/8\" # from MARVIN_EGRESS_ALLOW"));
    assert!(refusal(&[], &[("MARVIN_EGRESS_ALLOW", "10.1.2.3/8")]).contains("10.0.0.0/8 is the network"));
    assert!(refusal(&[], &[("MARVIN_EGRESS_ALLOW", "everything")]).contains("is not a network"));
}
