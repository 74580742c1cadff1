//! The relay door: the nominal path of a transfer, control over TCP and data over UDP, both to one node.
//!
//! [`control`] carries SSH and never ends it; the node that it finds becomes the client's pin. [`udp`] carries
//! datagrams: a client that has a control connection here is let in, and its data goes where that one went.

pub mod control;
mod record;
pub mod udp;

pub use control::ControlDoor;
pub use udp::{DataDoor, DataListener, DataSockets, Handed, Probes};
