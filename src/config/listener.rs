//! `listeners`: where clients connect, and what they must bring.

use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::ListenAddress;
use super::leaf;
use super::limits::ListenerLimitsConfig;
use super::relay::{
    Gate, default_banner_timeout, default_flow_idle, default_gate_grace, default_idle, default_receive_buffer,
};
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
    /// The IP address and port to listen on, unique among the listeners; required. Port 0 takes any free port. With `udp` also a range, `0.0.0.0:33001-33020`, which is mapped one to one.
    pub address: ListenAddress,
    /// The name of the upstream that serves this listener; required, but with `forward_proxy`, which has none.
    #[serde(default)]
    #[schemars(schema_with = "leaf::optional_name")]
    pub upstream: Option<String>,
    /// `forward_proxy`: the name of the policy that says who may reach what; required there.
    #[serde(default)]
    #[schemars(schema_with = "leaf::optional_name")]
    pub policy: Option<String>,
    /// Certificates and versions; required with `https`, optional with `forward_proxy`, refused elsewhere.
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
    /// `tcp`: how long a node may take to connect and send its SSH banner until another node is tried; default 5s, above zero.
    #[serde(default = "default_banner_timeout", with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub banner_timeout: Duration,
    /// `tcp`: a connection without a byte is closed, unless data of its client flows; default 24h, above zero.
    #[serde(default = "default_idle", with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub idle: Duration,
    /// `tcp`: whether nodes are told the client's address by the PROXY protocol, version 2; default `off`. OpenSSH does not understand it.
    #[serde(default, with = "leaf::switch")]
    #[schemars(schema_with = "leaf::switch::schema")]
    pub send_proxy_protocol: bool,
    /// `udp`: whose datagrams are let in; default `control_connection`.
    #[serde(default)]
    pub gate: Gate,
    /// `udp`: how long the gate stays open after a client's last control connection; default 30s.
    #[serde(default = "default_gate_grace", with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::any")]
    pub gate_grace: Duration,
    /// `udp`: a flow without a datagram in either direction is forgotten; default 5m, above zero.
    #[serde(default = "default_flow_idle", with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub flow_idle: Duration,
    /// `udp`: threads that move datagrams, each with a socket of its own; default `auto`, one per processor and at most 8.
    #[serde(default, with = "leaf::count_or_auto")]
    #[schemars(schema_with = "leaf::count_or_auto::schema")]
    pub workers: Option<u32>,
    /// `udp`: what the kernel keeps for a socket of the listener until it is read, and as much to send; default 4MiB.
    #[serde(default = "default_receive_buffer", with = "leaf::size")]
    #[schemars(schema_with = "leaf::size::schema")]
    pub receive_buffer: u64,
    /// What holds for this listener besides `limits` and `bandwidth`; by default nothing.
    #[serde(default)]
    pub limits: ListenerLimitsConfig,
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
            _ => PersistentConnection::Auto,
        })
    }

    /// Whether the socket of `earlier` goes on serving here: same address and transport, whatever the name; of a port
    /// that the system chose the name has to be the same as well.
    #[must_use]
    pub fn keeps_socket_of(&self, earlier: &Self) -> bool {
        let kind = |l: &Self| match l.protocol {
            Protocol::Https => Protocol::Http,
            other => other,
        };
        kind(self) == kind(earlier)
            && self.address == earlier.address
            && (self.name == earlier.name || !self.address.is_any_port())
    }

    /// The upstream that it leads to or, with `forward_proxy`, the policy that rules it; empty when that is not said.
    #[must_use]
    pub fn leads_to(&self) -> &str {
        let named = if self.protocol == Protocol::ForwardProxy { &self.policy } else { &self.upstream };
        named.as_deref().unwrap_or_default()
    }

    /// A listener of which only the required keys are said; `leads_to` is its upstream or, with `forward_proxy`, its policy.
    #[must_use]
    pub fn new(name: &str, protocol: Protocol, address: ListenAddress, leads_to: &str) -> Self {
        let is_forward = protocol == Protocol::ForwardProxy;
        Self {
            name: name.to_owned(),
            protocol,
            address,
            upstream: (!is_forward).then(|| leads_to.to_owned()),
            policy: is_forward.then(|| leads_to.to_owned()),
            tls: None,
            admission: AdmissionConfig::default(),
            persistent_connection: None,
            node_target: NodeTarget::default(),
            guard: GuardConfig::default(),
            slow_node_notice: default_slow_node_notice(),
            trusted_proxies: Vec::new(),
            proxy_protocol: ProxyProtocol::default(),
            banner_timeout: default_banner_timeout(),
            idle: default_idle(),
            send_proxy_protocol: false,
            gate: Gate::default(),
            gate_grace: default_gate_grace(),
            flow_idle: default_flow_idle(),
            workers: None,
            receive_buffer: default_receive_buffer(),
            limits: ListenerLimitsConfig::default(),
        }
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
    /// The control connection of a transfer, which is SSH; relayed, never ended.
    Tcp,
    /// The data of a transfer; relayed.
    Udp,
    /// HTTP of clients behind a firewall to nodes elsewhere: `CONNECT`, and absolute targets in the clear.
    ForwardProxy,
}

impl Protocol {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::ForwardProxy => "forward_proxy",
        }
    }

    /// Whether it is the fallback over HTTP.
    #[must_use]
    pub fn is_fallback(self) -> bool {
        matches!(self, Self::Https | Self::Http)
    }
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
