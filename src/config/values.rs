//! What each setting's text means, and why another text does not do.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use actix_web::http::Uri;
use lapin::uri::{AMQPAuthority, AMQPUri};
use redis::{ConnectionAddr, IntoConnectionInfo};

use crate::telemetry;

/// Characters of an instance's name: it becomes a schema, whose name PostgreSQL cuts at 63 bytes, with suffixes behind it.
const INSTANCE_CHARS_MAX: usize = 31;

pub use crate::security::cipher::Suite as CipherSuite;

pub use telemetry::LogFormat;

/// Scheme, host and port as a browser's `Origin` header spells them: lowercase, without the scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    secure: bool,
    authority: String,
}

impl Origin {
    /// The origin of a server that listens at `bound` without TLS. A server that listens everywhere is also local.
    pub fn of(bound: SocketAddr) -> Self {
        let host = match bound {
            _ if bound.ip().is_unspecified() => "localhost".to_owned(),
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        Self::new(false, &host, Some(bound.port()))
    }

    fn new(secure: bool, host: &str, port: Option<u16>) -> Self {
        let own_port = if secure { 443 } else { 80 };
        let host = host.to_ascii_lowercase();
        let authority = match port.filter(|port| *port != own_port) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        Self { secure, authority }
    }

    /// Whether browsers reach it over TLS, so that cookies may demand it.
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority)
    }
}

/// Answers the URL without its password.
pub(super) fn database(text: &str) -> Result<String, String> {
    let what = || "it is not a URL such as postgres://user:password@host:5432/database".to_owned();
    let rest =
        ["postgres://", "postgresql://"].into_iter().find_map(|scheme| text.strip_prefix(scheme)).ok_or_else(what)?;
    // The reader of connection strings would quote what it does not understand, which may be the password.
    let parsed: tokio_postgres::Config = text.parse().map_err(|_| what())?;
    let (host, database) = (parsed.get_hosts().first().ok_or_else(what)?, parsed.get_dbname());
    if rest.is_empty() || database.is_none_or(str::is_empty) {
        return Err(what());
    }
    let host = match host {
        // The rest of a password whose @ was not escaped.
        tokio_postgres::config::Host::Tcp(name) if name.contains('@') => return Err(what()),
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    };
    let port = parsed.get_ports().first().map_or_else(String::new, |port| format!(":{port}"));
    let user = parsed.get_user().map_or_else(String::new, |user| format!("{user}@"));
    Ok(format!("postgres://{user}{host}{port}/{}", database.unwrap_or_default()))
}

/// Answers the URL without its password.
pub(super) fn redis(text: &str) -> Result<String, String> {
    let what = || "it is not a URL such as redis://user:password@host:6379/0, or rediss:// for TLS".to_owned();
    let (scheme, rest) =
        text.split_once("://").filter(|(scheme, _)| ["redis", "rediss"].contains(scheme)).ok_or_else(what)?;
    // In a fragment, the client takes a wish to check no certificate; a query holds nothing that is of use here.
    if rest.contains(['#', '?']) {
        return Err(what());
    }
    // What the reader says of a URL that it does not understand may hold the password.
    let parsed = text.into_connection_info().map_err(|_| what())?;
    let address = match parsed.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if !host.is_empty() => match host {
            host if host.contains(':') => format!("[{host}]:{port}"),
            host => format!("{host}:{port}"),
        },
        _ => return Err(what()),
    };
    let user = parsed.redis_settings().username().map_or_else(String::new, |user| format!("{user}@"));
    Ok(format!("{scheme}://{user}{address}/{}", parsed.redis_settings().db()))
}

/// Answers the URL without its password.
pub(super) fn amqp(text: &str) -> Result<String, String> {
    let what = || "it is not a URL such as amqp://user:password@host:5672/vhost, or amqps:// for TLS".to_owned();
    let (scheme, rest) =
        text.split_once("://").filter(|(scheme, _)| ["amqp", "amqps"].contains(scheme)).ok_or_else(what)?;
    // In a query, the client takes wishes that would loosen what this program relies on.
    if rest.contains(['#', '?']) {
        return Err(what());
    }
    // What the reader says of a URL that it does not understand may hold the password.
    let parsed: AMQPUri = text.parse().map_err(|_| what())?;
    let AMQPAuthority { userinfo, host, port } = parsed.authority;
    // The reader takes no host for this machine, and of two @ the second: the rest of a password whose @ was not escaped.
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() || authority.ends_with('@') || authority.matches('@').count() > 1 {
        return Err(what());
    }
    Ok(format!("{scheme}://{}@{host}:{port}/{}", userinfo.username, parsed.vhost.trim_start_matches('/')))
}

pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address with a port, such as 127.0.0.1:8080"))
}

pub(super) fn socket_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" { Ok(None) } else { socket(text).map(Some).map_err(|reason| format!("{reason}, and not off")) }
}

pub(super) fn origin(text: &str) -> Result<Origin, String> {
    let wrong =
        || "it is not http:// or https:// with a host and no path, such as https://marvin.example.org".to_owned();
    // The parser drops a fragment silently.
    let uri: Uri = Some(text).filter(|text| !text.contains('#')).ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    let port = authority.port_u16();
    let spelled = port.map_or_else(|| authority.host().to_owned(), |port| format!("{}:{port}", authority.host()));
    // What is not host and port is a user, a password, or a port out of range.
    if authority.host().is_empty() || spelled != authority.as_str() || port == Some(0) {
        return Err(wrong());
    }
    let ends_there = matches!(uri.path(), "" | "/") && uri.query().is_none();
    ends_there.then(|| Origin::new(secure, authority.host(), port)).ok_or_else(wrong)
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn cipher(text: &str) -> Result<CipherSuite, String> {
    match text {
        "xchacha20poly1305" => Ok(CipherSuite::XChaCha20Poly1305),
        "aes256gcm" => Ok(CipherSuite::Aes256Gcm),
        _ => Err(format!("{text:?} is neither xchacha20poly1305 nor aes256gcm")),
    }
}

pub(super) fn instance(text: &str) -> Result<String, String> {
    let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
    let continues = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    // An instance has a role and more schemas of such names.
    if let Some(taken) = ["_subjects", "_views", "_app"].into_iter().find(|taken| text.ends_with(taken)) {
        return Err(format!("{text:?} ends in {taken}, which is kept for what belongs to an instance"));
    }
    if starts && continues && text.len() <= INSTANCE_CHARS_MAX {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a lowercase letter and up to 30 more letters, digits and underscores"))
}

pub(super) fn log(text: &str) -> Result<String, String> {
    telemetry::filter(text).map(|_| text.to_owned()).map_err(|error| format!("{text:?} is not a log filter: {error}"))
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is neither text nor json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://marvin.example.org", "https://marvin.example.org")]
    #[case("https://marvin.example.org/", "https://marvin.example.org")]
    #[case("HTTPS://Marvin.Example.ORG:443", "https://marvin.example.org")]
    #[case("http://localhost:8080", "http://localhost:8080")]
    #[case("http://127.0.0.1:80", "http://127.0.0.1")]
    #[case("http://[::1]:8080", "http://[::1]:8080")]
    fn an_origin_reads_as_a_browser_spells_it(#[case] text: &str, #[case] spelled: &str) {
        let origin = origin(text).unwrap();
        assert_eq!(origin.to_string(), spelled);
        assert_eq!(origin.is_secure(), spelled.starts_with("https"));
    }

    #[rstest]
    #[case("")]
    #[case("marvin.example.org")]
    #[case("ftp://marvin.example.org")]
    #[case("https://")]
    #[case("https://:8080")]
    #[case("https://marvin.example.org/app")]
    #[case("https://marvin.example.org/?a=b")]
    #[case("https://marvin.example.org/#top")]
    #[case("https://user:secret@marvin.example.org")]
    #[case("https://marvin.example.org:99999")]
    #[case("https://marvin.example.org:0")]
    #[case("https://marvin.example.org:")]
    #[case("https://marvin example.org")]
    fn anything_but_an_http_origin_is_refused_without_being_echoed(#[case] text: &str) {
        assert!(!origin(text).unwrap_err().contains("secret"));
    }

    #[rstest]
    #[case("127.0.0.1:8080", "http://127.0.0.1:8080")]
    #[case("0.0.0.0:80", "http://localhost")]
    #[case("[::]:9000", "http://localhost:9000")]
    #[case("[::1]:9000", "http://[::1]:9000")]
    fn a_bound_address_has_an_origin(#[case] bound: &str, #[case] spelled: &str) {
        assert_eq!(Origin::of(bound.parse().unwrap()).to_string(), spelled);
    }

    #[rstest]
    #[case("marvin", true)]
    #[case("m", true)]
    #[case("m2_test", true)]
    #[case("abcdefghijklmnopqrstuvwxyz01234", true)]
    #[case("abcdefghijklmnopqrstuvwxyz012345", false)]
    #[case("", false)]
    #[case("2marvin", false)]
    #[case("_marvin", false)]
    #[case("Marvin", false)]
    #[case("mar-vin", false)]
    #[case("märvin", false)]
    #[case("marvin;drop", false)]
    #[case("marvin_subjects", false)]
    #[case("marvin_views", false)]
    #[case("marvin_app", false)]
    fn an_instance_has_a_plain_name(#[case] text: &str, #[case] fits: bool) {
        assert_eq!(instance(text).is_ok(), fits);
    }
}
