//! The addresses of names, asked of name servers and remembered as long as they say.

mod record;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{self, ConnectionConfig, LookupIpStrategy, NameServerConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{ProtoError, rr::Name},
};
use tokio::time::timeout;

use crate::config::ResolverConfig;

pub use record::{Answer, Service};

/// How long it is remembered that there is no such name; it may come into being, and who waits for it tries again.
const NEGATIVE: Duration = Duration::from_secs(10);
/// Answers that are remembered at once.
const PLACES: u64 = 4096;
/// How often a server is asked before the name counts as not found.
const ATTEMPTS: u32 = 2;

/// Why there is no resolver, or a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The system does not say which name servers it has.
    #[error("the system's name servers cannot be read: {0}")]
    System(#[source] NetError),
    /// It is no name.
    #[error("this is no name: {0}")]
    Name(#[from] ProtoError),
    /// No server answered in time.
    #[error("no name server answered in time")]
    Timeout,
    /// There is no such name, or it has no address.
    #[error("the name has no address")]
    NotFound,
    /// The servers could not say.
    #[error("the name servers could not say: {0}")]
    Failed(#[source] NetError),
}

/// Finds the addresses of names. Names are taken as they are: no search list is appended, so that what a rule named is
/// what is asked for. The system's hosts file counts.
pub struct Resolver {
    inner: TokioResolver,
    timeout: Duration,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that asks the configured servers, or else those of the system.
    ///
    /// # Errors
    /// No server is configured, and the system's cannot be read.
    pub fn build(config: &ResolverConfig) -> Result<Resolver, DnsError> {
        Resolver::with(config, PLACES)
    }

    /// A resolver that remembers nothing: the servers are asked each time.
    ///
    /// # Errors
    /// No server is configured, and the system's cannot be read.
    pub fn fresh(config: &ResolverConfig) -> Result<Resolver, DnsError> {
        Resolver::with(config, 0)
    }

    fn with(config: &ResolverConfig, places: u64) -> Result<Resolver, DnsError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if config.servers.is_empty() {
            TokioResolver::builder(provider).map_err(DnsError::System)?
        } else {
            let servers = config.servers.iter().map(server).collect();
            TokioResolver::builder_with_config(config::ResolverConfig::from_name_servers(servers), provider)
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = config.timeout / ATTEMPTS;
        options.attempts = ATTEMPTS as usize;
        options.cache_size = places;
        options.negative_max_ttl = Some(NEGATIVE);
        let inner = builder.build().map_err(DnsError::Failed)?;
        Ok(Resolver { inner, timeout: config.timeout })
    }

    /// Every address of a name, IPv6 and IPv4 by turns, each once; never none.
    ///
    /// # Errors
    /// It has none, or the servers did not say in time.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let mut name = Name::from_ascii(name)?;
        name.set_fqdn(true);
        let found = match timeout(self.timeout, self.inner.lookup_ip(name)).await {
            Err(_) | Ok(Err(NetError::Timeout)) => return Err(DnsError::Timeout),
            Ok(Err(error)) if error.is_no_records_found() => return Err(DnsError::NotFound),
            Ok(found) => found.map_err(DnsError::Failed)?,
        };
        let addresses = by_turns(found.iter());
        if addresses.is_empty() { Err(DnsError::NotFound) } else { Ok(addresses) }
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

/// The families one after the other, IPv6 first (RFC 8305, section 4).
fn by_turns(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in found.map(|ip| ip.to_canonical()) {
        if !all.contains(&ip) {
            all.push(ip);
        }
    }
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = all.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = (v6.next(), v4.next());
        if pair == (None, None) {
            return mixed;
        }
        mixed.extend(pair.0.into_iter().chain(pair.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_each_address_comes_once() {
        let found = ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1", "192.0.2.3", "2001:db8::1"];
        let mixed = by_turns(found.iter().map(|text| text.parse().unwrap()));
        let text: Vec<_> = mixed.iter().map(IpAddr::to_string).collect();
        assert_eq!(text, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }
}
