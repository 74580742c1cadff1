//! `fallgate schema`: the config's JSON Schema, for editors and pipelines.

use super::{FAILED, OK, complain, say};
use crate::config::Config;

pub(super) fn schema() -> u8 {
    match serde_json::to_string_pretty(&Config::schema()) {
        Ok(text) => {
            say(text);
            OK
        }
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}
