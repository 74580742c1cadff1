//! What the API shows, in the shapes that its description names.
//!
//! Times are Unix seconds, ages and waits seconds, rates bytes a second. `null` stands where there is nothing to say, so
//! that every object has every field. Sessions are shown by a short keyed hash of their id, which is a credential.

use std::{sync::Arc, time::SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

/// Whether new sessions are welcome, and what an operator should know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not every node has been checked yet.
    Starting,
    /// All is well.
    Ready,
    /// It serves, but something needs an operator: `notes` says what.
    Degraded,
    /// It ends, and takes nothing new.
    Draining,
}

/// The whole gateway at one moment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Status {
    /// The version of this build.
    pub version: &'static str,
    /// Whether new sessions are welcome.
    pub state: State,
    /// Why it is not simply ready: one sentence for each thing that needs an operator.
    pub notes: Vec<String>,
    /// The moment that all of this is of.
    pub now: f64,
    /// When the gateway started.
    pub started: f64,
    /// Number of the applied config, from 1.
    pub generation: i64,
    /// The last attempt to apply a config.
    pub last_reload: Reload,
    /// The least important lines that the log has.
    pub log_level: String,
    /// The doors that are open, in the order of the config.
    pub listeners: Vec<Listener>,
    /// The nodes, in the order of the config.
    pub nodes: Vec<Node>,
    /// What flows now through which door to which node. One without traffic is left out.
    pub paths: Vec<Path>,
    /// The waiting room.
    pub waiting: Waiting,
    /// The limits of the whole gateway and how much of them is taken.
    pub limits: Vec<Limit>,
    /// The caps on bandwidth of the whole gateway, as they stand in a config.
    pub bandwidth: serde_json::Value,
    /// What was refused or failed since the start, the latest first.
    pub refusals: Vec<Refusal>,
    /// The certificates that are served, those first that end first.
    pub certificates: Vec<Certificate>,
}

/// An attempt to apply a config.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Reload {
    /// Whether it was applied.
    pub success: bool,
    /// When.
    pub at: f64,
}

/// An open door.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Listener {
    /// Its configured name.
    pub name: String,
    /// `https`, `http`, `tcp`, `udp` or `forward_proxy`.
    pub protocol: String,
    /// The bound address; of a range of ports the first.
    pub address: String,
    /// The upstream that it leads to, or the policy that it goes by.
    pub leads_to: String,
    /// Connections that are open; none for datagrams.
    pub connections: Option<u64>,
    /// Sessions, control connections, flows, tunnels or requests that are open.
    pub open: u64,
    /// Bytes a second from clients.
    pub upload_rate: f64,
    /// Bytes a second to clients.
    pub download_rate: f64,
}

/// A transfer node.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Node {
    /// The upstream that it belongs to.
    pub upstream: String,
    /// Its configured name.
    pub name: String,
    /// Its address or DNS name.
    pub host: String,
    /// Whether every port that is checked is up.
    pub up: bool,
    /// Whether nothing new goes there, by the config or by an operator.
    pub drains: bool,
    /// The ports that are checked.
    pub ports: Vec<Port>,
    /// Sessions on it.
    pub sessions: u64,
    /// As many as it may have; `null` for any number.
    pub max_sessions: Option<u64>,
    /// Seconds until the files that are being moved there have been moved, as far as their sizes were announced; `null`
    /// where none is. A session may have more of them.
    pub eta: Option<f64>,
    /// Its share under every balance.
    pub weight: u32,
    /// Bytes a second to it.
    pub upload_rate: f64,
    /// Bytes a second from it.
    pub download_rate: f64,
}

/// A port of a node whose health matters.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Port {
    /// `http`, `https` or `tcp`.
    pub name: String,
    /// Whether it passes its checks.
    pub up: bool,
    /// Whether its first check has ended.
    pub known: bool,
}

/// What flows from one door to one node.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Path {
    /// The listener.
    pub listener: String,
    /// What flows: a kind of session.
    pub kind: &'static str,
    /// The upstream; `null` behind a forward proxy.
    pub upstream: Option<String>,
    /// The node; `null` behind a forward proxy, and as long as none is chosen.
    pub node: Option<String>,
    /// How many are open.
    pub open: u64,
    /// Bytes a second from clients.
    pub upload_rate: f64,
    /// Bytes a second to clients.
    pub download_rate: f64,
}

/// The waiting room.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Waiting {
    /// Sessions that wait for room.
    pub now: u64,
    /// As many as may wait.
    pub max: u64,
    /// How long the first of them has waited.
    pub longest: Option<f64>,
}

/// A limit of the whole gateway.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Limit {
    /// Its key in the config, or `open_files`.
    pub name: String,
    /// How much of it is taken.
    pub used: u64,
    /// How much there is; `null` when it is off.
    pub max: Option<u64>,
}

/// A reason that something was refused or failed for.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Refusal {
    /// The listener, or `admin`.
    pub listener: String,
    /// The word that metrics, log and answers have for it.
    pub reason: String,
    /// How often since the start.
    pub total: u64,
    /// When last.
    pub last: f64,
}

/// A certificate that is served.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Certificate {
    /// The listener.
    pub listener: String,
    /// The name it is for.
    pub name: String,
    /// When it ends.
    pub not_after: f64,
}

/// Something that is open now: a session, a control connection, a flow, a tunnel or a request of a forward proxy.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Session {
    /// What the API and the access log call it: never the id that its requests carry.
    pub id: String,
    /// `session`, `control`, `flow`, `tunnel` or `request`.
    pub kind: &'static str,
    /// `waiting` for room, `starting` until the node has answered, then `open`; `held` while its node cannot be reached.
    pub state: &'static str,
    /// The listener it came in by.
    pub listener: Arc<str>,
    /// The client's address.
    pub client: String,
    /// The transfer user, or that of the forward proxy.
    pub user: Option<String>,
    /// `upload` or `download`; `null` where bytes go both ways.
    pub direction: Option<&'static str>,
    /// The upstream.
    pub upstream: Option<Arc<str>>,
    /// The node that it is on.
    pub node: Option<Arc<str>>,
    /// What a forward proxy was asked for: host and port.
    pub target: Option<String>,
    /// When it began.
    pub started: f64,
    /// When something last moved.
    pub moved: f64,
    /// Bytes from the client so far.
    pub bytes_uploaded: u64,
    /// Bytes to the client so far.
    pub bytes_downloaded: u64,
    /// Bytes a second from the client, over the last few seconds.
    pub upload_rate: f64,
    /// Bytes a second to the client, over the last few seconds.
    pub download_rate: f64,
    /// Files that went well.
    pub files: u64,
    /// Files that did not.
    pub files_failed: u64,
    /// How many sources the client announced; each may be a folder of many files.
    pub sources: Option<u64>,
    /// The file that is being moved.
    pub file: Option<File>,
}

/// A file on its way.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct File {
    /// Its name as the client knows it.
    pub name: Arc<str>,
    /// What of it this request announced, in bytes; `null` where nothing was announced. What a resumed transfer leaves
    /// out is not part of it.
    pub size: Option<u64>,
    /// How much of that has moved.
    pub moved: u64,
    /// Seconds until the rest has moved at the present rate; `null` where nobody can know.
    pub eta: Option<f64>,
}

/// The answer to `GET /api/v1/sessions`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Sessions {
    /// How many match, of which `sessions` may be the first part.
    pub total: u64,
    /// Those, sessions first, then the oldest first.
    pub sessions: Vec<Session>,
}

/// The answer to `GET /api/v1/nodes`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Nodes {
    /// In the order of the config.
    pub nodes: Vec<Node>,
}

/// The answer to a command that was carried out.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Done {
    /// One sentence for the operator.
    pub message: String,
}

/// Any answer that says no.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Refused {
    /// Why, in one word; of a refusal to somebody who may not ask it is that of metrics and log.
    pub error: String,
    /// One sentence for the operator.
    pub message: String,
    /// Each problem of a config, with its path and a hint.
    pub problems: Vec<String>,
}

/// A time as it is shown: Unix seconds, to the millisecond.
pub fn unix(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}
