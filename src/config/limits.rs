//! `limits`: how much is served at once and how often, over all listeners and for one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bandwidth::BandwidthConfig;
use super::leaf;
use super::units::EventRate;

/// How much is served at once.
///
/// A client is an IP address, of IPv6 a /64. A request of a session that was let in is refused by none of this.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Client connections open at once over all listeners; default 10000, at least 1. The next one is refused. The last tenth is kept for clients that have a session.
    #[schemars(range(min = 1))]
    pub max_connections: u32,
    /// Connections of one client at once; default 200, at least 1, or `off`. A client may have one more for each session that it has.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_connections_per_client: Option<u32>,
    /// Fallback sessions at once over all listeners; default 2000, at least 1, or `off`. The next one waits or is refused, as `when_full` says.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions: Option<u32>,
    /// Fallback sessions of one client at once; default 50, at least 1, or `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions_per_client: Option<u32>,
    /// Fallback sessions of one transfer user at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions_per_user: Option<u32>,
    /// How often one client may start a fallback session; default `{ rate: 10/s, burst: 50 }`, or `off`.
    #[serde(with = "leaf::or_off")]
    #[schemars(schema_with = "leaf::or_off::schema::<RateConfig>")]
    pub session_starts_per_client: Option<RateConfig>,
    /// How often one client may ask a fallback listener for anything outside a session that was let in; default `{ rate: 50/s, burst: 200 }`, or `off`.
    #[serde(with = "leaf::or_off")]
    #[schemars(schema_with = "leaf::or_off::schema::<RateConfig>")]
    pub requests_per_client: Option<RateConfig>,
    /// What happens to a session for which there is no room, on the nodes included; default `wait`.
    pub when_full: WhenFull,
    /// How long a session may wait for room; default 60s, at least 1s. Then it is refused.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub max_wait: Duration,
    /// Sessions that may wait at once; default 2000, above zero with `when_full: wait`. The next one is refused.
    pub max_waiting: u32,
    /// Flows of data open at once over all `udp` listeners; default 20000, at least 1. The next one is refused, old ones go on.
    #[schemars(range(min = 1))]
    pub max_udp_flows: u32,
    /// Flows of one client address to one upstream at once; default 200, at least 1.
    #[schemars(range(min = 1))]
    pub max_udp_flows_per_client: u32,
    /// Tunnels open at once over all `forward_proxy` listeners; default 2000, at least 1. The next one is refused.
    #[schemars(range(min = 1))]
    pub max_tunnels: u32,
    /// Tunnels of one client address at once; default 200, at least 1.
    #[schemars(range(min = 1))]
    pub max_tunnels_per_client: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let rate = |count, burst| Some(RateConfig { rate: EventRate { count, seconds: 1 }, burst });
        Self {
            max_connections: 10_000,
            max_connections_per_client: Some(200),
            max_sessions: Some(2000),
            max_sessions_per_client: Some(50),
            max_sessions_per_user: None,
            session_starts_per_client: rate(10, 50),
            requests_per_client: rate(50, 200),
            when_full: WhenFull::Wait,
            max_wait: Duration::from_secs(60),
            max_waiting: 2000,
            max_udp_flows: 20_000,
            max_udp_flows_per_client: 200,
            max_tunnels: 2000,
            max_tunnels_per_client: 200,
        }
    }
}

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// How often in the long run, such as `10/s`, `600/min` or `100/h`; required, above zero.
    #[serde(with = "leaf::rate")]
    #[schemars(schema_with = "leaf::rate::schema")]
    pub rate: EventRate,
    /// How often at once after a pause; required, at least 1.
    #[schemars(range(min = 1))]
    pub burst: u32,
}

/// What happens to a session for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits until there is, up to `max_wait`.
    Wait,
    /// It is refused at once.
    Refuse,
}

/// What holds for one listener, besides what `limits` and `bandwidth` say for all; by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimitsConfig {
    /// Connections to this listener at once; default `off`, never above that of all, as all maxima here. The last tenth is kept for clients that have a session.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_connections: Option<u32>,
    /// Connections of one client to this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_connections_per_client: Option<u32>,
    /// Sessions of this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions: Option<u32>,
    /// Sessions of one client on this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions_per_client: Option<u32>,
    /// Sessions of one transfer user on this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_sessions_per_user: Option<u32>,
    /// How often one client may start a session on this listener; default `off`.
    #[serde(with = "leaf::or_off")]
    #[schemars(schema_with = "leaf::or_off::schema::<RateConfig>")]
    pub session_starts_per_client: Option<RateConfig>,
    /// How often one client may ask this listener for anything outside a session that was let in; default `off`.
    #[serde(with = "leaf::or_off")]
    #[schemars(schema_with = "leaf::or_off::schema::<RateConfig>")]
    pub requests_per_client: Option<RateConfig>,
    /// What happens to a session for which there is no room, in place of what `limits` says; default `null`, the same.
    pub when_full: Option<WhenFull>,
    /// How long a session may wait for room; default `null`, as long as `limits` says; at least 1s.
    #[serde(with = "leaf::optional_duration")]
    #[schemars(schema_with = "leaf::optional_duration::positive")]
    pub max_wait: Option<Duration>,
    /// Sessions of this listener that may wait at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_waiting: Option<u32>,
    /// Flows of data through this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_udp_flows: Option<u32>,
    /// Flows of one client address through this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_udp_flows_per_client: Option<u32>,
    /// Tunnels of this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_tunnels: Option<u32>,
    /// Tunnels of one client address through this listener at once; default `off`.
    #[serde(with = "leaf::count_or_off")]
    #[schemars(schema_with = "leaf::count_or_off::schema")]
    pub max_tunnels_per_client: Option<u32>,
    /// How fast the bytes through this listener may go; by default as fast as `bandwidth` says.
    pub bandwidth: BandwidthConfig,
}
