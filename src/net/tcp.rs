//! TCP listeners and the accepted connection that acknowledges at once.

use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;
/// What is read at once from a client that sends much, in bytes. TLS itself asks for 4 KiB at a time.
const BULK: usize = 64 * 1024;
/// A read of less than this that emptied the socket is acknowledged at once, in bytes. More than this is several
/// segments, which the kernel acknowledges by itself.
const PROMPT: usize = 32 * 1024;

/// Opens a listening socket; port 0 takes any free port.
///
/// An IPv6 wildcard also takes IPv4 clients.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The same for connections of which the system keeps no more than about `kept` bytes that are not taken, and gives up
/// one whose peer takes nothing for `patience`.
pub fn listen_patiently(address: SocketAddr, kept: usize, patience: Duration) -> io::Result<TcpListener> {
    let socket = bind(address)?;
    let _ = socket.set_send_buffer_size(kept);
    let _ = socket.set_tcp_user_timeout(Some(patience));
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes a listening socket that another process has opened, such as the one that a service manager keeps; from then on
/// it is as one of [`listen`]. Clients that wait in it to be accepted are not lost.
///
/// Fails where the socket cannot listen.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    let socket = Socket::from(listener);
    socket.set_nonblocking(true)?;
    tune_accepted(&socket);
    // Again, for the backlog may be another.
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    tune_accepted(&socket);
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepted sockets inherit these. Each only tunes; a system that refuses one still serves.
fn tune_accepted(socket: &Socket) {
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive());
}

/// Tunes a connection that was opened from here, as those that are accepted are tuned: small pieces do not wait, and the
/// system finds out whether the other side is still there. A system that refuses still serves.
pub fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive());
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20))
}

/// Whether the system holds neither bytes nor an end of the connection that were not read yet. The runtime hears of them
/// a moment later.
pub fn is_quiet(stream: &TcpStream) -> bool {
    let mut space = [MaybeUninit::uninit()];
    SockRef::from(stream).peek(&mut space).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// An IPv4 address that came over an IPv6 socket is the IPv4 address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An accepted connection.
///
/// The client writes head and body separately with Nagle's algorithm on, so a delayed
/// acknowledgement costs it 40 ms a request (docs/protocol.md, "Pace"). The kernel forgets
/// TCP_QUICKACK; it is set again after every small read that emptied the socket.
///
/// Whoever reads in small pieces from a client that sends much is served from a buffer. There is none
/// as long as little comes.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    /// Empty, or `BULK` bytes long.
    ahead: Vec<u8>,
    /// What of `ahead` was read and not yet given away.
    held: Range<usize>,
    /// The last read took all the room there was: more is likely to wait.
    bulk: bool,
}

impl Conn {
    /// Takes a stream accepted from a socket of [`listen`].
    pub fn new(stream: TcpStream) -> Conn {
        let conn = Conn { stream, ahead: Vec::new(), held: 0..0, bulk: false };
        conn.acknowledge_at_once();
        conn
    }

    /// The bare stream, and what was read from it and not given away.
    pub fn into_parts(self) -> (TcpStream, Bytes) {
        let held = self.ahead.get(self.held).map(Bytes::copy_from_slice).unwrap_or_default();
        (self.stream, held)
    }

    /// Once this is dropped the other side sees a reset, not an end.
    pub(super) fn reset_on_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn acknowledge_at_once(&self) {
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&self.stream).set_tcp_quickack(true);
    }

    /// Fills the buffer with what has come.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            self.ahead = vec![0; BULK];
        }
        let mut space = ReadBuf::new(&mut self.ahead);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        let n = space.filled().len();
        self.held = 0..n;
        self.took(n, BULK);
        Poll::Ready(Ok(()))
    }

    /// Looks at a read of `n` bytes into a space of `room`.
    fn took(&mut self, n: usize, room: usize) {
        self.bulk = n > 0 && (n == room || n >= PROMPT);
        if n > 0 && n < room && n < PROMPT {
            self.acknowledge_at_once();
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_empty() {
            if !this.bulk || buf.remaining() >= BULK {
                let room = buf.remaining();
                let result = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
                this.took(room - buf.remaining(), room);
                return Poll::Ready(result);
            }
            ready!(this.poll_ahead(cx))?;
        }
        let here = this.ahead.get(this.held.clone()).unwrap_or_default();
        let piece = here.get(..buf.remaining()).unwrap_or(here);
        buf.put_slice(piece);
        this.held.start += piece.len();
        if this.held.is_empty() && !this.bulk {
            // It may be long until much comes again.
            this.ahead = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What accepted connections have.
    async fn about(listener: TcpListener) -> (bool, bool, Duration) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        drop(client);
        let socket = SockRef::from(&accepted);
        (socket.tcp_nodelay().unwrap(), socket.keepalive().unwrap(), socket.tcp_keepalive_time().unwrap())
    }

    #[tokio::test]
    async fn a_listener_of_another_becomes_as_one_of_ours() {
        let ours = about(listen("127.0.0.1:0".parse().unwrap()).unwrap()).await;
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(about(adopt(other).unwrap()).await, ours);
        assert!(ours.0 && ours.1);
    }

    #[tokio::test]
    async fn who_waits_at_a_listener_is_served_by_whom_it_is_handed_to() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut waiting = TcpStream::connect(other.local_addr().unwrap()).await.unwrap();
        waiting.write_all(b"hello").await.unwrap();
        let (mut accepted, _) = adopt(other).unwrap().accept().await.unwrap();
        let mut read = [0; 5];
        accepted.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
    }

    #[tokio::test]
    async fn more_may_wait_at_a_listener_than_its_opener_let() {
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        other.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        other.listen(1).unwrap();
        let listener = adopt(other.into()).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..20 {
            let connecting = TcpStream::connect(listener.local_addr().unwrap());
            waiting.push(tokio::time::timeout(Duration::from_millis(900), connecting).await.unwrap().unwrap());
        }
    }

    #[tokio::test]
    async fn a_connection_is_not_taken_for_a_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(adopt(std::os::fd::OwnedFd::from(stream).into()).is_err());
    }
}
