//! Sending: one datagram, or a run of them, with what becomes of those that cannot go.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
};

use libc::c_int;
use socket2::MsgHdr;

use super::{address, cmsg::Outgoing, run::Run, socket::UdpSocket};

/// Where datagrams go, and the local address they leave from. Both are left out on a connected socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// The receiver; the socket's own peer without it.
    pub to: Option<SocketAddr>,
    /// An address of this machine, of the receiver's family; the kernel chooses without it.
    pub from: Option<IpAddr>,
}

/// What the socket's route does with segmented sends, as far as was seen.
///
/// Kept for each flow: a network device without offload, or a route whose MTU is less than a segment, refuses
/// every time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Segmenting {
    /// The smallest segment that was refused, in bytes.
    refused: Option<u16>,
}

impl Segmenting {
    fn may(self, segment: u16) -> bool {
        self.refused.is_none_or(|refused| segment < refused)
    }
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The send buffer or the device's queue is full.
    Full,
    /// There is no way to the receiver, or it said again that nobody listens there.
    Unreachable,
    /// The datagram is longer than the address family allows.
    TooLong,
    /// Any other refusal of the system.
    Failed,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that were sent.
    pub datagrams: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Datagrams that were not.
    pub dropped: usize,
    /// Why the last of those was not.
    pub why: Option<Unsent>,
    /// An ICMP error came for something sent earlier.
    pub icmp: bool,
}

/// Whether this is an ICMP error that came for something sent earlier, or a lack of a route.
pub fn is_icmp(error: &io::Error) -> bool {
    const ERRORS: [c_int; 9] = [
        // ICMPv6: administratively prohibited, and alike.
        libc::EACCES,
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
    ];
    error.raw_os_error().is_some_and(|error| ERRORS.contains(&error))
}

pub(super) fn why(error: &io::Error) -> Unsent {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Unsent::Full,
        Some(libc::EMSGSIZE) => Unsent::TooLong,
        _ if is_icmp(error) => Unsent::Unreachable,
        _ => Unsent::Failed,
    }
}

/// Whether a segmented send may have been refused for being segmented: no offload at the device, a segment longer
/// than the MTU, more segments than this system takes.
fn refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE))
}

impl UdpSocket {
    /// Sends `parts`, as one datagram or cut into datagrams of `segment` bytes, in one system call.
    ///
    /// `ecn` are the congestion marks. Fails with [`WouldBlock`](io::ErrorKind::WouldBlock) when the send buffer is
    /// full, and on a connected socket with an ICMP error for something sent earlier ([`is_icmp`]).
    pub fn send(&self, way: Way, ecn: u8, parts: &[IoSlice<'_>], segment: Option<u16>) -> io::Result<()> {
        let control = Outgoing::new(way, self.ipv6, ecn, segment);
        let to = way.to.map(|to| address::for_socket(to, self.ipv6).into());
        let mut message = MsgHdr::new().with_buffers(parts);
        if let Some(to) = &to {
            message = message.with_addr(to);
        }
        if !control.as_bytes().is_empty() {
            message = message.with_control(control.as_bytes());
        }
        loop {
            match self.socket.sendmsg(&message, libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|_| ()),
            }
        }
    }

    /// Sends a run, in one system call where that can be.
    ///
    /// Where a segmented send is refused, its datagrams go one by one, and `segmenting` remembers. An ICMP error is
    /// told, and what met it is sent again once: the error is not about this run. When the send buffer is full, what
    /// is left is dropped.
    pub fn send_run(&self, way: Way, run: &Run<'_>, segmenting: &mut Segmenting) -> Sent {
        let mut sent = Sent::default();
        match run.segment() {
            Some(segment) if segmenting.may(segment) => {
                let result = self.send_again(way, run.ecn(), run.parts(), Some(segment), &mut sent);
                match result {
                    Err(error) if refused(&error) => {
                        self.send_each(way, run, &mut sent);
                        // Otherwise it was not the segments.
                        if sent.datagrams > 0 {
                            segmenting.refused = Some(segment);
                        }
                    }
                    result => sent.count(run.datagrams(), run.bytes(), result),
                }
            }
            _ => self.send_each(way, run, &mut sent),
        }
        sent
    }

    fn send_each(&self, way: Way, run: &Run<'_>, sent: &mut Sent) {
        for datagram in run.each() {
            if sent.why == Some(Unsent::Full) {
                sent.dropped += 1;
                continue;
            }
            let result = self.send_again(way, run.ecn(), &[IoSlice::new(datagram)], None, sent);
            sent.count(1, datagram.len(), result);
        }
    }

    /// Sends, and once more after an ICMP error.
    fn send_again(
        &self,
        way: Way,
        ecn: u8,
        parts: &[IoSlice<'_>],
        segment: Option<u16>,
        sent: &mut Sent,
    ) -> io::Result<()> {
        match self.send(way, ecn, parts, segment) {
            Err(error) if is_icmp(&error) => {
                sent.icmp = true;
                self.send(way, ecn, parts, segment)
            }
            result => result,
        }
    }
}

impl Sent {
    fn count(&mut self, datagrams: usize, bytes: usize, result: io::Result<()>) {
        match result {
            Ok(()) => {
                self.datagrams += datagrams;
                self.bytes += bytes;
            }
            Err(error) => {
                self.dropped += datagrams;
                self.why = Some(why(&error));
            }
        }
    }
}
