//! `upstreams[].discovery`: nodes that the DNS tells of.

use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::upstream::default_max_pending;
use super::{NodeConfig, NodePort, PortsConfig, Scheme, leaf};

/// The nodes are those that a name in the DNS has, now and whenever it is looked up again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryConfig {
    /// The name that is looked up, whole, for no search list is appended; required.
    #[schemars(schema_with = "leaf::host")]
    pub dns: String,
    /// What is looked up; default `auto`.
    #[serde(default, rename = "type")]
    pub kind: DiscoveryType,
    /// From one lookup to the next; default 10s, above zero. It is earlier where the answer holds for less, but at least a second.
    #[serde(default = "default_interval", with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub interval: Duration,
    /// How long the nodes stay though name servers say that there is no such name or nothing behind it; default 30s, above zero, `off` for as long as they say so. While none can say anything they always stay.
    #[serde(default = "default_hold", with = "leaf::duration_or_off")]
    #[schemars(schema_with = "leaf::duration_or_off::positive")]
    pub hold: Option<Duration>,
    /// The ports on which each node serves; by default none but the one that SRV records tell.
    #[serde(default)]
    pub ports: PortsConfig,
    /// Which port of a node its SRV record tells; default `null`, that of `scheme` unless `ports` gives it.
    #[serde(default)]
    pub srv_port: Option<NodePort>,
    /// Sessions each node may hold at once; default `off`, no limit. At the limit new sessions go to other nodes.
    #[serde(default, with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions: Option<u32>,
    /// Connections to each node that may be in the making at once; default 16, `off` for no limit. Further ones wait.
    #[serde(default = "default_max_pending", with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_pending: Option<u32>,
}

/// What is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryType {
    /// SRV records of a name that begins with `_`, addresses of any other.
    #[default]
    Auto,
    /// A and AAAA records: a node at each address, which is its name.
    Address,
    /// SRV records: a node at each target, which is its name.
    Srv,
}

impl DiscoveryConfig {
    /// Whether SRV records are looked up.
    #[must_use]
    pub fn is_srv(&self) -> bool {
        match self.kind {
            DiscoveryType::Auto => self.dns.starts_with('_'),
            DiscoveryType::Address => false,
            DiscoveryType::Srv => true,
        }
    }

    /// The port of each node that its SRV record tells, if one does.
    #[must_use]
    pub fn told_port(&self, scheme: Scheme) -> Option<NodePort> {
        let port = self.srv_port.unwrap_or_else(|| scheme.port());
        (self.is_srv() && self.ports.port(port).is_none()).then_some(port)
    }

    /// The node of this name or address; `told` is the port that its SRV record tells.
    #[must_use]
    pub fn node(&self, host: &str, scheme: Scheme, told: Option<u16>, weight: u32) -> NodeConfig {
        let mut ports = self.ports.clone();
        if let Some(port) = self.told_port(scheme) {
            *ports.port_mut(port) = told;
        }
        NodeConfig {
            name: host.to_owned(),
            host: host.to_owned(),
            ports,
            weight,
            max_sessions: self.max_sessions,
            max_pending: self.max_pending,
            drain: false,
        }
    }

    /// Whether it is an address that would be looked up.
    pub(super) fn is_of_address(&self) -> bool {
        self.dns.parse::<IpAddr>().is_ok()
    }
}

fn default_interval() -> Duration {
    Duration::from_secs(10)
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the type of the field")]
fn default_hold() -> Option<Duration> {
    Some(Duration::from_secs(30))
}
