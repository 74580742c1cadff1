//! Sockets, TLS and the HTTP/1 airlock: what every door stands on. Knows no session and no node.

pub mod activation;
pub mod dial;
pub mod dns;
pub mod entrance;
pub mod files;
pub mod forwarded;
pub mod http1;
pub mod interfaces;
pub mod notify;
pub mod passage;
pub mod probe;
pub mod process;
pub mod proxy_protocol;
pub mod shortage;
pub mod splice;
pub mod ssh;
pub mod tcp;
pub mod tls;
pub mod tls_client;
mod tls_files;
pub mod tls_look;
mod transport;
pub mod udp;

pub use transport::Transport;
