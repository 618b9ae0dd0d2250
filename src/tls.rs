//! TLS to others: their certificates are checked against the system's roots, or those that SSL_CERT_FILE names.
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Where the system has no roots, nobody's certificate is good; plain connections go on.
///
/// # Errors
/// In words.
pub fn client_config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
