//! Connections to nodes: opened for one exchange, or kept for one session where the node agreed to
//! keep them. No other request ever gets one, so none can be closed under it by an earlier one's end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::{
    Error, ErrorType,
    connectors::L4Connect,
    protocols::l4::{
        socket::SocketAddr as EngineAddr,
        stream::Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::node_head::NodeHead;
use crate::net::{
    shortage::is_ours,
    tls_client::{ClientTls, NodeTlsConn},
};

/// The byte stream of a connection to a node.
#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<NodeTlsConn>),
}

/// A connection to a node.
#[derive(Debug)]
pub(super) struct NodeConn {
    io: Io,
    /// A head that waits for the first bytes of its body, to go out with them.
    head: BytesMut,
    /// The head of the answer that is read now.
    pub(super) answer: NodeHead,
    /// How long it took to open for this exchange.
    connecting: Duration,
    /// The head of the request was given to it.
    sent: Option<Instant>,
    /// The final head of the answer had come.
    answered: Option<Instant>,
}

/// What an exchange took at its node's connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// To open the connection; zero for a kept one.
    pub(super) connecting: Duration,
    /// When the head of the request was on its way, or its body was waited for.
    pub(super) sent: Instant,
    /// When the final head of the answer had come.
    pub(super) answered: Instant,
}

impl NodeConn {
    async fn open(address: SocketAddr, tls: Option<(&ClientTls, &str)>) -> io::Result<NodeConn> {
        let begin = Instant::now();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let io = match tls {
            None => Io::Plain(stream),
            Some((tls, host)) => Io::Tls(Box::new(tls.connect(stream, host).await?)),
        };
        let (head, answer, connecting) = (BytesMut::new(), NodeHead::default(), begin.elapsed());
        Ok(NodeConn { io, head, answer, connecting, sent: None, answered: None })
    }

    /// Makes a kept connection ready for its next exchange.
    fn renew(&mut self) {
        self.answer = NodeHead::default();
        (self.connecting, self.sent, self.answered) = (Duration::ZERO, None, None);
    }

    /// What the exchange took, once the final head of its answer has come.
    pub(super) fn times(&self) -> Option<Times> {
        let (sent, answered) = self.sent.zip(self.answered)?;
        Some(Times { connecting: self.connecting, sent, answered })
    }

    /// Whether nothing has come since the last answer: a node that closed, or says more than it was
    /// asked, is not used again.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut space = [0; 1];
        let mut probe = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.poll_io_read(&mut cx, &mut probe).is_pending()
    }

    fn poll_io_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }

    fn poll_io_write(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }
}

/// A slot for the connection of one exchange; the engine works on it through a [`NodeStream`].
pub(super) type Slot = Arc<Mutex<Option<NodeConn>>>;

fn lock(slot: &Slot) -> MutexGuard<'_, Option<NodeConn>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens, or takes up, the connection of one exchange when the engine asks for it.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) address: SocketAddr,
    pub(super) host: String,
    pub(super) tls: Option<ClientTls>,
    /// Holds a kept connection already, or is filled.
    pub(super) slot: Slot,
    /// Whether the request has a body, whose beginning the head waits for.
    pub(super) has_body: bool,
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, _: &EngineAddr) -> pingora_core::Result<Stream> {
        let is_kept = match lock(&self.slot).as_mut() {
            Some(kept) => {
                kept.renew();
                true
            }
            None => false,
        };
        if !is_kept {
            let tls = self.tls.as_ref().map(|tls| (tls, self.host.as_str()));
            let conn = NodeConn::open(self.address, tls).await.map_err(|error| {
                let kind = match error.kind() {
                    _ if is_ours(&error) => ErrorType::SocketError,
                    io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                    io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                    _ => ErrorType::ConnectError,
                };
                Error::because(kind, format!("connecting to {}", self.address), error)
            })?;
            *lock(&self.slot) = Some(conn);
        }
        let stream = NodeStream { slot: self.slot.clone(), holds_head: self.has_body };
        Ok(VirtualSocketStream::new(Box::new(stream)).into())
    }
}

/// The engine's side of a node connection; an end of file once the connection was taken back.
#[derive(Debug)]
struct NodeStream {
    slot: Slot,
    /// The next write is a head whose body follows.
    holds_head: bool,
}

impl AsyncRead for NodeStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match lock(&self.slot).as_mut() {
            Some(conn) => {
                let before = buf.filled().len();
                ready!(conn.poll_io_read(cx, buf))?;
                conn.answer.saw(buf.filled().get(before..).unwrap_or_default());
                if conn.answered.is_none() && conn.answer.is_done() {
                    conn.answered = Some(Instant::now());
                }
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut slot = lock(&this.slot);
        let Some(conn) = slot.as_mut() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if std::mem::take(&mut this.holds_head) {
            conn.head.extend_from_slice(buf);
            conn.sent = Some(Instant::now());
            return Poll::Ready(Ok(buf.len()));
        }
        while !conn.head.is_empty() {
            let head = std::mem::take(&mut conn.head);
            let written = conn.poll_io_write(cx, &[io::IoSlice::new(&head), io::IoSlice::new(buf)]);
            conn.head = head;
            let n = ready!(written)?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = n.min(conn.head.len());
            conn.head.advance(of_head);
            if n > of_head {
                return Poll::Ready(Ok(n - of_head));
            }
        }
        let written = conn.poll_io_write(cx, &[io::IoSlice::new(buf)]);
        // What the node does not take at once is not the gateway's delay.
        conn.sent.get_or_insert_with(Instant::now);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match lock(&self.slot).as_mut().map(|conn| &mut conn.io) {
            // A head that waits for its body is no reason to send it alone.
            Some(Io::Plain(io)) => Pin::new(io).poll_flush(cx),
            Some(Io::Tls(io)) => Pin::new(io).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Whoever owns the slot closes.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl VirtualSocket for NodeStream {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}
