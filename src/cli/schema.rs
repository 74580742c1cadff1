//! `fallgate schema`: the config's JSON Schema, for editors and pipelines.

use super::{FAILED, complain, print};
use crate::config::Config;

pub(super) fn schema() -> u8 {
    match serde_json::to_string_pretty(&Config::schema()) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}
