//! `fallgate check --against`: what a reload would change at a running gateway.

use std::{io, path::Path};

use super::{
    FAILED, OK, USAGE,
    ask::{AskError, Url},
    complain, say,
};
use crate::config::{Config, ConfigError};

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
enum AgainstError {
    #[error("cannot read {path}: {source}")]
    TokenFile { path: String, source: io::Error },
    #[error("{url}: {source}")]
    Ask { url: String, source: AskError },
    #[error("{url}: its config is none that this version knows: {source}")]
    Config { url: String, source: ConfigError },
}

/// Tells what `config` would change at the gateway whose admin door this is, and what of it needs a restart.
pub(super) fn compare(config: &Config, url: &Url, token_file: Option<&Path>) -> u8 {
    let running = match running(url, token_file) {
        Ok(running) => running,
        Err(error) => {
            complain(&error);
            return if matches!(error, AgainstError::TokenFile { .. }) { USAGE } else { FAILED };
        }
    };
    let differences = config.differences(&running);
    for difference in &differences {
        say(format_args!("  {difference}"));
    }
    let kept = config.clone().keep_of(&running);
    for key in &kept {
        say(format_args!("needs a restart: {key}"));
    }
    let count = differences.len();
    say(match (count, kept.len()) {
        (0, _) => format!("nothing differs from {url}; passwords are masked there and are not compared"),
        (_, 0) => format!("{count} changes to {url}: a reload applies them all"),
        (_, needing) if needing == count => format!("{count} changes to {url}: a reload applies none of them"),
        (_, needing) => format!("{count} changes to {url}: a reload applies all but {needing}"),
    });
    OK
}

/// The config that holds there.
fn running(url: &Url, token_file: Option<&Path>) -> Result<Config, AgainstError> {
    let read = |path: &Path| {
        let named = |source| AgainstError::TokenFile { path: path.display().to_string(), source };
        std::fs::read_to_string(path).map_err(named)
    };
    let token = token_file.map(read).transpose()?;
    let text = url
        .get("/api/v1/config", token.as_deref().map(str::trim))
        .map_err(|source| AgainstError::Ask { url: url.to_string(), source })?;
    Config::from_yaml(&text, Path::new("")).map_err(|source| AgainstError::Config { url: url.to_string(), source })
}
