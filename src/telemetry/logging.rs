//! Diagnostics: `tracing` to standard error, with the level of the config.
//!
//! The HTTP engine logs through the `log` crate and writes request targets, which hold session
//! ids; its own lines are therefore cut at errors of its start-up, and what it meets on a request
//! is told by the fallback door in the gateway's words.

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::config::LogLevel;

/// Changes the level while the process runs.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl LevelHandle {
    /// Applies a level at once.
    pub fn set(&self, level: LogLevel) {
        let _ = self.0.reload(filter(level));
    }
}

/// Installs the process-wide subscriber; a second call leaves the first in place.
pub fn init(level: LogLevel) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(filter(level));
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_writer(std::io::stderr).with_target(false))
        .try_init();
    LevelHandle(handle)
}

fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(format!("off,fallgate={}", level.as_str()))
}
