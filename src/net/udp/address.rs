//! Socket addresses: from the kernel's bytes, and between a dual-stack socket and its IPv4 peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::c_int;

/// Where the parts of a `sockaddr` stand; family and scope are in the machine's byte order, the port is not.
const FAMILY: usize = 0;
const PORT: usize = 2;
const IPV4: usize = 4;
const IPV6: usize = 8;
const SCOPE: usize = 24;

/// Reads an address of the internet families; an IPv4 address that came over an IPv6 socket is the IPv4 address.
pub(super) fn read(name: &[u8]) -> Option<SocketAddr> {
    let family = c_int::from(u16::from_ne_bytes(at(name, FAMILY)?));
    let port = u16::from_be_bytes(at(name, PORT)?);
    match family {
        libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(at::<4>(name, IPV4)?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(at::<16>(name, IPV6)?);
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => SocketAddrV4::new(ip, port).into(),
                None => SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(at(name, SCOPE)?)).into(),
            })
        }
        _ => None,
    }
}

/// The address as a socket of IPv6, if it is one, wants it.
pub(super) fn for_socket(address: SocketAddr, ipv6: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ipv6 => SocketAddrV6::new(ip.to_ipv6_mapped(), address.port(), 0, 0).into(),
        _ => address,
    }
}

/// The bytes of a fixed number at a place, if all are there.
pub(super) fn at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..)?.first_chunk().copied()
}
