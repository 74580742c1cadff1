//! Caps on bandwidth over real sockets: each door keeps to them, whatever they are for, and nobody is cut for waiting.

mod fallback;
mod nominal;

use std::time::Duration;

/// How long it is looked how fast bytes come.
const WINDOW: Duration = Duration::from_millis(1500);
/// So many bytes come first: those of the burst at 10 Mbit/s and less, and what is on its way.
const BURST: u64 = 150_000;
/// More than goes anywhere in the time of a test.
const ENOUGH: usize = 512 << 20;
