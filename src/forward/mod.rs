//! The door of the forward proxy, for clients behind a firewall (docs/protocol.md, "Forward proxies").
//!
//! The pure rooms: what a request asks for (`target`), which addresses are private (`address`), who may reach what
//! (`policy`), and who is asking (`auth`). None of them opens a socket, asks a resolver or looks at a clock.

pub mod address;
pub mod auth;
pub mod policy;
pub mod target;
#[cfg(test)]
mod tests;
