//! `upstreams`: the nodes behind the gateway, and how one of them is chosen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DiscoveryConfig, leaf};

/// A group of nodes that serve the same files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Its name in listeners, logs and metrics, unique among the upstreams; required.
    #[schemars(schema_with = "leaf::name")]
    pub name: String,
    /// What fallback requests are sent over to the nodes; default `http`. Each node needs the port of this name.
    #[serde(default)]
    pub scheme: Scheme,
    /// How the nodes are known by their certificates, only with `scheme: https`; default `null`, which verifies them.
    #[serde(default)]
    pub tls: Option<UpstreamTlsConfig>,
    /// How a new session gets its node; default `least_sessions`.
    #[serde(default)]
    pub balance: Balance,
    /// Which sessions meet the same node; by default each has its own.
    #[serde(default)]
    pub affinity: AffinityConfig,
    /// Clients or users whose node is remembered at once; default 100000, at least 1. Then idle ones are forgotten; a client with a control connection or data never is.
    #[serde(default = "default_max_pins")]
    #[schemars(range(min = 1))]
    pub max_pins: u32,
    /// How it is found out which nodes can serve; by default a connection every 10s.
    #[serde(default)]
    pub health_check: HealthCheckConfig,
    /// How long a node takes to come to its full share of new sessions after a check found it up again; default 30s, above zero, `off` for at once. It begins with a tenth. It counts as `off` under `balance: hash` where a listener leads here with `unknown_session: route`: what follows a start goes by the bare hash, and so must the start.
    #[serde(default = "default_slow_start", with = "leaf::duration_or_off")]
    #[schemars(schema_with = "leaf::duration_or_off::positive")]
    pub slow_start: Option<Duration>,
    /// What happens to a new session while no node is healthy; default `refuse`. A fallback session may wait for one first, as `when_full` says.
    #[serde(default)]
    pub when_all_down: WhenAllDown,
    /// How long the requests of a session are held while its node cannot be reached; default 15s, with 0s not at all. A PUT of more than 64 KiB is held for 10s at most.
    #[serde(default = "default_node_grace", with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::any")]
    pub node_grace: Duration,
    /// The nodes, at least one; required where no `discovery` finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub nodes: Vec<NodeConfig>,
    /// How the nodes are found in the DNS, instead of `nodes`; default `null`.
    #[serde(default)]
    pub discovery: Option<DiscoveryConfig>,
}

fn default_max_pins() -> u32 {
    100_000
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the type of the field")]
fn default_slow_start() -> Option<Duration> {
    Some(Duration::from_secs(30))
}

fn default_node_grace() -> Duration {
    Duration::from_secs(15)
}

/// What is spoken to the nodes of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// HTTP in the clear.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

/// How the nodes of an upstream are known by their certificates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTlsConfig {
    /// The authorities of the nodes' certificates, PEM; default `null`, those of the system.
    #[schemars(schema_with = "leaf::optional_file")]
    pub ca_file: Option<PathBuf>,
    /// The name that is asked for and that the certificates must bear; default `null`, the host of each node.
    #[schemars(schema_with = "leaf::optional_host")]
    pub server_name: Option<String>,
    /// Whether the certificates are verified; default `on`. With `off` anyone may pass for a node.
    #[serde(with = "leaf::switch")]
    #[schemars(schema_with = "leaf::switch::schema")]
    pub verify: bool,
}

impl UpstreamTlsConfig {
    /// Makes a relative file name relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        if let Some(file) = &mut self.ca_file {
            *file = base.join(&file);
        }
    }
}

impl Default for UpstreamTlsConfig {
    fn default() -> Self {
        Self { ca_file: None, server_name: None, verify: true }
    }
}

/// Which sessions meet the same node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AffinityConfig {
    /// What sessions of one node have in common; default `session`, which is each on its own.
    pub key: AffinityKey,
    /// How long the node of a client or user is remembered without a session; default 30m, above zero.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub idle: Duration,
}

impl Default for AffinityConfig {
    fn default() -> Self {
        Self { key: AffinityKey::Session, idle: Duration::from_mins(30) }
    }
}

/// What sessions of one node have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AffinityKey {
    /// Nothing; each session gets a node of its own.
    #[default]
    Session,
    /// The address of the client.
    Client,
    /// The user that the session is for.
    User,
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
    /// The request to make on the fallback's port; default `null`, which only opens a connection.
    pub http: Option<HttpCheckConfig>,
    /// Whether an SSH banner is awaited on the control port; default `on`. With `off` a connection will do.
    #[serde(with = "leaf::switch")]
    #[schemars(schema_with = "leaf::switch::schema")]
    pub banner: bool,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            http: None,
            banner: true,
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
    /// The ports on which it serves; required, those that the listeners of its upstream need.
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
    /// Whether it takes nothing new, neither sessions nor control connections, and carries on with what it has; default `off`.
    #[serde(default, with = "leaf::switch")]
    #[schemars(schema_with = "leaf::switch::schema")]
    pub drain: bool,
}

impl NodeConfig {
    /// The port on which it serves this; in a validated configuration there is one for all that its upstream is used for.
    #[must_use]
    pub fn port(&self, port: NodePort) -> Option<u16> {
        self.ports.port(port)
    }
}

/// What a node serves on a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodePort {
    /// The fallback in the clear.
    Http,
    /// The fallback over TLS.
    Https,
    /// Control connections, which are SSH.
    Tcp,
    /// Data.
    Udp,
}

impl NodePort {
    /// The word in the configuration and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Scheme {
    /// The port of a node that is spoken to by this scheme.
    #[must_use]
    pub fn port(self) -> NodePort {
        match self {
            Self::Http => NodePort::Http,
            Self::Https => NodePort::Https,
        }
    }
}

fn default_weight() -> u32 {
    1
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the type of the field")]
pub(super) fn default_max_pending() -> Option<u32> {
    Some(16)
}

/// The ports on which a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PortsConfig {
    /// The port of its HTTP fallback, in the clear; required with `scheme: http` where an `http` or `https` listener leads here.
    #[schemars(range(min = 1))]
    pub http: Option<u16>,
    /// The port of its HTTP fallback over TLS; required with `scheme: https` where an `http` or `https` listener leads here.
    #[schemars(range(min = 1))]
    pub https: Option<u16>,
    /// The port of its SSH server for transfers; required where a `tcp` listener leads here.
    #[schemars(range(min = 1))]
    pub tcp: Option<u16>,
    /// The port of its data, of a range the first; required where a `udp` listener leads here.
    #[schemars(range(min = 1))]
    pub udp: Option<u16>,
}

impl PortsConfig {
    /// The number of this port, where it is given.
    #[must_use]
    pub fn port(&self, port: NodePort) -> Option<u16> {
        match port {
            NodePort::Http => self.http,
            NodePort::Https => self.https,
            NodePort::Tcp => self.tcp,
            NodePort::Udp => self.udp,
        }
    }

    pub(super) fn port_mut(&mut self, port: NodePort) -> &mut Option<u16> {
        match port {
            NodePort::Http => &mut self.http,
            NodePort::Https => &mut self.https,
            NodePort::Tcp => &mut self.tcp,
            NodePort::Udp => &mut self.udp,
        }
    }
}
