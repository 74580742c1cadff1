//! A client that puts on the wire what the real one does: same requests, same order, same patience (see `docs/protocol.md`).

mod answer;
mod codes;
mod download;
mod request;
mod scan;
mod session;
mod text;
mod tls;
mod upload;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use answer::Answer;
pub use codes::text_of;
pub use session::Session;
pub use tls::insecure_tls;

/// Called with the wire name of a file and how many of its bytes have been moved.
pub type Progress = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// How long the client waits while nothing moves.
pub const SILENCE: Duration = Duration::from_secs(20);

/// Where a client connects and what it says about itself. Each transfer is a session of its own.
#[derive(Clone)]
pub struct Client {
    /// The address to connect to.
    pub address: SocketAddr,
    /// Host and port as they stand in the `Host` field and the URI.
    pub host: String,
    /// Speak TLS with this configuration; [`insecure_tls`] is like the real client.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The transfer token.
    pub token: String,
    /// The user name.
    pub user: String,
    /// Ask for resume, and skip files that are there already.
    pub resume: bool,
    /// Leave Nagle's algorithm on, as the real client does.
    pub nagle: bool,
    /// How long to wait while nothing moves.
    pub silence: Duration,
    /// Told about every piece of a file.
    pub on_progress: Option<Progress>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .field("host", &self.host)
            .field("tls", &self.tls.is_some())
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

/// What came of a transfer. A session that was refused or broke off is a report too: look at [`Report::is_ok`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Files moved, or skipped because they were there.
    pub files: u64,
    /// Files that failed.
    pub failed: u64,
    /// File bytes moved.
    pub bytes: u64,
    /// Connections opened.
    pub connections: u64,
    /// The session id.
    pub session: String,
    /// The error code the real client would report; 0 is good.
    pub code: u32,
    /// What went wrong, in words; empty when nothing did.
    pub problem: String,
}

impl Report {
    /// Whether everything was transferred.
    pub fn is_ok(&self) -> bool {
        self.code == 0
    }
}

/// Why a request or a transfer could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection, or no TLS session on it.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// Nothing moved for too long.
    #[error("the other side was silent for too long")]
    Silent,
    /// The node did not close a TLS connection, which the real client waits for without limit.
    #[error("the node does not close its TLS connection")]
    NotClosed,
    /// Not an answer this client understands.
    #[error("bad answer: {0}")]
    BadAnswer(&'static str),
    /// A file on this side could not be read or written.
    #[error("{0}: {1}")]
    Local(String, #[source] io::Error),
}

impl ClientError {
    /// The error code the real client would report.
    pub fn code(&self) -> u32 {
        match self {
            ClientError::Connect(_) => 47,
            ClientError::Lost(_) | ClientError::Silent | ClientError::NotClosed => 16,
            ClientError::BadAnswer(_) => 27,
            ClientError::Local(..) => 36,
        }
    }
}

impl Client {
    /// A client for this address that uses no TLS, no token and no resume.
    pub fn new(address: SocketAddr) -> Client {
        Client {
            address,
            host: address.to_string(),
            tls: None,
            token: String::new(),
            user: "xfer".to_owned(),
            resume: false,
            nagle: true,
            silence: SILENCE,
            on_progress: None,
        }
    }

    /// A new session with an id of its own; nothing is sent yet.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    fn progress(&self, name: &[u8], bytes: u64) {
        if let Some(hook) = &self.on_progress {
            hook(&String::from_utf8_lossy(name), bytes);
        }
    }
}
