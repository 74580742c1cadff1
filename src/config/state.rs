//! `state`: where sessions and pins are kept.

use std::path::{Path, PathBuf};

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Where sessions and pins are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StateConfig {
    /// Nowhere but in the process.
    #[default]
    Memory,
    /// In a file that only this process has open.
    File(PathBuf),
}

impl StateConfig {
    /// A word, or a mapping whose one key says which.
    pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "memory" },
                {
                    "type": "object",
                    "properties": {
                        "file": {
                            "description": "The file, which is made where there is none, for its owner alone; no other process may have it. It is on a disk of this host.",
                            "type": "string",
                            "format": "file",
                        },
                    },
                    "required": ["file"],
                    "additionalProperties": false,
                },
            ]
        })
    }

    /// Makes a relative file name relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        if let StateConfig::File(file) = self {
            *file = base.join(&*file);
        }
    }
}
