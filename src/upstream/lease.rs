//! What is held of a node: a session's lease, and a connect in the making.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tokio::sync::OwnedSemaphorePermit;

use super::node::Node;
use crate::{config::NodePort, telemetry::ActiveGuard};

/// One session on a node, until it drops.
#[derive(Debug)]
pub struct Lease {
    node: Arc<Node>,
    counted: Option<ActiveGuard>,
}

impl Lease {
    /// One that the node has counted.
    pub(super) fn new(node: Arc<Node>) -> Lease {
        Lease { counted: Some(node.metrics().session()), node }
    }

    /// The node held.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.counted = None;
        let before = self.node.state.sessions.fetch_sub(1, Ordering::Relaxed);
        if before == 1 && self.node.drains() {
            tracing::info!(upstream = self.node.upstream(), node = self.node.name(), "A node is drained.");
        }
        self.node.has_room_again();
    }
}

/// A connect in the making.
#[derive(Debug)]
pub struct Pending {
    node: Arc<Node>,
    port: NodePort,
    since: Instant,
    permit: Option<OwnedSemaphorePermit>,
    is_open: bool,
}

impl Pending {
    /// One that begins now, with its place where there is a maximum.
    pub(super) fn new(node: Arc<Node>, port: NodePort, permit: Option<OwnedSemaphorePermit>) -> Pending {
        Pending { node, port, since: Instant::now(), permit, is_open: false }
    }

    /// The connection is open: from here on it takes no place in the node's queue.
    pub fn opened(&mut self) {
        self.permit = None;
        self.is_open = true;
        self.node.metrics().connected(self.since.elapsed());
    }

    /// The node is there.
    pub fn connected(mut self) {
        if !self.is_open {
            self.opened();
        }
        self.node.connect_ended(self.port, true);
    }

    /// The connect failed: a passive mark, which an active check takes back.
    pub fn failed(self) {
        self.node.connect_ended(self.port, false);
    }
}
