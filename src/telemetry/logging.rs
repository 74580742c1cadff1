//! Diagnostics: `tracing` to standard error, with the level of the config.
//!
//! The HTTP engine logs through the `log` crate and writes request targets, which hold session
//! ids; nobody listens to that crate, and what the engine meets on a request is told by the fallback
//! door in the gateway's words.

mod lines;

use std::{io::IsTerminal as _, time::Duration};

use prometheus::IntCounter;
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload};

use self::lines::Lines;
use crate::config::LogLevel;

/// Changes the level while the process runs, and sees to it that what was said is written.
#[derive(Clone, Debug)]
pub struct LogHandle {
    level: reload::Handle<EnvFilter, Registry>,
    lines: Lines,
}

impl LogHandle {
    /// Applies a level at once.
    pub fn set(&self, level: LogLevel) {
        let _ = self.level.reload(filter(level));
    }

    /// Has lines counted there that are dropped from now on; the first counter stays.
    pub fn count_drops(&self, dropped: IntCounter) {
        self.lines.count_drops(dropped);
    }

    /// Waits until all that was said so far is written, at most for `patience`. Blocks: for the end of the process.
    pub fn flush(&self, patience: Duration) {
        self.lines.flush(patience);
    }
}

/// Installs the process-wide subscriber; a second call leaves the first in place.
///
/// # Errors
/// There is no thread for it.
pub fn init(level: LogLevel) -> std::io::Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = Lines::start(std::io::stderr())?;
    let layer = fmt::layer().with_writer(lines.clone()).with_target(false).with_ansi(has_colours());
    // By itself, and not with the bridge from the `log` crate: the engine would make up what it then is not let write,
    // and at level trace it fails on what it takes for text.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer));
    Ok(LogHandle { level: handle, lines })
}

/// Colours are for a terminal, and for those who have not said no.
fn has_colours() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|said| !said.is_empty());
    std::io::stderr().is_terminal() && !is_refused
}

/// What is written at a level: the gateway's own words, and of other libraries nothing.
pub fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(format!("off,fallgate={}", level.as_str()))
}
