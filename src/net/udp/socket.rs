//! The sockets: one that listens for many clients, one connected to a node.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use libc::c_int;
use socket2::{Domain, Protocol, Socket, Type};

use super::{batch::Batch, sys};

/// Sizes of a socket's kernel buffers, in bytes.
///
/// The kernel counts its own bookkeeping as well, and for that doubles what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// Datagrams that came and were not yet read.
    pub receive: usize,
    /// Datagrams that were sent and have not yet left.
    pub send: usize,
}

/// A non-blocking UDP socket.
///
/// Datagrams longer than the path takes are sent in fragments, never refused for their length alone.
#[derive(Debug)]
pub struct UdpSocket {
    pub(super) socket: Socket,
    pub(super) ipv6: bool,
}

impl UdpSocket {
    /// Opens a socket that takes datagrams from anywhere; port 0 takes any free port.
    ///
    /// An IPv6 wildcard also takes IPv4 clients. At a wildcard address each message tells where it was sent to.
    /// With `share_port`, several sockets of this user may listen at one address, and the kernel deals clients
    /// out to them by their address; a client changes its socket only when their number changes.
    ///
    /// Fails as `bind` does, and where the system knows no receive offload for UDP (before Linux 5.0).
    pub fn listen(address: SocketAddr, share_port: bool, buffers: Buffers) -> io::Result<UdpSocket> {
        let this = UdpSocket::open(address, buffers)?;
        if share_port {
            this.socket.set_reuse_port(true)?;
        }
        if this.ipv6 {
            this.socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        this.tell_local_addresses(address)?;
        this.socket.bind(&address.into())?;
        Ok(this)
    }

    /// Takes a listening socket that another process has opened, such as the one that a service manager keeps; from then
    /// on it is as one of [`UdpSocket::listen`], but for who shares its port and whether an IPv6 wildcard takes IPv4
    /// clients, which is as it was. Datagrams that wait in it are not lost; only their congestion marks may be.
    ///
    /// Fails where the socket is not bound or is connected, and as [`UdpSocket::listen`] does.
    pub fn adopt(socket: std::net::UdpSocket, buffers: Buffers) -> io::Result<UdpSocket> {
        let address = socket.local_addr()?;
        if address.port() == 0 || socket.peer_addr().is_ok() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        let this = UdpSocket::tuned(socket.into(), address, buffers)?;
        this.tell_local_addresses(address)?;
        Ok(this)
    }

    /// Has each message at a wildcard address tell where it was sent to.
    fn tell_local_addresses(&self, address: SocketAddr) -> io::Result<()> {
        let (level, option) = match self.ipv6 {
            true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        };
        if address.ip().is_unspecified() { self.set(level, option, 1) } else { Ok(()) }
    }

    /// Opens a socket connected to `node`: it takes datagrams from nobody else, and hears of a closed port.
    ///
    /// Fails without a route, a free port or a free descriptor.
    pub fn connect(node: SocketAddr, buffers: Buffers) -> io::Result<UdpSocket> {
        let this = UdpSocket::open(node, buffers)?;
        this.socket.connect(&node.into())?;
        Ok(this)
    }

    /// A socket that another process of the gateway has opened, with all that it has set on it.
    ///
    /// Fails for what is no socket of the internet families.
    pub fn handed(socket: OwnedFd) -> io::Result<UdpSocket> {
        let mut this = UdpSocket { socket: socket.into(), ipv6: false };
        this.ipv6 = this.local_address()?.is_ipv6();
        Ok(this)
    }

    /// Another descriptor of the same socket.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    fn open(address: SocketAddr, buffers: Buffers) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        UdpSocket::tuned(socket, address, buffers)
    }

    /// What every socket has that is for an address of this family.
    fn tuned(socket: Socket, address: SocketAddr, buffers: Buffers) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        let this = UdpSocket { socket, ipv6: address.is_ipv6() };
        this.set(libc::SOL_UDP, libc::UDP_GRO, 1)?;
        if this.ipv6 {
            this.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            this.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        }
        // On a dual-stack socket these are for its IPv4 half.
        this.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        this.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        this.ask(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, buffers.receive)?;
        this.ask(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, buffers.send)?;
        Ok(this)
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        sys::set_option(self.as_fd(), level, option, value)
    }

    /// Asks for a buffer beyond the system's maximum, which takes a privilege, else for as much as is allowed.
    fn ask(&self, force: c_int, plain: c_int, bytes: usize) -> io::Result<()> {
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        self.set(libc::SOL_SOCKET, force, bytes).or_else(|_| self.set(libc::SOL_SOCKET, plain, bytes))
    }

    /// The buffers as they are: less than was asked for if the system's maximum (`net.core.rmem_max`,
    /// `net.core.wmem_max`) is lower.
    pub fn buffers(&self) -> io::Result<Buffers> {
        Ok(Buffers { receive: self.socket.recv_buffer_size()? / 2, send: self.socket.send_buffer_size()? / 2 })
    }

    /// The address it is bound to.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Datagrams that came and that the kernel threw away, as its receive buffer was full or they were damaged.
    ///
    /// Counted since the socket was opened; the number wraps around.
    pub fn lost(&self) -> io::Result<u32> {
        sys::drops(self.as_fd())
    }

    /// Receives what is there, up to [`MESSAGES`](super::MESSAGES) messages in one system call, into `batch`.
    ///
    /// Returns how many messages came. Fewer than [`MESSAGES`](super::MESSAGES) mean that none is left: whoever is
    /// told of readiness only once (edge-triggered) need not ask again. Where an ICMP error came in between and
    /// kept the rest back, the kernel tells of readiness anew.
    ///
    /// Fails with [`WouldBlock`](io::ErrorKind::WouldBlock) when none is there, and on a connected socket with an
    /// ICMP error that an earlier send met ([`is_icmp`](super::is_icmp)); after that one there may be messages.
    /// Such an error makes the socket not readable: epoll tells it as an error.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        loop {
            match batch.fill(self.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
