//! TLS to the database.
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::tls::client_config;

/// A connector for every `sslmode`: a server without TLS is spoken to in clear unless the URL says `sslmode=require`.
pub fn connector() -> Result<MakeRustlsConnect, String> {
    client_config().map(MakeRustlsConnect::new)
}
