//! Listening sockets: opened here, or open already when the gateway starts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::{
    config::{ListenerConfig, Protocol},
    net::{activation::Inherited, tcp, udp::UdpSocket},
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
    /// The socket of the admin door, and its address.
    pub(super) admin: Option<(SocketAddr, std::net::TcpListener)>,
    /// What a service manager has opened, by address.
    pub(super) inherited: Inherited,
    /// Those that were taken: what the listener was called there, and what it is called here.
    pub(super) taken: Vec<(String, String)>,
}

impl Offered {
    /// Sockets that a service manager has opened.
    pub(super) fn inherited(inherited: Inherited) -> Offered {
        Offered { inherited, ..Offered::default() }
    }

    /// The socket for the admin door at this address, if it is there.
    pub(super) fn take_admin(&mut self, address: SocketAddr) -> Option<io::Result<TcpListener>> {
        let of_process = self.admin.take_if(|(there, _)| *there == address || address.port() == 0);
        if let Some((_, socket)) = of_process {
            return Some(TcpListener::from_std(socket));
        }
        self.inherited.take_tcp(address).map(tcp::adopt)
    }

    /// The socket for this listener, if it is there.
    pub(super) fn take(&mut self, config: &ListenerConfig) -> Option<io::Result<Socket>> {
        self.take_of_process(config).or_else(|| self.take_inherited(config))
    }

    fn take_inherited(&mut self, config: &ListenerConfig) -> Option<io::Result<Socket>> {
        if config.protocol != Protocol::Udp {
            let socket = self.inherited.take_tcp(config.address.first())?;
            return Some(tcp::adopt(socket).and_then(Socket::stream));
        }
        let mut ports: Vec<_> = config.address.all().map(|address| self.inherited.take_udp(address)).collect();
        // A thread has one for each port; where one port has fewer, the others' last ones are not used.
        let threads = ports.iter().map(Vec::len).min().filter(|threads| *threads > 0)?;
        let of_thread = |_| ports.iter_mut().map(|sockets| sockets.remove(0)).collect::<Vec<_>>();
        let sockets = (0..threads).map(of_thread).collect();
        Some(DataSockets::adopt(config, sockets).map(Socket::Data))
    }

    fn take_of_process(&mut self, config: &ListenerConfig) -> Option<io::Result<Socket>> {
        let at = self.open.iter().position(|open| config.keeps_socket_of(&open.config))?;
        let open = self.open.swap_remove(at);
        self.taken.push((open.config.name, config.name.clone()));
        Some(match open.sockets {
            OpenSockets::Stream(socket) => TcpListener::from_std(socket).and_then(Socket::stream),
            OpenSockets::Data(sockets) => DataSockets::handed(config, sockets).map(Socket::Data),
        })
    }
}
