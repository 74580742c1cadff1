//! What other processes must know of what goes on here: the one that takes over at an upgrade, the one that comes
//! after a crash, and those that serve beside this one.
//!
//! Plain data in the words of the rules; nothing here decides anything.

pub mod file;
pub mod limits;
mod nominal;
pub mod redis;

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::telemetry::Direction;

pub use nominal::{ClientState, ControlNews, ControlState, FlowState, FoundState, NodeState, PlaceState};

/// The id of a fallback session. Whoever has it has the session, so it is never shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(pub [u8; 16]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// An admitted fallback session, as much of it as it takes to go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// Its id.
    pub key: Key,
    /// The listener it came in by.
    pub listener: String,
    /// The upstream of that listener.
    pub upstream: String,
    /// The node it is on.
    pub node: String,
    /// The client's address.
    pub client: IpAddr,
    /// Put or get.
    pub direction: Option<Direction>,
    /// The transfer user, where it is known.
    pub user: Option<String>,
    /// How many sources its start named, where that is known.
    pub sources: Option<u64>,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// Whether a node accepted its start.
    pub open: bool,
    /// Whether the node keeps one connection for the whole session.
    pub node_keeps: bool,
    /// Whether the client does.
    pub client_keeps: bool,
    /// Body bytes from the client so far.
    pub bytes_uploaded: u64,
    /// Body bytes to the client so far.
    pub bytes_downloaded: u64,
    /// Files that arrived whole.
    pub files: u64,
    /// Files that did not.
    pub files_failed: u64,
    /// Requests of it so far.
    pub requests: u64,
    /// Downloads that were not as long as they were announced.
    pub lengths_differ: u64,
    /// The size that the node announced for the file that the client asks for next.
    pub announced: Option<u64>,
    /// Which file that is, counted from 1; 0 where it is not known.
    pub turn: u64,
    /// How long its start waited for room, in milliseconds.
    pub waited: u64,
}

/// Where a key's transfers go, as an upstream remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinState {
    /// The upstream.
    pub upstream: String,
    /// A hash of the key and of what the pin is for.
    pub hash: u64,
    /// The node.
    pub node: String,
    /// When it was set, in milliseconds since 1970.
    pub set: u64,
}
