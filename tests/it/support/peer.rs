//! Nodes that do what the house's own node never would: scripted ones, deaf ones and dead ones.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::secrets;

/// A listening socket whose every connection runs a script; it ends when this drops.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(crate) async fn start<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Peer
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Peer::at([127, 0, 0, 1], script).await
    }

    /// At another address of this machine.
    pub(crate) async fn at<F>(ip: [u8; 4], script: impl Fn(TcpStream) -> F + Send + 'static) -> Peer
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).await.unwrap();
        Peer::of(listener, script)
    }

    /// Behind a socket that there is already.
    pub(crate) fn of<F>(listener: TcpListener, script: impl Fn(TcpStream) -> F + Send + 'static) -> Peer
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let accept = async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn(script(stream));
                while tasks.try_join_next().is_some() {}
            }
        };
        Peer { address, task: tokio::spawn(accept).abort_handle() }
    }
}

/// A port that refuses and that nobody else gets while this lives.
pub(crate) struct DeadPort {
    pub(crate) address: SocketAddr,
    _bound: socket2::Socket,
}

impl DeadPort {
    pub(crate) fn new() -> DeadPort {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        DeadPort { address: socket.local_addr().unwrap().as_socket().unwrap(), _bound: socket }
    }
}

/// A port that never answers: as many wait to be accepted as may. They wait as long as this lives.
pub(crate) struct Full {
    pub(crate) address: SocketAddr,
    _listener: socket2::Socket,
    _waiting: Vec<std::net::TcpStream>,
}

impl Full {
    pub(crate) fn new() -> Full {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            waiting.push(stream);
        }
        Full { address, _listener: listener, _waiting: waiting }
    }
}

/// Reads a head; empty when the other side closed. Body bytes that came with it are in the second part.
pub(crate) async fn read_head(stream: &mut TcpStream) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            secrets::learn(&bytes);
            let rest = bytes.split_off(at + 4);
            return (bytes, rest);
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(n) if n > 0) {
            return (Vec::new(), Vec::new());
        }
    }
}

/// Reads a head with its body; none when the other side closed.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let (head, mut body) = read_head(stream).await;
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    while body.len() < length {
        if !matches!(stream.read_buf(&mut body).await, Ok(n) if n > 0) {
            return None;
        }
    }
    (!head.is_empty()).then_some((head, body))
}

/// Writes, and does not mind when the other side is gone.
pub(crate) async fn say(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
}

/// Stays, saying nothing.
pub(crate) async fn keep(stream: TcpStream) {
    let _stream = stream;
    std::future::pending::<()>().await;
}

/// A pause that is part of what a peer does; never a wait for something to have happened.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
