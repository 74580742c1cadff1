//! Halves of the two streams, which may be TCP that the kernel can splice.

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    net::{TcpStream, tcp},
};

/// What a direction reads from.
pub(super) trait Source: AsyncRead + Unpin {
    /// The stream, if its bytes are those on the wire.
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// What a direction writes to.
pub(super) trait Sink: AsyncWrite + Unpin {
    /// The stream, if its bytes are those on the wire.
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

impl Source for tcp::ReadHalf<'_> {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self.as_ref())
    }
}

impl Sink for tcp::WriteHalf<'_> {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self.as_ref())
    }
}

impl<T: AsyncRead + Unpin> Source for ReadHalf<T> {}

impl<T: AsyncWrite + Unpin> Sink for WriteHalf<T> {}
