//! Nodes, and the nominal path to them: clients with their control connections, and the flows of their data.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::config::NodePort;

/// A client address and what ties it to its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientState {
    /// The upstream.
    pub upstream: String,
    /// The address.
    pub client: IpAddr,
    /// Where its data goes.
    pub place: PlaceState,
    /// Its control connections, in the order of their coming.
    pub controls: Vec<ControlState>,
    /// How long ago the last control connection ended, in milliseconds.
    pub left: Option<u64>,
    /// How long ago its data moved, likewise.
    pub moved: Option<u64>,
}

/// A node at one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceState {
    /// The node's name.
    pub node: String,
    /// The address at which the client's connections meet it.
    pub ip: IpAddr,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The upstream.
    pub upstream: String,
    /// The node.
    pub node: String,
    /// An operator lets nothing new go there.
    pub drained: bool,
    /// Its ports whose first check has ended, each with whether it counts as up.
    pub ports: Vec<(NodePort, bool)>,
    /// What the DNS says of it, where it comes from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundState>,
}

/// What the DNS says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundState {
    /// The port that its SRV record tells.
    pub port: Option<u16>,
    /// The priority of that record; 0 without one.
    pub priority: u16,
    /// Its share beside the other nodes.
    pub weight: u32,
    /// The DNS tells of it no more.
    pub gone: bool,
}

/// A control connection that is open in another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlState {
    /// Tells it from all others of its upstream in that process.
    pub number: u64,
    /// Where it goes.
    pub place: PlaceState,
}

/// A control connection has come about or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlNews {
    /// The client.
    pub client: IpAddr,
    /// Tells the connection from all others of its upstream in that process.
    pub number: u64,
    /// Where it goes; none once it has ended.
    pub place: Option<PlaceState>,
}

/// A flow of data; its socket towards the node goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowState {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The index of the port spoken to in the listener's range.
    pub port: u16,
    /// The address spoken to, where the socket tells it.
    pub local: Option<IpAddr>,
    /// The node.
    pub node: String,
    /// How long ago it was admitted, in milliseconds.
    pub age: u64,
    /// How long ago something last went either way, in milliseconds.
    pub idle: u64,
    /// Bytes from the client so far.
    pub uploaded: u64,
    /// Bytes to the client so far.
    pub downloaded: u64,
}
