//! Looks names up and lets only those addresses through that may be dialled.
use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::Allowed;

/// Addresses of one name that are tried: a name with more is no receiver's.
const ADDRESSES_MAX: usize = 16;

/// None of a name's addresses may be dialled.
#[derive(Debug, thiserror::Error)]
#[error("none of its addresses may be called")]
pub struct Blocked;

/// What turns names into addresses.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// # Errors
    /// When the name has no address, or nobody could be asked.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the system is set up: its hosts file, then DNS.
#[derive(Debug)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// What the client's connections are resolved by: they are dialled at what this answers, and nowhere else.
pub(super) struct Guarded {
    lookup: Arc<dyn Lookup>,
    allowed: Arc<Allowed>,
}

impl Guarded {
    pub fn new(lookup: Arc<dyn Lookup>, allowed: Arc<Allowed>) -> Self {
        Self { lookup, allowed }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, allowed) = (self.lookup.clone(), self.allowed.clone());
        Box::pin(async move {
            let found = lookup.addresses(name.as_str()).await?;
            let admitted = found.into_iter().filter(|address| allowed.admits(*address)).take(ADDRESSES_MAX);
            // The port is the URL's.
            let addresses: Vec<_> = admitted.map(|address| SocketAddr::new(address, 0)).collect();
            if addresses.is_empty() {
                return Err(Blocked.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
