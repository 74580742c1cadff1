//! Sockets, TLS and the HTTP/1 airlock: what every door stands on. Knows no session and no node.

pub mod files;
pub mod http1;
pub mod tcp;
pub mod tls;
mod transport;

pub use transport::Transport;
