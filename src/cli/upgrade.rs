//! `fallgate upgrade`: a gateway on this host hands over to a process of the installed program.

use std::{io, path::Path};

use super::{
    FAILED, OK, USAGE,
    ask::{AskError, Url},
    complain, say,
};
use crate::config::Config;

/// Why nobody is asked, or nothing comes of it.
#[derive(Debug, thiserror::Error)]
enum UpgradeError {
    #[error("admin.address is off: tell the process itself, by SIGUSR2")]
    NoAdmin,
    #[error("admin.token_file is not set, so nobody may command there: tell the process itself, by SIGUSR2")]
    NoToken,
    #[error("admin.token_file: cannot read {path}: {source}")]
    TokenFile { path: String, source: io::Error },
    #[error("{url}: {source}")]
    Ask { url: Url, source: AskError },
}

pub(super) fn upgrade(path: &Path) -> u8 {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return USAGE;
        }
    };
    match ask(&config) {
        Ok(said) => {
            say(said);
            OK
        }
        Err(error) => {
            complain(&error);
            if matches!(error, UpgradeError::Ask { .. }) { FAILED } else { USAGE }
        }
    }
}

fn ask(config: &Config) -> Result<String, UpgradeError> {
    let url = Url::from(config.admin.address.ok_or(UpgradeError::NoAdmin)?);
    let path = config.admin.token_file.as_ref().ok_or(UpgradeError::NoToken)?;
    let named = |source| UpgradeError::TokenFile { path: path.display().to_string(), source };
    let token = std::fs::read_to_string(path).map_err(named)?;
    let answer = match url.post("/api/v1/upgrade", Some(token.trim())) {
        Ok(answer) => answer,
        Err(source) => return Err(UpgradeError::Ask { url, source }),
    };
    let said = serde_json::from_str::<serde_json::Value>(&answer).ok();
    let message = said.as_ref().and_then(|said| said.get("message")?.as_str());
    Ok(message.unwrap_or("done").to_owned())
}
