//! `listeners`: where clients connect, and what they must bring.

use std::net::SocketAddr;

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
    /// Whether a connection outlives its answer; the default is `force` with `https` and `auto` with `http`.
    #[serde(default)]
    pub persistent_connection: Option<PersistentConnection>,
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
    /// Closed after each answer.
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
