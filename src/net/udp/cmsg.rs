//! Control messages: what the kernel tells about a datagram, and what it is told about one.
//!
//! Each is a header (length with header as a word of the machine, level, type), its data, and padding to
//! the next word. They are read and written as bytes; what does not fit the form ends the reading.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::c_int;

use super::{address::at, send::Way};

/// The two bits of a traffic class that are for congestion marks.
const ECN: u8 = 0b11;
const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 2 * size_of::<c_int>();

/// What came with a message.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The local address it was sent to.
    pub to: Option<IpAddr>,
    /// The congestion marks, two bits.
    pub ecn: u8,
    /// The size that all its datagrams but the last have, if there are several, in bytes.
    pub segment: Option<usize>,
}

/// Reads the control messages that the kernel wrote beside a message. Of two of a kind the later one holds.
pub fn told(mut control: &[u8]) -> Told {
    let mut received = Told::default();
    while let Some((level, kind, data, rest)) = first(control) {
        take(level, kind, data, &mut received);
        control = rest;
    }
    received
}

/// Level, type and data of the first message, and what follows it.
fn first(control: &[u8]) -> Option<(c_int, c_int, &[u8], &[u8])> {
    let length = usize::from_ne_bytes(at(control, 0)?);
    let level = c_int::from_ne_bytes(at(control, WORD)?);
    let kind = c_int::from_ne_bytes(at(control, WORD + size_of::<c_int>())?);
    let data = control.get(HEADER..length)?;
    let rest = length.checked_next_multiple_of(WORD).and_then(|end| control.get(end..)).unwrap_or_default();
    Some((level, kind, data, rest))
}

fn take(level: c_int, kind: c_int, data: &[u8], received: &mut Told) {
    match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // The second of the three fields: the local address, also where the datagram was broadcast. There is none for
            // one that came before this was asked for; then the third, where it was sent to.
            let place = if at(data, 4) == Some([0; 4]) { 8 } else { 4 };
            received.to = at::<4>(data, place).map(|ip| Ipv4Addr::from(ip).into()).or(received.to);
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            received.to = at::<16>(data, 0).map(|ip| Ipv6Addr::from(ip).to_canonical()).or(received.to);
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => received.ecn = data.first().map_or(0, |class| class & ECN),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            received.ecn = at(data, 0).map_or(0, |class| c_int::from_ne_bytes(class) as u8 & ECN);
        }
        (libc::SOL_UDP, libc::UDP_GRO) => {
            let size = at(data, 0).and_then(|size| usize::try_from(c_int::from_ne_bytes(size)).ok());
            received.segment = size.filter(|size| *size > 0);
        }
        _ => {}
    }
}

/// Control messages for one send, in place.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: [u8; 128],
    len: usize,
}

impl Outgoing {
    /// For datagrams with the marks `ecn`, cut into segments of `segment` bytes if that is given.
    ///
    /// `ipv6` is the family of the socket's peer where `way` names none.
    pub(super) fn new(way: Way, ipv6: bool, ecn: u8, segment: Option<u16>) -> Outgoing {
        let mut out = Outgoing { bytes: [0; 128], len: 0 };
        let ipv6 = way.to.map_or(ipv6, |to| to.is_ipv6());
        // An IPv4 peer of a dual-stack socket is served by the IPv4 half of the kernel, which heeds its own level.
        match way.from {
            Some(IpAddr::V4(ip)) if !ipv6 => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                out.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some(IpAddr::V6(ip)) if ipv6 => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                out.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            _ => {}
        }
        if ecn & ECN != 0 {
            let class = c_int::from(ecn & ECN).to_ne_bytes();
            let (level, kind) =
                if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
            out.put(level, kind, &class);
        }
        if let Some(segment) = segment {
            out.put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        out
    }

    /// Adds one; the three kinds there are take 88 bytes at most.
    fn put(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let length = HEADER + data.len();
        let Some(place) = self.bytes.get_mut(self.len..self.len + length) else { return };
        place[..WORD].copy_from_slice(&length.to_ne_bytes());
        place[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        place[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        place[HEADER..].copy_from_slice(data);
        self.len += length.next_multiple_of(WORD);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.min(self.bytes.len())]
    }
}
