//! Ports for programs that are stopped and come back, or that cannot say which port they were given.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

use super::loopback;

/// Below those that the system gives to whoever asks for any, from 32768 on: nobody else gets one of these by chance.
const FIRST: u16 = 20_000;
const MANY: u16 = 12_000;

/// A port that is free, and stays so until it is bound.
pub(crate) fn lasting() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes begin at places of their own.
    let begin = u16::try_from(u64::from(std::process::id()) * 61 % u64::from(MANY)).unwrap();
    (0..MANY)
        .map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % MANY) % MANY)
        .find(|port| TcpListener::bind(loopback(*port)).is_ok())
        .expect("no port is free")
}
