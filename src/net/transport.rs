//! A client connection, with or without TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{tcp::Conn, tls::TlsConn};

/// The byte stream of one client connection.
#[derive(Debug)]
pub enum Transport {
    /// TCP as it is.
    Plain(Conn),
    /// TLS ended here.
    Tls(Box<TlsConn>),
}

impl Transport {
    /// Breaks the connection off: the other side sees a reset, and over TLS no close_notify.
    pub fn abort(self) {
        match &self {
            Transport::Plain(conn) => conn.reset_on_close(),
            Transport::Tls(tls) => tls.get_ref().0.reset_on_close(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(c) => Pin::new(c).poll_read(cx, buf),
            Transport::Tls(c) => Pin::new(c).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(c) => Pin::new(c).poll_write(cx, buf),
            Transport::Tls(c) => Pin::new(c).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(c) => Pin::new(c).poll_flush(cx),
            Transport::Tls(c) => Pin::new(c).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(c) => Pin::new(c).poll_shutdown(cx),
            Transport::Tls(c) => Pin::new(c).poll_shutdown(cx),
        }
    }
}
