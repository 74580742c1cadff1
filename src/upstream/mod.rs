//! Which node: named groups of transfer nodes, how one is chosen, and how their health is known.
//!
//! Knows no protocol but the health checks' own, and nothing of limits.

mod hash;
mod health;
mod node;
mod pins;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    config::{AffinityConfig, AffinityKey, Balance, UpstreamConfig, WhenAllDown},
    telemetry::{Metrics, PickHow},
};

use pins::{PinKind, Pins};

pub use health::Checks;
pub use node::{Lease, Node, Pending};

/// A named group of nodes.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    balance: Balance,
    when_all_down: WhenAllDown,
    nodes: Vec<Arc<Node>>,
    affinity: AffinityConfig,
    pins: Arc<Pins>,
    turn: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// Who a node is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The session's id.
    pub session: [u8; 16],
    /// The client's address.
    pub client: IpAddr,
    /// The transfer user, where it is known.
    pub user: Option<&'a str>,
}

/// No node can take the session: all are down, full or were tried already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no node of the upstream can take it")]
pub struct NoNode;

impl Upstream {
    /// Builds the group; pins, and health and leases of nodes that `before` has at the same place, go
    /// on.
    pub fn build(config: &UpstreamConfig, before: Option<&Upstream>, metrics: &Arc<Metrics>) -> Upstream {
        let nodes: Vec<_> = config
            .nodes
            .iter()
            .map(|node| {
                let same =
                    before.and_then(|u| u.nodes.iter().find(|n| n.name() == node.name && n.is_at(config.scheme, node)));
                Arc::new(Node::new(&config.name, config.scheme, node, same.map(Arc::as_ref), metrics.clone()))
            })
            .collect();
        Upstream {
            name: config.name.clone(),
            balance: config.balance,
            when_all_down: config.when_all_down,
            affinity: config.affinity.clone(),
            pins: pins(config.max_pins, before),
            nodes,
            turn: AtomicUsize::new(0),
            metrics: metrics.clone(),
        }
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All nodes, in the order of the config.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Whether every node's first check has ended.
    pub fn is_known(&self) -> bool {
        self.nodes.iter().all(|n| n.is_known())
    }

    /// Takes a lease on a node for a new session; `tried` are left out.
    ///
    /// A pin decides first, if there is one and its node can take the session: the affinity's own,
    /// then that of an earlier session of this client and user that ended badly, whose partial files
    /// are on its node. Then the balance decides.
    pub fn pick(&self, wish: Wish<'_>, tried: &[Arc<Node>]) -> Result<Lease, NoNode> {
        let lease = match self.pinned(wish, tried) {
            Some(lease) => lease,
            None => self.balanced(wish, tried)?,
        };
        if let Some(key) = self.affinity_key(wish) {
            self.pins.set(PinKind::Affinity, &[&key], lease.node().name(), Instant::now());
        }
        Ok(lease)
    }

    /// Remembers where the partial files of a session are that ended badly, and forgets it once one
    /// of the same client and user ended well.
    pub fn session_ended(&self, wish: Wish<'_>, node: &Node, well: bool) {
        let key = resume_key(wish);
        let key = [key.0.as_slice(), key.1];
        if well {
            self.pins.remove(PinKind::Resume, &key);
        } else {
            self.pins.set(PinKind::Resume, &key, node.name(), Instant::now());
        }
    }

    fn pinned(&self, wish: Wish<'_>, tried: &[Arc<Node>]) -> Option<Lease> {
        let (idle, now) = (self.affinity.idle, Instant::now());
        let key = resume_key(wish);
        let affinity = self.affinity_key(wish).and_then(|k| self.pins.get(PinKind::Affinity, &[&k], idle, now));
        let resume = || self.pins.get(PinKind::Resume, &[&key.0, key.1], idle, now);
        let lease = |name: String| {
            let is_it = |n: &&Arc<Node>| n.name() == name && n.is_up() && !tried.iter().any(|t| t.name() == name);
            self.nodes.iter().find(is_it)?.try_lease()
        };
        if let Some(lease) = affinity.and_then(lease) {
            self.count(PickHow::Pin);
            return Some(lease);
        }
        let lease = resume().and_then(lease)?;
        self.count(PickHow::Resume);
        Some(lease)
    }

    fn balanced(&self, wish: Wish<'_>, tried: &[Arc<Node>]) -> Result<Lease, NoNode> {
        let key = self.affinity_key(wish).unwrap_or_else(|| wish.session.to_vec());
        loop {
            let is_free = |n: &&Arc<Node>| n.has_room() && !tried.iter().any(|t| t.name() == n.name());
            let free: Vec<_> = self.nodes.iter().filter(is_free).collect();
            let up: Vec<_> = free.iter().copied().filter(|n| n.is_up()).collect();
            let all_down = || self.nodes.iter().all(|n| !n.is_up());
            let (node, how) = match self.choose(&key, &up) {
                Some(node) if tried.is_empty() => (node, PickHow::Balance),
                Some(node) => (node, PickHow::Failover),
                None if self.when_all_down == WhenAllDown::TryAll && all_down() => {
                    tracing::warn!(upstream = self.name, "All nodes are down; trying one all the same.");
                    (self.choose(&key, &free).ok_or(NoNode)?, PickHow::TryAll)
                }
                None => return Err(NoNode),
            };
            // Another session may have taken the last place in between; then the choice is made anew.
            if let Some(lease) = node.try_lease() {
                self.count(how);
                return Ok(lease);
            }
        }
    }

    /// What the affinity goes by; nothing when every session stands for itself.
    fn affinity_key(&self, wish: Wish<'_>) -> Option<Vec<u8>> {
        match self.affinity.key {
            AffinityKey::Session => None,
            AffinityKey::Client => Some(wish.client.to_canonical().to_string().into_bytes()),
            AffinityKey::User => wish.user.map(|user| user.as_bytes().to_vec()),
        }
    }

    /// The node that the key's hash names among those that are up: for requests of sessions that
    /// this gateway does not know. Takes no lease on its own account.
    pub fn by_hash(&self, key: &[u8]) -> Result<Lease, NoNode> {
        let up: Vec<_> = self.nodes.iter().filter(|n| n.is_up()).collect();
        let node = highest(key, &up).ok_or(NoNode)?;
        self.count(PickHow::Hash);
        Ok(node.lease())
    }

    fn choose<'a>(&self, key: &[u8], nodes: &[&'a Arc<Node>]) -> Option<&'a Arc<Node>> {
        match self.balance {
            Balance::Hash => highest(key, nodes),
            Balance::RoundRobin => self.in_turn(nodes),
            Balance::LeastSessions => {
                let load = |n: &Arc<Node>| n.sessions() as f64 / f64::from(n.weight());
                let least = nodes.iter().map(|n| load(n)).min_by(f64::total_cmp)?;
                let equal: Vec<_> = nodes.iter().copied().filter(|n| load(n) <= least).collect();
                self.in_turn(&equal)
            }
        }
    }

    /// Weighted turns: a node of weight 2 stands twice in the round.
    fn in_turn<'a>(&self, nodes: &[&'a Arc<Node>]) -> Option<&'a Arc<Node>> {
        let round: usize = nodes.iter().map(|n| n.weight() as usize).sum();
        let mut at = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(round)?;
        nodes.iter().copied().find(|n| {
            let here = at < n.weight() as usize;
            at = at.saturating_sub(n.weight() as usize);
            here
        })
    }

    fn count(&self, how: PickHow) {
        self.metrics.node_picks.with_label_values(&[self.name.as_str(), how.as_str()]).inc();
    }
}

fn pins(max: u32, before: Option<&Upstream>) -> Arc<Pins> {
    match before {
        Some(before) => {
            before.pins.resize(max);
            before.pins.clone()
        }
        None => Arc::new(Pins::new(max)),
    }
}

fn resume_key(wish: Wish<'_>) -> (Vec<u8>, &[u8]) {
    (wish.client.to_canonical().to_string().into_bytes(), wish.user.unwrap_or_default().as_bytes())
}

fn highest<'a>(key: &[u8], nodes: &[&'a Arc<Node>]) -> Option<&'a Arc<Node>> {
    nodes
        .iter()
        .copied()
        .max_by(|a, b| hash::score(key, a.name(), a.weight()).total_cmp(&hash::score(key, b.name(), b.weight())))
}

#[cfg(test)]
mod tests;
