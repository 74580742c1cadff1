//! The PROXY protocol, versions 1 and 2: who the client of a front is.
//!
//! The header is read to its last byte and not a byte further, before anything else is.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use ppp::{v1, v2};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::tcp;
use crate::config::{ListenerConfig, ProxyProtocol};

/// The longest line of version 1, CR LF included.
const MAX_V1: usize = 107;
/// The most that version 2 may carry after its fixed part; fronts send a few hundred bytes.
const MAX_V2: usize = 4096;
/// The fixed part of version 2.
const FIXED_V2: usize = 16;

/// The fronts of a listener, and whether they name their clients by a header.
#[derive(Debug)]
pub struct Fronts {
    trusted: Vec<IpNet>,
    accept: bool,
}

impl Fronts {
    /// Those that a listener's `trusted_proxies` and `proxy_protocol` say.
    pub fn new(config: &ListenerConfig) -> Fronts {
        Fronts { trusted: config.trusted_proxies.clone(), accept: config.proxy_protocol == ProxyProtocol::Accept }
    }

    /// Their networks.
    pub fn trusted(&self) -> &[IpNet] {
        &self.trusted
    }

    /// Who the client of a new connection is: who connects, or whom a trusted front names within `patience`.
    ///
    /// # Errors
    /// A trusted front sends no header that can be read, or none in time.
    pub async fn client<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        peer: SocketAddr,
        patience: Duration,
    ) -> io::Result<SocketAddr> {
        if !self.accept || !self.trusted.iter().any(|net| net.contains(&peer.ip())) {
            return Ok(peer);
        }
        let named = timeout(patience, read(stream)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(named.map_or(peer, tcp::canonical))
    }
}

/// The header of version 2 that tells a server who its client is.
pub fn header(client: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let addresses = match (client, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            v2::Addresses::from(v2::IPv4::new(*from.ip(), *to.ip(), from.port(), to.port()))
        }
        // One family for both: an IPv4 address is written as a mapped one.
        (from, to) => v2::Addresses::from(v2::IPv6::new(mapped(from.ip()), mapped(to.ip()), from.port(), to.port())),
    };
    let header = v2::Builder::with_addresses(v2::Version::Two | v2::Command::Proxy, v2::Protocol::Stream, addresses);
    // It fails only for a payload of more than 64 KiB.
    header.build().unwrap_or_default()
}

/// The header of version 2 of who speaks for itself: a health check.
pub fn local() -> Vec<u8> {
    v2::Builder::new(v2::Version::Two | v2::Command::Local, v2::AddressFamily::Unspecified | v2::Protocol::Unspecified)
        .build()
        .unwrap_or_default()
}

fn mapped(ip: IpAddr) -> std::net::Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Reads a header. `None` means that the front speaks for itself (a health check, say).
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut bytes = vec![0; v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut bytes).await?;
    if bytes == v2::PROTOCOL_PREFIX {
        bytes.resize(FIXED_V2, 0);
        stream.read_exact(bytes.get_mut(v2::PROTOCOL_PREFIX.len()..).unwrap_or_default()).await?;
        let length = bytes.last_chunk().map_or(0, |l| usize::from(u16::from_be_bytes(*l)));
        if length > MAX_V2 {
            return Err(bad("the header is too long"));
        }
        bytes.resize(FIXED_V2 + length, 0);
        stream.read_exact(bytes.get_mut(FIXED_V2..).unwrap_or_default()).await?;
        return version2(&bytes);
    }
    if !bytes.starts_with(b"PROXY ") {
        return Err(bad("there is no header"));
    }
    while !bytes.ends_with(b"\r\n") {
        if bytes.len() == MAX_V1 {
            return Err(bad("the header is too long"));
        }
        bytes.push(stream.read_u8().await?);
    }
    version1(&bytes)
}

fn version1(bytes: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v1::Header::try_from(bytes).map_err(|e| bad(&e.to_string()))?;
    // Ports are plain digits; the parser would let a plus sign through.
    if header.addresses != v1::Addresses::Unknown && bytes.contains(&b'+') {
        return Err(bad("a port is malformed"));
    }
    Ok(match header.addresses {
        v1::Addresses::Tcp4(a) => Some(SocketAddr::new(IpAddr::V4(a.source_address), a.source_port)),
        v1::Addresses::Tcp6(a) => Some(SocketAddr::new(IpAddr::V6(a.source_address), a.source_port)),
        v1::Addresses::Unknown => None,
    })
}

fn version2(bytes: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v2::Header::try_from(bytes).map_err(|e| bad(&e.to_string()))?;
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(a) => Some(SocketAddr::new(IpAddr::V4(a.source_address), a.source_port)),
        v2::Addresses::IPv6(a) => Some(SocketAddr::new(IpAddr::V6(a.source_address), a.source_port)),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn read_all(mut bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let result = read(&mut bytes).await;
        (result, bytes.to_vec())
    }

    fn v2_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = v2::PROTOCOL_PREFIX.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((addresses.len() as u16).to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_the_rest() {
        let (v1, rest) = read_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 8443\r\nPUT").await;
        assert_eq!(v1.unwrap().unwrap().to_string(), "192.0.2.7:4711");
        assert_eq!(rest, b"PUT");
        let mut bytes = v2_header(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0x20, 0xfb]);
        bytes.extend(b"PUT");
        let (v2, rest) = read_all(&bytes).await;
        assert_eq!(v2.unwrap().unwrap().to_string(), "192.0.2.7:4711");
        assert_eq!(rest, b"PUT");
    }

    #[tokio::test]
    async fn what_is_written_is_read_again_in_either_family() {
        for (client, to) in [("192.0.2.7:4711", "10.0.0.1:33001"), ("[2001:db8::7]:1", "[::1]:2")] {
            let mut bytes = header(client.parse().unwrap(), to.parse().unwrap());
            bytes.extend(b"SSH-");
            let (read, rest) = read_all(&bytes).await;
            assert_eq!((read.unwrap().unwrap().to_string().as_str(), rest.as_slice()), (client, b"SSH-".as_slice()));
        }
        let mixed = header("192.0.2.7:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        assert_eq!(read_all(&mixed).await.0.unwrap().map(tcp::canonical), Some("192.0.2.7:1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_front_may_speak_for_itself() {
        assert!(read_all(b"PROXY UNKNOWN\r\n").await.0.unwrap().is_none());
        assert!(read_all(&v2_header(0, 0, &[])).await.0.unwrap().is_none());
        assert_eq!(local(), v2_header(0, 0, &[]));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        for bad in [
            b"PUT / HTTP/1.1\r\n".as_slice(),
            b"PROXY TCP4 x y z\r\n\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +4711 8443\r\n",
            b"PROXY",
            &long,
        ] {
            assert!(read_all(bad).await.0.is_err(), "{}", bad.escape_ascii());
        }
        let huge = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(read_all(&huge).await.0.is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), prefix in 0usize..3) {
            let front: &[u8] = [b"".as_slice(), b"PROXY ", v2::PROTOCOL_PREFIX][prefix];
            let all = [front, &bytes].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read_all(&all));
        }
    }
}
