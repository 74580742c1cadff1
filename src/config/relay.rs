//! What only the relay has to say: whose datagrams are let in, and its defaults.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose datagrams are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Those of an IP address that has a control connection through this gateway, or had one until `gate_grace` ago.
    #[default]
    ControlConnection,
    /// Anybody's.
    Off,
}

pub(super) fn default_banner_timeout() -> Duration {
    Duration::from_secs(5)
}

pub(super) fn default_idle() -> Duration {
    Duration::from_hours(24)
}

pub(super) fn default_gate_grace() -> Duration {
    Duration::from_secs(30)
}

pub(super) fn default_flow_idle() -> Duration {
    Duration::from_mins(5)
}

pub(super) fn default_receive_buffer() -> u64 {
    4 * 1024 * 1024
}
