//! Listening sockets: opened here, or open already when the gateway starts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::{
    config::{ListenerConfig, Protocol},
    net::{tcp, udp::UdpSocket},
    relay::DataSockets,
};

/// A bound socket that nothing has come out of yet.
pub(super) enum Socket {
    Stream(TcpListener, SocketAddr),
    Data(DataSockets),
}

impl Socket {
    pub(super) fn open(config: &ListenerConfig) -> io::Result<Socket> {
        if config.protocol == Protocol::Udp {
            return DataSockets::open(config).map(Socket::Data);
        }
        Socket::stream(tcp::listen(config.address.first())?)
    }

    fn stream(socket: TcpListener) -> io::Result<Socket> {
        let bound = socket.local_addr()?;
        Ok(Socket::Stream(socket, bound))
    }
}

/// The sockets of a listener that is open in another process.
#[derive(Debug)]
pub(super) struct OfListener {
    /// The listener as that process has it, as far as a socket goes.
    pub(super) config: ListenerConfig,
    pub(super) sockets: OpenSockets,
}

/// Sockets that are open already.
#[derive(Debug)]
pub(super) enum OpenSockets {
    Stream(std::net::TcpListener),
    /// For each thread one for each port.
    Data(Vec<Vec<UdpSocket>>),
}

/// Sockets that are open already when the gateway starts, until a listener takes them.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) open: Vec<OfListener>,
    /// Those that were taken: what the listener was called there, and what it is called here.
    pub(super) taken: Vec<(String, String)>,
}

impl Offered {
    /// The socket for this listener, if it is there.
    pub(super) fn take(&mut self, config: &ListenerConfig) -> Option<io::Result<Socket>> {
        let at = self.open.iter().position(|open| config.keeps_socket_of(&open.config))?;
        let open = self.open.swap_remove(at);
        self.taken.push((open.config.name, config.name.clone()));
        Some(match open.sockets {
            OpenSockets::Stream(socket) => TcpListener::from_std(socket).and_then(Socket::stream),
            OpenSockets::Data(sockets) => DataSockets::handed(config, sockets).map(Socket::Data),
        })
    }
}
