//! `resolver`: how forward proxies find the addresses of names, and upstreams with `discovery` their nodes.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaf;

/// How forward proxies find the addresses of names, and upstreams with `discovery` their nodes. Names of configured nodes are
/// found by the system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResolverConfig {
    /// The name servers, as IP addresses with or without a port; without one it is 53. Default empty, those of the system.
    #[serde(with = "leaf::name_servers")]
    #[schemars(schema_with = "leaf::name_servers::schema")]
    pub servers: Vec<SocketAddr>,
    /// How long an answer may take over all servers; default 3s, above zero. Then the name counts as not found.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub timeout: Duration,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(3) }
    }
}
