//! `listeners`: where clients connect, and what they must bring.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaf;
use super::tls::TlsConfig;

/// One address on which clients are served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Its name in logs and metrics, unique among the listeners; required.
    #[schemars(schema_with = "leaf::name")]
    pub name: String,
    /// What is spoken here; required.
    pub protocol: Protocol,
    /// The IP address and port to listen on, unique among the listeners; required. Port 0 takes any free port.
    #[schemars(schema_with = "leaf::socket_address")]
    pub address: SocketAddr,
    /// The name of the upstream that serves this listener; required.
    #[schemars(schema_with = "leaf::name")]
    pub upstream: String,
    /// Certificates and versions; required with `https`, refused with `http`.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Which requests are let in; by default any that carry a token of the right shape.
    #[serde(default)]
    pub admission: AdmissionConfig,
    /// Whether the client keeps one connection for its session; the default is `force` with `https` and `auto` with `http`.
    #[serde(default)]
    pub persistent_connection: Option<PersistentConnection>,
    /// What the node is given as the target of a request; default `received`.
    #[serde(default)]
    pub node_target: NodeTarget,
    /// What is kept from doing harm inside a session; by default all of it.
    #[serde(default)]
    pub guard: GuardConfig,
    /// How long a node may be silent until the client is told to wait; default 8s, above zero, at most 10s, `off` for never.
    #[serde(default = "default_slow_node_notice", with = "leaf::duration_or_off")]
    #[schemars(schema_with = "leaf::duration_or_off::positive")]
    pub slow_node_notice: Option<Duration>,
    /// The proxies in front that are believed about who the client is, as addresses and networks; default empty, none is.
    #[serde(default, with = "leaf::networks")]
    #[schemars(schema_with = "leaf::networks::schema")]
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a trusted proxy names the client by the PROXY protocol; default `off`. Only with `trusted_proxies`.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the type of the field")]
fn default_slow_node_notice() -> Option<Duration> {
    Some(Duration::from_secs(8))
}

impl ListenerConfig {
    /// What holds for persistent connections here: what was said, or else the default of the protocol.
    #[must_use]
    pub fn persistence(&self) -> PersistentConnection {
        self.persistent_connection.unwrap_or(match self.protocol {
            Protocol::Https => PersistentConnection::Force,
            Protocol::Http => PersistentConnection::Auto,
        })
    }
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP over TLS.
    Https,
    /// HTTP in the clear.
    Http,
}

/// Whether a client's connection outlives its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PersistentConnection {
    /// Always kept open and announced so, whatever the node says.
    Force,
    /// What the node says is passed on.
    Auto,
    /// None is offered, whatever the node says: the client opens a connection for each request.
    Off,
}

/// Which requests are let in; the default asks for a token of the right shape, of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    /// How closely the token of a session start is looked at; default `shape`.
    pub token: TokenLevel,
    /// The kinds of token that are let in; default all, never empty.
    #[schemars(length(min = 1))]
    pub kinds: Vec<TokenKind>,
    /// Access keys that are let in, only with `token: decode`; default empty, which lets in every key.
    #[schemars(inner(length(min = 1)))]
    pub access_keys: Vec<String>,
    /// What happens to a request of a session that was not started here; default `refuse`.
    pub unknown_session: UnknownSession,
    /// Whether a session stays with the client address that started it; default `off`.
    pub bind_client: BindClient,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            token: TokenLevel::Shape,
            kinds: vec![TokenKind::Transfer, TokenKind::Basic, TokenKind::Bearer],
            access_keys: Vec::new(),
            unknown_session: UnknownSession::Refuse,
            bind_client: BindClient::Off,
        }
    }
}

/// How closely a token is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLevel {
    /// Not at all; a request without a token is let in.
    Off,
    /// It must look like a token.
    Shape,
    /// It must decode, and what it says is checked; its signature is not.
    Decode,
}

/// A kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A transfer token.
    Transfer,
    /// A `Basic` token.
    Basic,
    /// A `Bearer` token.
    Bearer,
}

/// What happens to a request of a session that was not started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownSession {
    /// It is refused.
    Refuse,
    /// It is routed to a node like a new session.
    Route,
}

/// What a session is bound to besides its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BindClient {
    /// Nothing.
    Off,
    /// The IP address that started it; a request from another one is refused.
    Ip,
}

/// What the node is given as the target of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeTarget {
    /// The target as it came, also when the scheme changes on the way.
    #[default]
    Received,
    /// The target with both its scheme words made those of the upstream.
    NodeScheme,
    /// The path alone.
    OriginForm,
}

/// What is kept from doing harm inside a session; by default all of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Whether file names that lead out of their folder are stopped; default `on`.
    #[serde(with = "leaf::switch")]
    #[schemars(schema_with = "leaf::switch::schema")]
    pub names: bool,
    /// Whether places to resume at that cannot be right are stopped; default `on`.
    #[serde(with = "leaf::switch")]
    #[schemars(schema_with = "leaf::switch::schema")]
    pub resume: bool,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { names: true, resume: true }
    }
}

/// Whether a trusted proxy names the client by the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// It does not; the client is who connects.
    #[default]
    Off,
    /// It does; who connects from there is whom the PROXY header at the beginning of the connection names.
    Accept,
}
