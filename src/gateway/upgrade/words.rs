//! What two processes say to each other while one takes over from the other. All of it is JSON; a field that one of
//! them does not know is left out or ignored.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    config::{ListenAddress, ListenerConfig, Protocol},
    net::passage::Passage,
    shared::{ClientState, FlowState, Key, NodeState, PinState, SessionState},
};

/// Processes whose numbers differ do not understand each other.
pub(super) const VERSION: u32 = 1;

/// What the old process has; with its sockets in this order, that of the admin door last.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) listeners: Vec<Open>,
    pub(super) admin: Option<SocketAddr>,
    /// What hides the ids of sessions.
    pub(super) label_key: (u64, u64),
}

/// A listener that is open.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) address: ListenAddress,
    pub(super) threads: usize,
    pub(super) sockets: usize,
}

impl Open {
    /// The listener as far as its socket goes.
    pub(super) fn config(&self) -> serde_json::Result<ListenerConfig> {
        let parts = serde_json::json!({"name": self.name, "protocol": self.protocol, "address": self.address});
        serde_json::from_value(parts)
    }
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It has built everything, and wants the sockets of these listeners.
    Ready(Vec<String>),
    /// Its doors are open.
    Taken,
    /// It cannot run, for this reason.
    Failed(String),
}

/// What there is in the old process; with the sockets of its flows in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) sessions: Vec<SessionState>,
    pub(super) refused: Vec<Key>,
    pub(super) cancelled: Vec<Key>,
    pub(super) nodes: Vec<NodeState>,
    pub(super) pins: Vec<PinState>,
    pub(super) clients: Vec<ClientState>,
    /// By listener, for each thread.
    pub(super) flows: BTreeMap<String, Vec<Vec<FlowState>>>,
}

pub(super) fn send<T: Serialize>(passage: &mut Passage, message: &T, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    passage.send(&serde_json::to_vec(message)?, files)
}

pub(super) fn receive<T: DeserializeOwned>(passage: &mut Passage) -> io::Result<(T, Vec<OwnedFd>)> {
    let (text, files) = passage.receive()?;
    Ok((serde_json::from_slice(&text)?, files))
}
