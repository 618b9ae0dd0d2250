//! rediss:// is spoken with rustls, and only to a server whose certificate one of the system's roots signed.
use marvin::cache::{Cache, redis::RedisCache};
use std::{env, path::Path, process::Command};

use super::server::{self, Server};
use crate::wait::eventually;

/// Set where this program runs itself, trusting the certificate in `SSL_CERT_FILE`.
const TRUSTING: &str = "MARVIN_TEST_TRUSTED_REDIS";

fn certificate(directory: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.current_dir(directory).args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "certificate.pem"]);
    assert!(openssl.output().expect("openssl makes the certificate").status.success());
}

#[tokio::test]
async fn a_server_is_spoken_to_over_tls_if_its_certificate_is_trusted() {
    if let Ok(url) = env::var(TRUSTING) {
        let cache = RedisCache::new(&url, "marvin", server::key()).unwrap();
        cache.probe().await.unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path());
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (key, trusted) = (file("key.pem"), file("certificate.pem"));
    let arguments =
        ["--tls-key-file", &key, "--tls-cert-file", &trusted, "--tls-auth-clients", "no"].map(str::to_owned);
    let server = Server::start_with(|port| {
        [&["--port", "0", "--tls-port", &port.to_string()].map(str::to_owned), &arguments[..]].concat()
    })
    .await;
    let url = format!("rediss://localhost:{}", server.port());
    eventually("the server listens", async || tokio::net::TcpStream::connect(server.address()).await.ok()).await;

    let distrusting = RedisCache::new(&url, "marvin", server::key()).unwrap();
    let refused = distrusting.probe().await.unwrap_err();
    let said = marvin::store::chain(&refused);
    assert!(said.contains("certificate"), "{said}");

    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", "cache::tls::a_server_is_spoken_to_over_tls_if_its_certificate_is_trusted"]);
    let again = again.env(TRUSTING, &url).env("SSL_CERT_FILE", &trusted).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
}
