//! How Redis is reached: with a password and no more rights than are needed, over TLS.
use marvin::cache::{Cache, redis::RedisCache};
use redis::cmd;
use std::{env, path::Path, process::Command};

use super::{
    entry, fill, lease, look,
    server::{self, Server},
    table,
};
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

/// rediss:// is spoken with rustls, and only to a server whose certificate one of the system's roots signed.
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
    again.args(["--exact", "cache::connecting::a_server_is_spoken_to_over_tls_if_its_certificate_is_trusted"]);
    let again = again.env(TRUSTING, &url).env("SSL_CERT_FILE", &trusted).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
}

/// As docs/redis.md lists them.
const RIGHTS: &str = "+get +set +del +mget +pttl +time +eval +evalsha";

#[tokio::test]
async fn a_user_with_few_rights_does() {
    let (server, instance) = (Server::start().await, server::instance());
    let mut stranger = server::stranger(&server.url()).await;
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("marvin").arg(&["on", ">secret", "resetkeys", "nocommands"]);
    user.arg(format!("~{instance}:cache:*")).arg(RIGHTS.split(' ').collect::<Vec<_>>());
    user.exec_async(&mut stranger).await.unwrap();

    let cache = server::connect(&format!("redis://marvin:secret@{}", server.address()), &instance).await;
    let tenure = cache.begin(&table(), 1, 4).await.unwrap();
    cache.put(&table(), &tenure, &[entry(1, 5)], 5).await.unwrap();
    let (head, leased) = lease(&cache, 2).await;
    assert!(fill(&cache, head, leased.unwrap(), Some(entry(2, 3))).await);
    assert_eq!(look(&cache, &[1, 2]).await, (Some(5), vec![Some(5), Some(3)]));

    let refused = RedisCache::new(&format!("redis://marvin:wrong@{}", server.address()), &instance, server::key());
    let refused = marvin::store::chain(&refused.unwrap().probe().await.unwrap_err());
    assert!(refused.contains("WRONGPASS") || refused.contains("authentication"), "{refused}");
}
