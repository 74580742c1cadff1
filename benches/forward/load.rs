//! The load: tunnels and requests through a proxy, as tasks beside the origin.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::origin::{ECHO, SMALL, WISH};

/// The most that the load waits for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// Where to connect.
    pub(crate) to: SocketAddr,
    pub(crate) origin: SocketAddr,
}

impl Way {
    /// Connects to the origin through a tunnel, or without one where there is no proxy.
    pub(crate) async fn tunnel(self) -> io::Result<TcpStream> {
        let Way { to, origin } = self;
        let mut stream = self.connect().await?;
        if to != origin {
            let head = format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            // The origin says nothing before it is spoken to, so there is nothing behind the head.
            let (head, _) = read_head(&mut stream).await?;
            status_is_200(&head)?;
        }
        Ok(stream)
    }

    async fn connect(self) -> io::Result<TcpStream> {
        let stream = timeout(PATIENCE, TcpStream::connect(self.to)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Says what is wanted, with bytes behind it in the same write.
pub(crate) async fn wish(stream: &mut TcpStream, kind: u8, size: u64, bytes: &[u8]) -> io::Result<()> {
    let mut all = Vec::with_capacity(WISH + bytes.len());
    all.push(kind);
    all.extend(size.to_be_bytes());
    all.extend(bytes);
    stream.write_all(&all).await
}

/// Has bytes sent back.
pub(crate) async fn echo(stream: &mut TcpStream, size: usize) -> io::Result<()> {
    let mut bytes = vec![7; size];
    wish(stream, ECHO, size as u64, &bytes).await?;
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await??;
    Ok(())
}

/// A client that asks in absolute form, on one connection for as long as the proxy keeps it.
pub(crate) struct Client {
    way: Way,
    stream: Option<TcpStream>,
    /// Connections that were opened.
    pub(crate) opened: usize,
}

impl Client {
    pub(crate) fn new(way: Way) -> Client {
        Client { way, stream: None, opened: 0 }
    }

    pub(crate) async fn get(&mut self) -> io::Result<()> {
        // tinyproxy does not say that it closes.
        if let Some(stream) = self.stream.take()
            && self.exchange(stream).await.is_ok()
        {
            return Ok(());
        }
        self.opened += 1;
        let stream = self.way.connect().await?;
        self.exchange(stream).await
    }

    async fn exchange(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let origin = self.way.origin;
        let head = format!("GET http://{origin}/small HTTP/1.1\r\nHost: {origin}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let (head, mut body) = read_head(&mut stream).await?;
        status_is_200(&head)?;
        while body < SMALL {
            match timeout(PATIENCE, stream.read(&mut [0; 2 * SMALL])).await?? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => body += n,
            }
        }
        if body > SMALL {
            return Err(io::Error::other(format!("{body} bytes of body:\n{head}")));
        }
        let lower = head.to_ascii_lowercase();
        let stays = lower.starts_with("http/1.1") && !lower.contains("\r\nconnection: close");
        self.stream = stays.then_some(stream);
        Ok(())
    }
}

/// Reads a head; how many bytes behind it came with it.
async fn read_head(stream: &mut TcpStream) -> io::Result<(String, usize)> {
    let mut bytes = Vec::with_capacity(4 * SMALL);
    loop {
        if timeout(PATIENCE, stream.read_buf(&mut bytes)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = bytes.get(..end + 2).unwrap_or_default();
            return Ok((String::from_utf8_lossy(head).into_owned(), bytes.len() - end - 4));
        }
    }
}

fn status_is_200(head: &str) -> io::Result<()> {
    let status = head.split(' ').nth(1);
    if status == Some("200") { Ok(()) } else { Err(io::Error::other(format!("the proxy said:\n{head}"))) }
}
