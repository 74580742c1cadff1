//! UDP sockets for relaying at line rate: receive offload in, segmented sends out, packet info both ways.
//!
//! What costs is the kernel's work for each datagram, not the system call. So one message received may be a
//! run of datagrams of one sender ([`Message`]), and a [`Run`] of datagrams goes out in one segmented send.

mod address;
mod batch;
mod cmsg;
mod poll;
mod run;
mod send;
mod socket;
mod sys;
#[cfg(test)]
mod tests;

pub use batch::{Batch, MESSAGES, Message};
pub use cmsg::{Told, told};
pub use poll::{Poller, Waker};
pub use run::{Datagrams, MAX_BYTES, MAX_DATAGRAMS, Run};
pub use send::{Segmenting, Sent, Unsent, Way, is_icmp};
pub use socket::{Buffers, UdpSocket};
