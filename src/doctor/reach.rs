//! Finding an address and connecting to it, as ascp does: IPv4 alone, no second try.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};

use super::diagnosis::Diagnosis;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What kept a path from being tried, and what was seen of it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) diagnosis: Diagnosis,
    pub(super) seen: String,
}

impl Fault {
    pub(super) fn new(diagnosis: Diagnosis, seen: impl Into<String>) -> Fault {
        Fault { diagnosis, seen: seen.into() }
    }
}

/// The first IPv4 address.
pub(super) async fn address(place: &Place, patience: Duration) -> Result<SocketAddr, Fault> {
    let looking = timeout(patience, tokio::net::lookup_host((place.host.as_str(), place.port)));
    let none = |why: String| Fault::new(Diagnosis::NoAddress, format!("{}: {why}", place.host));
    let all: Vec<_> = match looking.await {
        Err(_) => return Err(none("the name servers do not answer".to_owned())),
        Ok(Err(error)) => return Err(none(error.to_string())),
        Ok(Ok(all)) => all.collect(),
    };
    let first = all.first().copied().ok_or_else(|| none("no address".to_owned()))?;
    let four = all.into_iter().find(SocketAddr::is_ipv4);
    four.ok_or_else(|| Fault::new(Diagnosis::NoIpv4, format!("{} is {}", place.host, first.ip())))
}

/// Connects to the first IPv4 address.
pub(super) async fn connect(place: &Place, patience: Duration) -> Result<TcpStream, Fault> {
    let address = address(place, patience).await?;
    match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(told(place, address.ip(), &error)),
        Err(_) => Err(Fault::new(Diagnosis::NoAnswer, format!("{place} ({}): no answer", address.ip()))),
    }
}

fn told(place: &Place, ip: IpAddr, error: &io::Error) -> Fault {
    let diagnosis = match error.kind() {
        io::ErrorKind::ConnectionRefused => Diagnosis::Refused,
        io::ErrorKind::TimedOut => Diagnosis::NoAnswer,
        _ => Diagnosis::Broken,
    };
    Fault::new(diagnosis, format!("{place} ({ip}): {error}"))
}
