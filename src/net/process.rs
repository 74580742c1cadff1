//! Other processes.

use std::io;

use rustix::process::{Pid, Signal, kill_process};

/// Tells a process to end, by SIGTERM.
///
/// # Errors
/// It has ended, or is somebody else's.
pub fn terminate(process: u32) -> io::Result<()> {
    let number = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(number, Signal::TERM)?)
}
