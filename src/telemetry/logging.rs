//! Diagnostics: `tracing` to standard error, with the level of the config.
//!
//! The HTTP engine logs through the `log` crate and writes request targets, which hold session
//! ids; nobody listens to that crate, and what the engine meets on a request is told by the fallback
//! door in the gateway's words.

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload};

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
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // By itself, and not with the bridge from the `log` crate: the engine would make up what it then is not let write,
    // and at level trace it fails on what it takes for text.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(lines));
    LevelHandle(handle)
}

/// What is written at a level: the gateway's own words, and of other libraries nothing.
pub fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(format!("off,fallgate={}", level.as_str()))
}
