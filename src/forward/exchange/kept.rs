//! A connection to a target between two requests.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::forward::{outgoing::Leaving, reach::Reached, record::Story, target::Target};

/// A connection to a target, kept as long as the client's own.
#[derive(Debug)]
pub(in crate::forward) struct Kept {
    target: Target,
    /// Whose requests it serves: a target may know its clients by their connections.
    of: (IpAddr, Option<String>),
    _leaving: Leaving,
    pub(super) stream: TcpStream,
    /// What came behind the last answer; anything makes the connection useless.
    pub(super) ahead: BytesMut,
    /// Exchanges that are over.
    pub(in crate::forward) uses: u32,
    /// The node asked the client to keep its connection for a session (docs/protocol.md, "Persistence").
    pub(in crate::forward) of_session: bool,
}

impl Kept {
    pub(in crate::forward) fn new(target: Target, reached: Reached<'_>, story: &Story) -> Kept {
        let Reached { stream, leaving, .. } = reached;
        let of = (story.client.ip(), story.user.clone());
        Kept { target, of, _leaving: leaving, stream, ahead: BytesMut::new(), uses: 0, of_session: false }
    }

    /// Whether it leads there, is of the same client and user, and nothing has come since the last answer.
    pub(in crate::forward) fn serves(&self, target: &Target, story: &Story) -> bool {
        self.target == *target
            && (self.of.0, self.of.1.as_ref()) == (story.client.ip(), story.user.as_ref())
            && self.ahead.is_empty()
            && matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(in crate::forward) fn address(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }
}
