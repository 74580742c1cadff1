//! An upgrade: a new process takes over from this one, and nothing is lost.
//!
//! The process that runs starts the program anew and tells it what it listens on (`words`, over `net::passage`). The new
//! one builds everything from the config's file. Once it is ready the old one stands still for a moment (`give`): no
//! connection is accepted, no datagram read, both wait in the system's queues. The new one learns what there is of
//! sessions, pins, clients and flows, and opens its doors on the same sockets (`take`). If anything fails before that, the
//! old one goes on as if nothing had been.
//!
//! The old one then carries what began on its connections to the end. Both keep talking (`links`, `link`): a session goes
//! where its next request comes in, and the gate of data hears when a control connection of the old process ends.

mod bring;
mod give;
mod link;
mod links;
mod take;
mod words;

use std::{ffi::OsString, io, process::Stdio};

use tokio::process::{Child, Command};

pub use self::take::Predecessor;
pub(super) use self::{
    bring::{Places, bring},
    give::give,
    links::Links,
};
use crate::net::passage::Passage;

/// Set for a process that is to take over; the passage is where its standard input would be.
const TAKES_OVER: &str = "FALLGATE_TAKES_OVER";
/// Of a supervisor: what it passed to the first process is not for the next one.
const OF_SUPERVISOR: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Why no other process has taken over; all is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The gateway was not started by a program that knows how to start another one.
    #[error("this process cannot start another one")]
    NoProgram,
    /// The gateway ends, or another process has taken over already.
    #[error("the gateway is draining")]
    Draining,
    /// The program could not be started.
    #[error("cannot start {0}: {1}")]
    Spawn(String, #[source] io::Error),
    /// The new process cannot run.
    #[error("the new process says: {0}")]
    Refused(String),
    /// The new process has ended, or is too slow.
    #[error("the new process did not take over: {0}")]
    Lost(#[from] io::Error),
}

/// How this process was started, to start the next one so.
#[derive(Debug, Clone)]
pub struct Program {
    /// What to run; looked for where a shell would.
    pub path: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// Starts a process of the program as it is installed now, with the way to it.
    pub(super) fn start(&self) -> Result<(Child, Passage), UpgradeError> {
        let failed = |error| UpgradeError::Spawn(self.path.to_string_lossy().into_owned(), error);
        let (here, there) = Passage::pair().map_err(failed)?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::from(there)).env(TAKES_OVER, "1");
        for name in OF_SUPERVISOR {
            command.env_remove(name);
        }
        Ok((command.spawn().map_err(failed)?, here))
    }
}
