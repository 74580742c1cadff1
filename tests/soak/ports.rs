//! Ports for what is to come back to its own: below those that the system gives to clients.

use std::net::{TcpListener, UdpSocket};

use crate::support::loopback;

const FIRST: u16 = 12_000;
/// The system gives clients none below this by default.
const END: u16 = 32_000;

/// Gives free ports, each once.
pub(crate) struct Ports(u16);

impl Ports {
    /// Processes at the same time begin at different ones.
    pub(crate) fn new() -> Ports {
        let spread = u32::from(END - FIRST) / 50;
        Ports(FIRST + u16::try_from(std::process::id() % spread * 40).unwrap())
    }

    /// A port that is free for TCP and UDP.
    pub(crate) fn next(&mut self) -> u16 {
        for _ in FIRST..END {
            self.0 = if self.0 + 1 < END { self.0 + 1 } else { FIRST };
            let address = loopback(self.0);
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return self.0;
            }
        }
        panic!("no port is free")
    }
}
