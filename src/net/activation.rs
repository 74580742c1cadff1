//! Sockets that the service manager has opened for this process and keeps open while it is away: nobody who connects in
//! between is refused, and the process needs no right to open them.
//!
//! The manager hands them over as descriptors from number 3 on and tells how many by `LISTEN_FDS`, to the process whose
//! id is `LISTEN_PID` (systemd.socket(5)). By which name it knows each, in `LISTEN_FDNAMES`, says nothing here: a socket
//! is for the listener that has its address. A socket of the IPv6 wildcard that takes IPv4 too, which is what a manager
//! opens where it is told a port alone, is also for the listener of the IPv4 wildcard at that port; the listener then has
//! IPv6 clients as well.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::AsFd,
};

use listenfd::ListenFd;
use socket2::SockRef;

/// More than this is a mistake; the process could not open so many either.
const MOST: usize = 65_536;

/// The sockets that were handed over, in the order of their descriptors.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Those that listen for connections, each with its address.
    pub tcp: Vec<(SocketAddr, TcpListener)>,
    /// Those that take datagrams: all of an address, which then share its port.
    pub udp: Vec<(SocketAddr, Vec<UdpSocket>)>,
}

impl Inherited {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }

    /// Takes the listener of an address out.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let own = self.tcp.iter().position(|(of, _)| *of == address);
        let at = own.or_else(|| self.tcp.iter().position(|(of, socket)| covers(*of, socket, address)))?;
        Some(self.tcp.remove(at).1)
    }

    /// Takes the sockets of an address out; none where there is none.
    pub fn take_udp(&mut self, address: SocketAddr) -> Vec<UdpSocket> {
        let all_cover = |of, sockets: &[UdpSocket]| sockets.iter().all(|socket| covers(of, socket, address));
        let own = self.udp.iter().position(|(of, _)| *of == address);
        let at = own.or_else(|| self.udp.iter().position(|(of, sockets)| all_cover(*of, sockets)));
        at.map(|at| self.udp.remove(at).1).unwrap_or_default()
    }

    /// Closes what nobody has taken; a warning tells of each address.
    pub fn close(self) {
        let tcp = self.tcp.iter().map(|(address, _)| address);
        for address in tcp.chain(self.udp.iter().map(|(address, _)| address)) {
            tracing::warn!(%address, "A socket that was handed over is closed: no listener has its address.");
        }
    }

    fn add(&mut self, socket: Socket) -> io::Result<()> {
        match socket {
            Socket::Tcp(listener) => self.tcp.push((listener.local_addr()?, listener)),
            Socket::Udp(socket) => {
                let address = socket.local_addr()?;
                match self.udp.iter_mut().find(|(of, _)| *of == address) {
                    Some((_, sockets)) => sockets.push(socket),
                    None => self.udp.push((address, vec![socket])),
                }
            }
        }
        Ok(())
    }
}

/// Whether a socket at `of` takes all that comes to another address.
fn covers(of: SocketAddr, socket: &impl AsFd, address: SocketAddr) -> bool {
    let are_wildcards = of.ip().is_unspecified() && address.ip().is_unspecified();
    let is_same_port = of.is_ipv6() && address.is_ipv4() && of.port() == address.port();
    are_wildcards && is_same_port && SockRef::from(socket).only_v6().is_ok_and(|only| !only)
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Takes the sockets that are meant for this process; none where nobody handed any over.
///
/// Called once, first of all, while the process has one thread: it takes the descriptors by their numbers, and removes
/// `LISTEN_FDS` and `LISTEN_PID` from the environment, so that neither a second call nor a child finds them. A descriptor
/// that is no TCP listener and no UDP socket is left alone, and a warning tells of it. `LISTEN_FDNAMES` stays; without
/// the others it means nothing.
///
/// # Errors
/// What the environment says is no number, or a socket does not tell its address.
pub fn take() -> io::Result<Inherited> {
    let mut all = Inherited::default();
    let (Some(count), Some(pid)) = (number("LISTEN_FDS")?, number("LISTEN_PID")?) else { return Ok(all) };
    if count > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("LISTEN_FDS is {count}; {MOST} will do")));
    }
    let mut handed = ListenFd::from_env();
    if pid != std::process::id() as usize {
        return Ok(all);
    }
    for at in 0..handed.len() {
        match socket(&mut handed, at) {
            Ok(socket) => all.add(socket)?,
            Err(error) => {
                tracing::warn!(descriptor = at + 3, %error, "A descriptor that was handed over is of no use.");
            }
        }
    }
    Ok(all)
}

/// What a variable says; none where it is not set.
fn number(name: &str) -> io::Result<Option<usize>> {
    let Some(text) = std::env::var_os(name) else { return Ok(None) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not a number"));
    number.map(Some).ok_or_else(wrong)
}

fn socket(handed: &mut ListenFd, at: usize) -> io::Result<Socket> {
    if let Ok(Some(listener)) = handed.take_tcp_listener(at) {
        let listens = SockRef::from(&listener).is_listener()?;
        return if listens { Ok(Socket::Tcp(listener)) } else { Err(useless()) };
    }
    match handed.take_udp_socket(at)? {
        Some(socket) if socket.peer_addr().is_err() => Ok(Socket::Udp(socket)),
        _ => Err(useless()),
    }
}

fn useless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it does not listen")
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    fn wildcard(kind: Type, port: u16, only_v6: bool) -> socket2::Socket {
        let socket = socket2::Socket::new(Domain::IPV6, kind, None).unwrap();
        socket.set_only_v6(only_v6).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from(([0u16; 8], port)).into()).unwrap();
        socket
    }

    #[test]
    fn a_wildcard_of_both_families_is_for_the_listener_of_ipv4_at_its_port() {
        let mut all = Inherited::default();
        let both: TcpListener = wildcard(Type::STREAM, 0, false).into();
        let port = both.local_addr().unwrap().port();
        let only: TcpListener = wildcard(Type::STREAM, 0, true).into();
        let other = only.local_addr().unwrap().port();
        let data: UdpSocket = wildcard(Type::DGRAM, 0, false).into();
        let of_data = data.local_addr().unwrap().port();
        let more: UdpSocket = wildcard(Type::DGRAM, of_data, false).into();
        for socket in [Socket::Tcp(both), Socket::Tcp(only), Socket::Udp(data), Socket::Udp(more)] {
            all.add(socket).unwrap();
        }
        let v4 = |port| SocketAddr::from(([0; 4], port));
        assert!(all.take_tcp(v4(other)).is_none(), "it takes no IPv4");
        assert!(
            all.take_tcp(SocketAddr::from(([127, 0, 0, 1], port))).is_none(),
            "a listener of one address has it alone"
        );
        assert!(all.take_udp(v4(port)).is_empty() && all.take_tcp(v4(of_data)).is_none());
        assert!(all.take_tcp(v4(port)).is_some() && all.take_tcp(v4(port)).is_none());
        assert_eq!(all.take_udp(v4(of_data)).len(), 2);
        assert!(all.take_tcp(SocketAddr::from(([0u16; 8], other))).is_some() && all.is_empty());
    }
}
