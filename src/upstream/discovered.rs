//! What becomes of an upstream's nodes as the DNS tells of others.
//!
//! A node that is told of no more is gone: nothing new goes there, what is there goes on to its end, and then it is left
//! out. One that is told of again in time is what it was. A partial answer takes no node away.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Node, Upstream,
    made::{self, Found, MAX_NODES, Maker},
    nodes::Still,
};
use crate::{
    config::UpstreamConfig,
    net::dns::Resolver,
    telemetry::{LookupMetrics, Metrics},
};

/// What a discovered upstream has more than another.
#[derive(Debug)]
pub(super) struct Discovered {
    pub(super) maker: Maker,
    pub(super) lookups: LookupMetrics,
    pub(super) over: Arc<OverReloads>,
    /// Nodes came from elsewhere.
    pub(super) changed: Notify,
    /// Cancelled: the config that wants it is the running one.
    pub(super) begun: CancellationToken,
    /// Cancelled: the first lookup has ended.
    pub(super) looked_up: CancellationToken,
}

/// What outlives a reload.
#[derive(Debug, Default)]
pub(super) struct OverReloads {
    /// There were nodes whose first check had ended.
    known: AtomicBool,
    /// The last lookup found nothing, or not all.
    pub(super) lacks: AtomicBool,
}

impl Upstream {
    /// Builds a group whose nodes are discovered. It has those that `before` had of the same kind until it is told others;
    /// what of them goes on is as in [`Upstream::build`].
    pub fn discovered(
        maker: (&UpstreamConfig, &[crate::config::NodePort], Arc<Resolver>, &Arc<Metrics>),
        before: Option<&Upstream>,
    ) -> Upstream {
        let (config, checked, resolver, metrics) = maker;
        let Some(discovery) = &config.discovery else { return Upstream::build(config, checked, before, metrics) };
        let maker = Maker {
            upstream: config.clone(),
            discovery: discovery.clone(),
            checked: checked.to_vec(),
            resolver,
            metrics: metrics.clone(),
        };
        let same = before.and_then(|before| Some((before, before.discovered.as_ref()?)));
        let same = same.filter(|(_, other)| other.maker.discovery.is_srv() == discovery.is_srv());
        let nodes = same.map(|(before, _)| before.nodes().iter().filter_map(|node| remade(&maker, node)).collect());
        let discovered = Discovered {
            maker,
            lookups: metrics.lookups(&config.name),
            over: same.map_or_else(Arc::default, |(_, other)| other.over.clone()),
            changed: Notify::new(),
            begun: CancellationToken::new(),
            looked_up: CancellationToken::new(),
        };
        if before.is_none() {
            discovered.begun.cancel();
        }
        Upstream::with(config, nodes.unwrap_or_default(), Some(discovered), before, metrics)
    }

    /// Waits until the first lookup has ended, whatever came of it.
    pub async fn looked_up(&self) {
        if let Some(discovered) = &self.discovered {
            discovered.looked_up.cancelled().await;
        }
    }

    /// Whether the last lookup of its nodes found nothing, or not all.
    pub fn lacks_nodes(&self) -> bool {
        self.discovered.as_ref().is_some_and(|discovered| discovered.over.lacks.load(Ordering::Relaxed))
    }

    /// As long as the result lives no node comes or goes.
    pub fn hold_still(&self) -> Still<'_> {
        self.nodes.hold_still()
    }

    /// How often nodes came or went.
    pub fn node_changes(&self) -> u64 {
        self.nodes.changes()
    }

    /// Whether the first check of every node has ended. Where they are discovered there must have been one, and those that
    /// come later change nothing of it.
    pub fn is_known(&self) -> bool {
        let nodes = self.nodes.now();
        let are_known = nodes.iter().all(|node| node.is_known());
        let Some(discovered) = &self.discovered else { return are_known };
        if are_known && !nodes.is_empty() {
            discovered.over.known.store(true, Ordering::Relaxed);
        }
        discovered.over.known.load(Ordering::Relaxed)
    }

    /// These are all nodes that there are, or only some where the answer is not `whole`. As that takes none away, it brings
    /// no more than there may be either.
    pub(super) fn learn(&self, found: &[Found], whole: bool) {
        let Some(discovered) = &self.discovered else { return };
        let mut welcome = Vec::new();
        let still = self.hold_still();
        let now = self.nodes();
        let mut next = Vec::new();
        let there = now.iter().filter(|node| !node.is_gone()).count();
        let mut room = if whole { MAX_NODES } else { MAX_NODES.saturating_sub(there) };
        for found in found {
            let known = now.iter().find(|node| node.name() == found.host);
            if known.is_none_or(|node| node.is_gone() && !whole) {
                let Some(left) = room.checked_sub(1) else { continue };
                room = left;
            }
            if let Some(same) = known.filter(|node| node.found() == Some(found)) {
                if same.set_gone(false) {
                    tracing::info!(upstream = self.name, node = same.name(), "A node that was gone is back.");
                    welcome.push(same.clone());
                }
                next.push(same.clone());
                continue;
            }
            let node = self.welcome(discovered.maker.node(found.clone(), known.map(Arc::as_ref)));
            node.set_gone(false);
            let (name, priority, weight) = (node.name(), found.priority, found.weight);
            if known.is_some() {
                tracing::info!(
                    upstream = self.name,
                    node = name,
                    port = found.port,
                    priority,
                    weight,
                    "A node has changed."
                );
            } else {
                tracing::info!(
                    upstream = self.name,
                    node = name,
                    port = found.port,
                    priority,
                    weight,
                    "A node is found."
                );
            }
            welcome.push(node.clone());
            next.push(node);
        }
        for node in now.iter().filter(|node| !found.iter().any(|found| found.host == node.name())) {
            if whole && node.set_gone(true) {
                let (name, sessions) = (node.name(), node.sessions());
                tracing::info!(upstream = self.name, node = name, sessions, "A node is gone; it drains.");
            }
            next.push(node.clone());
        }
        self.put(&still, next);
        drop(still);
        welcome.iter().for_each(|node| node.has_room_again());
    }

    /// Whether any node is gone and was not left out yet.
    pub(super) fn has_gone(&self) -> bool {
        self.nodes.now().iter().any(|node| node.is_gone())
    }

    /// Leaves nodes out that are gone and have nothing on them any more.
    pub(super) fn leave_out(&self) {
        let still = self.hold_still();
        let is_through = |node: &Arc<Node>| node.is_gone() && node.sessions() == 0 && !self.clients.are_on(node.name());
        let (through, stay): (Vec<_>, Vec<_>) = self.nodes().iter().cloned().partition(is_through);
        if !through.is_empty() {
            self.put(&still, stay);
        }
        for node in through {
            tracing::info!(upstream = self.name, node = node.name(), "A node that was gone is drained, and left out.");
        }
    }

    /// A node that another process has found, or that something of another process is on. It is there as long as that is,
    /// unless the DNS tells of it too.
    pub(super) fn bring_found(&self, found: Found, gone: bool) {
        let Some(discovered) = &self.discovered else { return };
        let still = self.hold_still();
        let now = self.nodes();
        if now.iter().any(|node| node.name() == found.host) {
            return;
        }
        let node = self.welcome(discovered.maker.node(found, None));
        // Once the DNS has spoken here, it is not among those that it told of.
        node.set_gone(gone || (discovered.looked_up.is_cancelled() && !self.lacks_nodes()));
        self.put(&still, now.iter().cloned().chain([node]).collect());
        discovered.changed.notify_one();
    }

    /// The node of this name, if there is one; where nodes are addresses there may have been one at any.
    pub(super) fn find_or_bring(&self, name: &str) -> Option<Arc<Node>> {
        let find = || self.nodes.now().iter().find(|node| node.name() == name).cloned();
        let is_of_addresses = |it: &&Discovered| !it.maker.discovery.is_srv();
        find().or_else(|| {
            self.discovered.as_ref().filter(is_of_addresses)?;
            self.bring_found(Found::at(name.parse::<IpAddr>().ok()?), true);
            find()
        })
    }

    fn welcome(&self, node: Node) -> Arc<Node> {
        if let Some(room) = self.room.get() {
            node.tell_room(room.clone());
        }
        node.show();
        Arc::new(node)
    }

    fn put(&self, still: &Still<'_>, mut nodes: Vec<Arc<Node>>) {
        nodes.sort_by(|a, b| match (a.found(), b.found()) {
            (Some(a), Some(b)) => made::in_order(a, b),
            _ => std::cmp::Ordering::Equal,
        });
        let now = self.nodes.now();
        if now.len() != nodes.len() || now.iter().zip(&nodes).any(|(a, b)| !Arc::ptr_eq(a, b)) {
            self.nodes.set(still, nodes);
        }
    }
}

/// The same node by another config, gone if it was.
fn remade(maker: &Maker, node: &Arc<Node>) -> Option<Arc<Node>> {
    let new = maker.node(node.found()?.clone(), Some(node));
    new.set_gone(node.is_gone());
    new.show();
    Some(Arc::new(new))
}

#[cfg(test)]
mod tests;
