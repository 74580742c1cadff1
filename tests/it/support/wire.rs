//! Requests and connections byte by byte, for what the house's own client never does.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    meter::{Meter, pour},
    secrets,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer's head.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Reply {
    /// The last field of that name, whatever its case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let same = |line: &&str| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        self.text.lines().skip(1).filter(same).last().map(|line| line[name.len() + 1..].trim())
    }

    /// The word of the gateway's own answer; empty in a node's.
    pub(crate) fn word(&self) -> &str {
        self.field("x-fallgate-error").unwrap_or_default()
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A client connection.
pub(crate) struct Wire {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
    /// What comes is the gateway's own answer.
    own: bool,
}

impl Wire {
    pub(crate) async fn plain(address: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect(address).await.unwrap())
    }

    /// From another address of this machine.
    pub(crate) async fn from(source: [u8; 4], address: SocketAddr) -> Wire {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Wire::over(socket.connect(address).await.unwrap())
    }

    pub(crate) async fn tls(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> Wire {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Wire::over(tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap())
    }

    pub(crate) fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Wire {
        Wire { io: Box::new(io), buffer: Vec::new(), own: false }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        secrets::learn(bytes);
        timeout(PATIENCE, self.io.write_all(bytes)).await.expect("the gateway reads").unwrap();
        self.io.flush().await.unwrap();
    }

    /// As [`Wire::send`], for a gateway that may have closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        secrets::learn(bytes);
        timeout(PATIENCE, self.io.write_all(bytes)).await.expect("the gateway reads or closes").is_ok()
    }

    /// Ends the sending side: FIN, and close_notify before it where there is TLS.
    pub(crate) async fn finish(&mut self) {
        let _ = self.io.shutdown().await;
    }

    /// The next head; none when the gateway closed instead.
    pub(crate) async fn try_head(&mut self) -> Option<Reply> {
        let text = String::from_utf8_lossy(&self.try_raw_head().await?).into_owned();
        let status = text.split(' ').nth(1).and_then(|s| s.get(..3)?.parse().ok()).unwrap_or(0);
        Some(Reply { status, text })
    }

    /// The bytes of the next head.
    pub(crate) async fn raw_head(&mut self) -> Vec<u8> {
        self.try_raw_head().await.expect("an answer")
    }

    /// The bytes of the next head; none when the gateway closed instead.
    pub(crate) async fn try_raw_head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                self.own = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("\r\nx-fallgate-error:");
                if self.own {
                    secrets::none_in("an answer", &head);
                    secrets::none_in("the body of an answer", &self.buffer);
                }
                return Some(head);
            }
            if self.more().await == 0 {
                return None;
            }
        }
    }

    /// The next head.
    pub(crate) async fn head(&mut self) -> Reply {
        self.try_head().await.expect("an answer")
    }

    /// So many body bytes.
    pub(crate) async fn body(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            assert!(self.more().await > 0, "the body is cut at {} of {n}", self.buffer.len());
        }
        self.buffer.drain(..n).collect()
    }

    /// So many body bytes, or fewer when the gateway closed before.
    pub(crate) async fn body_up_to(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n && self.more().await > 0 {}
        self.buffer.drain(..n.min(self.buffer.len())).collect()
    }

    /// A request and the head of its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Reply {
        self.send(request).await;
        self.head().await
    }

    /// Writes so many bytes, or as many as the gateway takes, however long that is.
    pub(crate) async fn pour(&mut self, n: usize) {
        pour(&mut self.io, n).await;
    }

    /// Counts what comes from now on, to the end.
    pub(crate) async fn drink(&mut self, meter: &Meter) {
        meter.add(std::mem::take(&mut self.buffer).len());
        meter.drink(&mut self.io, usize::MAX).await;
    }

    /// What still comes until the gateway closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether nothing comes and nobody closes for this long.
    pub(crate) async fn is_quiet(&mut self, time: Duration) -> bool {
        timeout(time, self.io.read_buf(&mut self.buffer)).await.is_err()
    }

    async fn more(&mut self) -> usize {
        let read = timeout(PATIENCE, self.io.read_buf(&mut self.buffer)).await;
        if self.own {
            secrets::none_in("the body of an answer", &self.buffer);
        }
        read.expect("the gateway answers or closes").unwrap_or(0)
    }
}

/// A fresh id, as sessions and requests have them.
pub(crate) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A start body with this token, as the real client orders it.
pub(crate) fn start_body(id: &str, operation: &str, token: &[u8], sources: &[&str]) -> Vec<u8> {
    let mut body =
        format!("<session>\n\n  <id>{id}</id>\n  <operation>{operation}</operation>\n\n  <token>").into_bytes();
    body.extend_from_slice(token);
    body.extend_from_slice(b"</token>\n\n");
    for source in sources {
        body.extend_from_slice(format!("  <source>{source}</source>\n").as_bytes());
    }
    body.extend_from_slice(b"  <destination>/</destination>\n\n  <user>xfer</user>\n</session>\n");
    body
}

/// A head with these lines between Host and the end.
pub(crate) fn head(method: &str, host: SocketAddr, id: &str, tail: &str, lines: &str) -> Vec<u8> {
    let target = format!("http://{host}/aspera/http/{id}/{tail}/{}.ashttp", uuid());
    format!("{method} {target} HTTP/1.1\r\nUser-Agent: Aspera FASP HTTP Client\r\nHost: {host}\r\n{lines}\r\n").into()
}

/// A whole session_start.
pub(crate) fn start(host: SocketAddr, id: &str, body: &[u8]) -> Vec<u8> {
    let lines = format!("Content-Length: {}\r\nKeep-Alive: 300\r\nConnection: keep-alive\r\n", body.len());
    [&head("POST", host, id, "session_start/OOB", &lines), body].concat()
}

/// A whole upload of a file.
pub(crate) fn put(host: SocketAddr, id: &str, name: &str, body: &[u8]) -> Vec<u8> {
    let lines = format!("Content-Length: {}\r\nConnection: keep-alive\r\n", body.len());
    [&head("PUT", host, id, &format!("file/{name}"), &lines), body].concat()
}

/// A whole request for a file.
pub(crate) fn get(host: SocketAddr, id: &str, name: &str, lines: &str) -> Vec<u8> {
    head("GET", host, id, &format!("file/{name}"), &format!("x-get-file-index: 0\r\n{lines}"))
}

/// A whole session_end.
pub(crate) fn end(host: SocketAddr, id: &str, reason: &str) -> Vec<u8> {
    let body = format!("<session>\n  <reason>{reason}</reason>\n  <code>0</code>\n</session>\n");
    let lines = format!("Content-Length: {}\r\n", body.len());
    [&head("POST", host, id, "session_end/OOB", &lines), body.as_bytes()].concat()
}
