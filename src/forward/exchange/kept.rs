//! A connection to a target between two requests.

use std::{io, net::SocketAddr};

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::forward::target::Target;

/// A connection to a target, kept as long as the client's own.
#[derive(Debug)]
pub(in crate::forward) struct Kept {
    target: Target,
    pub(super) stream: TcpStream,
    /// What came behind the last answer; anything makes the connection useless.
    pub(super) ahead: BytesMut,
    /// Exchanges that are over.
    pub(in crate::forward) uses: u32,
    /// The node asked the client to keep its connection for a session (docs/protocol.md, "Persistence").
    pub(in crate::forward) of_session: bool,
}

impl Kept {
    pub(in crate::forward) fn new(target: Target, stream: TcpStream) -> Kept {
        Kept { target, stream, ahead: BytesMut::new(), uses: 0, of_session: false }
    }

    /// Whether it leads there and nothing has come since the last answer.
    pub(in crate::forward) fn serves(&self, target: &Target) -> bool {
        self.target == *target
            && self.ahead.is_empty()
            && matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(in crate::forward) fn address(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }
}
