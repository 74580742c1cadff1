//! `upstreams`: the nodes behind the gateway, and how one of them is chosen.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaf;

/// A group of nodes that serve the same files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Its name in listeners, logs and metrics, unique among the upstreams; required.
    #[schemars(schema_with = "leaf::name")]
    pub name: String,
    /// How a new session gets its node; default `least_sessions`.
    #[serde(default)]
    pub balance: Balance,
    /// How it is found out which nodes can serve; by default a connection every 10s.
    #[serde(default)]
    pub health_check: HealthCheckConfig,
    /// What happens to a new session while no node is healthy; default `refuse`.
    #[serde(default)]
    pub when_all_down: WhenAllDown,
    /// The nodes; required, at least one.
    #[schemars(length(min = 1))]
    pub nodes: Vec<NodeConfig>,
}

/// How a new session gets its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The node with the fewest sessions for its weight; equal nodes take turns.
    #[default]
    LeastSessions,
    /// The nodes take turns by weight.
    RoundRobin,
    /// The same session key meets the same node for as long as that node is there.
    Hash,
}

/// What happens to a new session while no node is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllDown {
    /// It is refused.
    #[default]
    Refuse,
    /// A node is tried as if all were healthy, and this is logged.
    TryAll,
}

/// How each node is checked; the defaults mark a node down after about half a minute.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheckConfig {
    /// From one check of a node to the next; default 10s, above zero.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub interval: Duration,
    /// A check that takes longer has failed; default 3s, above zero.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub timeout: Duration,
    /// Failed checks in a row after which a node is down; default 3, at least 1.
    #[schemars(range(min = 1))]
    pub unhealthy_threshold: u32,
    /// Good checks in a row after which a node is up again; default 2, at least 1.
    #[schemars(range(min = 1))]
    pub healthy_threshold: u32,
    /// The request to make; default `null`, which only opens a connection.
    pub http: Option<HttpCheckConfig>,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            http: None,
        }
    }
}

/// A health check by request; the default expects 200 from `/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCheckConfig {
    /// The path that is asked for; default `/`.
    #[schemars(schema_with = "leaf::url_path")]
    pub path: String,
    /// The status codes that mean health; default `[200]`, never empty.
    #[schemars(length(min = 1), inner(range(min = 100, max = 599)))]
    pub expected_status: Vec<u16>,
}

impl Default for HttpCheckConfig {
    fn default() -> Self {
        Self { path: "/".to_owned(), expected_status: vec![200] }
    }
}

/// One node of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Its name in logs and metrics, unique in its upstream; required.
    #[schemars(schema_with = "leaf::name")]
    pub name: String,
    /// Its IP address or DNS name, without a port; required.
    #[schemars(schema_with = "leaf::host")]
    pub host: String,
    /// The ports on which it serves; required.
    pub ports: PortsConfig,
    /// Its share of new sessions beside the other nodes; default 1, from 1 to 100.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
    /// Sessions it may hold at once; default `off`, no limit. At the limit new sessions go to other nodes.
    #[serde(default, with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions: Option<u32>,
    /// Connections to it that may be in the making at once; default 16, `off` for no limit. Further ones wait.
    #[serde(default = "default_max_pending", with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_pending: Option<u32>,
}

fn default_weight() -> u32 {
    1
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the type of the field")]
fn default_max_pending() -> Option<u32> {
    Some(16)
}

/// The ports on which a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortsConfig {
    /// The port of its HTTP fallback, in the clear; required.
    #[schemars(range(min = 1))]
    pub http: u16,
}
