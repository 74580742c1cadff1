//! The command line as it was typed: what is right is parsed, and what is wrong is told with what was meant.

use std::{ffi::OsString, process::ExitCode};

use clap::{
    Parser as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, USAGE, advise};

/// What other programs call what is called otherwise here.
const CALLED: [(&[&str], &str); 4] = [
    (&["start", "serve", "server", "daemon"], "write fallgate run --config FILE"),
    (&["validate", "verify", "test", "lint", "configtest"], "write fallgate check --config FILE"),
    (&["reload"], "send the gateway SIGHUP, or POST /api/v1/reload at its admin door"),
    (&["version"], "write fallgate --version"),
];

/// What was said; else it was answered, and this is the exit status.
pub(super) fn parse(said: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let said = asked_for_help(said.into_iter().collect());
    Cli::try_parse_from(&said).map_err(|error| {
        // Where nobody reads it there is nobody to tell.
        let _ = error.print();
        hint(&error, &said).iter().for_each(|hint| advise(hint));
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
    })
}

/// `fallgate help COMMAND` is `fallgate COMMAND --help`.
fn asked_for_help(mut said: Vec<OsString>) -> Vec<OsString> {
    let asks = said.iter().skip(1).take_while(|word| *word == "help").count();
    if asks > 0 {
        said.drain(1..=asks);
        said.push("--help".into());
    }
    said
}

fn hint(error: &clap::Error, said: &[OsString]) -> Option<String> {
    let told = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let command = said.get(1)?.to_str()?;
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let word = told(ContextKind::InvalidArg)?;
            let is_config = word.ends_with(".yaml") || word.ends_with(".yml");
            match word {
                _ if is_config => Some(format!("write --config {word}")),
                "--config" | "-c" if command.starts_with('-') => {
                    Some("the command comes first, such as: fallgate run --config FILE".to_owned())
                }
                "-c" => Some("write --config FILE".to_owned()),
                _ => None,
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = told(ContextKind::InvalidSubcommand)?;
            if command == "doctor" {
                return Some(format!("write --host {word}"));
            }
            let meant = CALLED.iter().find(|(words, _)| words.contains(&word));
            meant.map(|(_, hint)| (*hint).to_owned())
        }
        _ => None,
    }
}
