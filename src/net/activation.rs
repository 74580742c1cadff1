//! Sockets that the service manager has opened for this process and keeps open while it is away: nobody who connects in
//! between is refused, and the process needs no right to open them.
//!
//! The manager hands them over as descriptors from number 3 on and tells how many by `LISTEN_FDS`, to the process whose
//! id is `LISTEN_PID` (systemd.socket(5)). By which name it knows each, in `LISTEN_FDNAMES`, says nothing here: a socket
//! is for the listener that has its address.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
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
        let at = self.tcp.iter().position(|(of, _)| *of == address)?;
        Some(self.tcp.remove(at).1)
    }

    /// Takes the sockets of an address out; none where there is none.
    pub fn take_udp(&mut self, address: SocketAddr) -> Vec<UdpSocket> {
        let at = self.udp.iter().position(|(of, _)| *of == address);
        at.map(|at| self.udp.remove(at).1).unwrap_or_default()
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
