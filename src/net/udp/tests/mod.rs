//! What the sockets promise, over the loopback.

mod adopted;
mod control;
mod run;
mod sending;
mod sockets;

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use tokio::io::{Interest, Ready};

use super::*;

const BUFFERS: Buffers = Buffers { receive: 1 << 20, send: 1 << 20 };

/// What a test keeps of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    bytes: Vec<u8>,
    stride: usize,
    from: SocketAddr,
    to: Option<std::net::IpAddr>,
    ecn: u8,
}

impl Kept {
    fn each(&self) -> Vec<Vec<u8>> {
        if self.bytes.is_empty() {
            return vec![vec![]];
        }
        self.bytes.chunks(self.stride).map(<[u8]>::to_vec).collect()
    }
}

/// A socket of ours that is waited for: edge-triggered, at another descriptor of the same socket.
struct Waiting {
    socket: UdpSocket,
    readiness: tokio::net::UdpSocket,
}

impl Waiting {
    fn new(socket: UdpSocket) -> Waiting {
        let other = socket.as_fd().try_clone_to_owned().unwrap();
        Waiting { socket, readiness: tokio::net::UdpSocket::from_std(other.into()).unwrap() }
    }

    fn listen(address: &str) -> Waiting {
        Waiting::new(UdpSocket::listen(address.parse().unwrap(), false, BUFFERS).unwrap())
    }

    fn connect(to: SocketAddr) -> Waiting {
        Waiting::new(UdpSocket::connect(to, BUFFERS).unwrap())
    }

    fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Waits for `interest`; a test that waits long has failed.
    async fn ready(&self, interest: Interest) -> Ready {
        tokio::time::timeout(Duration::from_secs(20), self.readiness.ready(interest)).await.unwrap().unwrap()
    }

    fn port(&self) -> u16 {
        self.socket().local_address().unwrap().port()
    }

    /// The messages of one receive.
    async fn receive(&self) -> io::Result<Vec<Kept>> {
        let mut batch = Batch::new();
        loop {
            // An ICMP error alone makes a socket not readable.
            let ready = self.ready(Interest::READABLE | Interest::ERROR).await;
            let interest = if ready.is_readable() { Interest::READABLE } else { Interest::ERROR };
            match self.readiness.try_io(interest, || self.socket.receive(&mut batch)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    assert_eq!(count, batch.messages().len());
                    assert!(batch.messages().all(|m| !m.truncated));
                    return Ok(batch
                        .messages()
                        .map(|m| Kept { bytes: m.bytes.to_vec(), stride: m.stride, from: m.from, to: m.to, ecn: m.ecn })
                        .collect());
                }
            }
        }
    }

    /// The next datagrams, one by one.
    async fn datagrams(&self, count: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.receive().await.unwrap().iter().flat_map(Kept::each));
        }
        all
    }
}

/// An address with this port.
fn to(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Whether this machine has IPv6.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind("[::1]:0").is_ok()
}
