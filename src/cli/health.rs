//! `fallgate health`: how a running gateway is, for who has no HTTP client at hand.

use std::path::PathBuf;

use super::{
    FAILED, OK, USAGE,
    ask::{AskError, Url},
    complain, say,
};
use crate::config::{Config, ConfigError};

/// Whom to ask, and what.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The admin door of the gateway.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180", value_parser = clap::value_parser!(Url))]
    url: Url,
    /// Ask the admin door that this config names instead.
    ///
    /// The file is read as it is now, and must be good.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// Ask whether it takes new sessions.
    ///
    /// A gateway that drains does not, nor one whose nodes were not checked yet.
    #[arg(long)]
    ready: bool,
}

/// Why the answer is not yes.
#[derive(Debug, thiserror::Error)]
enum HealthError {
    #[error(transparent)]
    Config(ConfigError),
    #[error("admin.address is off, so there is nobody to ask")]
    NoAdmin,
    #[error("{url}: {source}")]
    Ask { url: Url, source: AskError },
}

pub(super) fn health(options: &Options) -> u8 {
    match ask(options) {
        Ok(said) => {
            say(said.trim_end());
            OK
        }
        Err(error) => {
            complain(&error);
            if matches!(error, HealthError::Ask { .. }) { FAILED } else { USAGE }
        }
    }
}

fn ask(options: &Options) -> Result<String, HealthError> {
    let url = match &options.config {
        Some(path) => {
            let config = Config::load(path).map_err(HealthError::Config)?;
            Url::from(config.admin.address.ok_or(HealthError::NoAdmin)?)
        }
        None => options.url.clone(),
    };
    let path = if options.ready { "/readyz" } else { "/livez" };
    url.get(path, None).map_err(|source| HealthError::Ask { url, source })
}
