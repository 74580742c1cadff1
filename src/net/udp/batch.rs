//! What one receive brought: up to 32 messages in memory that is allocated once.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::BorrowedFd,
};

use super::{
    address, cmsg,
    run::Datagrams,
    sys::{self, Control, Filled, Name, ROOM},
};

/// Messages that one receive takes at most. Each may be up to 64 datagrams and more.
pub const MESSAGES: usize = 32;
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One message: one datagram, or several of one sender that the kernel joined.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The datagrams one after the other.
    pub bytes: &'a [u8],
    /// The size of each datagram but the last, which may be shorter, in bytes; of one alone, its length.
    pub stride: usize,
    /// The sender, an IPv4 address where it is one.
    pub from: SocketAddr,
    /// The local address it was sent to; sockets of a wildcard address know it.
    pub to: Option<IpAddr>,
    /// The congestion marks, two bits.
    pub ecn: u8,
    /// Its end, or what the kernel told about it, was cut off. The room is made so that this does not happen.
    pub truncated: bool,
}

impl<'a> Message<'a> {
    /// The datagrams, to be sent on.
    pub fn datagrams(&self) -> Datagrams<'a> {
        Datagrams { bytes: self.bytes, stride: self.stride, ecn: self.ecn }
    }
}

/// Room for what one receive brings: 2 MiB, of which only what is written to takes memory.
pub struct Batch {
    data: Vec<u8>,
    names: Box<[Name; MESSAGES]>,
    controls: Box<[Control; MESSAGES]>,
    filled: [Filled; MESSAGES],
    count: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Batch {
        Batch {
            data: vec![0; MESSAGES * ROOM],
            names: Box::new([Name([0; 28]); MESSAGES]),
            controls: Box::new([Control([0; 128]); MESSAGES]),
            filled: [Filled::default(); MESSAGES],
            count: 0,
        }
    }

    /// The messages of the last receive, in the order in which they came.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        let parts = self.data.chunks_exact(ROOM).zip(self.names.iter()).zip(self.controls.iter()).zip(&self.filled);
        parts.take(self.count).map(|(((data, name), control), filled)| {
            let bytes = data.get(..filled.data).unwrap_or(data);
            let told = cmsg::told(control.0.get(..filled.control).unwrap_or(&control.0));
            Message {
                bytes,
                stride: told.segment.map_or(bytes.len(), |segment| segment.min(bytes.len())),
                from: address::read(name.0.get(..filled.name).unwrap_or(&name.0)).unwrap_or(NOWHERE),
                to: told.to,
                ecn: told.ecn,
                truncated: filled.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
            }
        })
    }

    /// Receives anew; what was here is gone, also if that fails.
    pub(super) fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        self.count = sys::receive(socket, &mut self.data, &mut self.names, &mut self.controls, &mut self.filled)?;
        Ok(self.count)
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("messages", &self.count).finish_non_exhaustive()
    }
}
