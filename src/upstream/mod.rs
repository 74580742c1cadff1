//! Which node: named groups of transfer nodes, how one is chosen, and how their health is known.
//!
//! Knows no protocol but the health checks' own, and nothing of limits. Nodes are given, or `discovery` has them from the DNS.

mod balance;
mod clients;
mod discovered;
mod discovery;
mod elsewhere;
mod hash;
mod health;
mod lease;
mod made;
mod node;
mod nodes;
mod nominal;
mod pins;
mod verdict;

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    config::{AffinityConfig, AffinityKey, Balance, NodePort, UpstreamConfig, WhenAllDown},
    telemetry::{Metrics, PickHow, UpstreamMetrics},
};

use balance::Candidate;
use clients::Clients;
use discovered::Discovered;
use nodes::Nodes;
use pins::{PinKind, Pins};

pub use clients::{Client, Place};
pub use discovery::{Discovery, count as count_discovered};
pub use elsewhere::PinNews;
pub use health::Checks;
pub use lease::{Lease, Pending};
pub use node::Node;
pub use nodes::Still;
pub use nominal::{Attempt, Control};

/// A named group of nodes.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    fallback: NodePort,
    balance: Balance,
    when_all_down: WhenAllDown,
    nodes: Nodes,
    discovered: Option<Discovered>,
    room: OnceLock<node::HasRoom>,
    affinity: AffinityConfig,
    max_pins: u32,
    pins: Arc<Pins>,
    clients: Arc<Clients>,
    turn: AtomicUsize,
    /// Whether all nodes were down when one was wanted last, of the fallback and of the control port.
    all_down: Arc<[AtomicBool; 2]>,
    metrics: UpstreamMetrics,
}

/// Who a node is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// What the node must serve.
    pub port: NodePort,
    /// The session's id; the nominal path has none.
    pub session: Option<[u8; 16]>,
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
    /// on. Of the nodes' ports those of `checked` are checked.
    pub fn build(
        config: &UpstreamConfig,
        checked: &[NodePort],
        before: Option<&Upstream>,
        metrics: &Metrics,
    ) -> Upstream {
        let nodes: Vec<_> = config
            .nodes
            .iter()
            .map(|node| {
                let nodes = before.map(Upstream::nodes).unwrap_or_default();
                let same = nodes.iter().find(|n| n.name() == node.name && n.is_at(config.scheme, node));
                let new = Node::new(config, checked, node, same.map(Arc::as_ref), metrics);
                // Whatever the DNS told of it where it came from there.
                new.set_gone(false);
                Arc::new(new)
            })
            .collect();
        Upstream::with(config, nodes, None, before, metrics)
    }

    fn with(
        config: &UpstreamConfig,
        nodes: Vec<Arc<Node>>,
        discovered: Option<Discovered>,
        before: Option<&Upstream>,
        metrics: &Metrics,
    ) -> Upstream {
        Upstream {
            name: config.name.clone(),
            fallback: config.scheme.port(),
            balance: config.balance,
            when_all_down: config.when_all_down,
            affinity: config.affinity.clone(),
            max_pins: config.max_pins,
            pins: pins(config.max_pins, before),
            clients: clients(config.max_pins, before),
            nodes: Nodes::new(nodes, before.map(|before| &before.nodes)),
            discovered,
            room: OnceLock::new(),
            turn: AtomicUsize::new(0),
            all_down: before.map_or_else(Arc::default, |before| before.all_down.clone()),
            metrics: metrics.upstream(&config.name),
        }
    }

    /// Takes over: from now on its `max_pins` holds for what it shares with the one before, and its nodes are looked up.
    pub fn take_over(&self) {
        self.pins.resize(self.max_pins);
        self.clients.resize(self.max_pins);
        if let Some(discovered) = &self.discovered {
            discovered.begun.cancel();
        }
    }

    /// Has `tell` called with its name whenever one of its nodes may have room that had none; for the first caller alone.
    pub fn tell_room(&self, tell: Arc<dyn Fn(&str) + Send + Sync>) {
        let _still = self.hold_still();
        let room = self.room.get_or_init(|| node::HasRoom(tell));
        self.nodes.now().iter().for_each(|node| node.tell_room(room.clone()));
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port of its nodes that the fallback is sent to.
    pub fn fallback_port(&self) -> NodePort {
        self.fallback
    }

    /// All nodes that there are now, in the order of the config, or of their addresses or names where they are discovered.
    pub fn nodes(&self) -> Arc<Vec<Arc<Node>>> {
        Arc::clone(&self.nodes.now())
    }

    /// Takes a lease on a node for a new session; `tried` are left out.
    ///
    /// A pin decides first, if there is one and its node can take the session: that of the client's live control
    /// connection, then the affinity's own, then that of an earlier session of this client and user that ended badly,
    /// whose partial files are on its node. Then the balance decides.
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
        let control = || self.control_node(wish.client);
        let affinity = || {
            let key = self.affinity_key(wish)?;
            self.pins.get(PinKind::Affinity, &[&key], idle, now)
        };
        let resume = || {
            // Only the fallback tells how a session ended.
            wish.session?;
            let key = resume_key(wish);
            self.pins.get(PinKind::Resume, &[&key.0, key.1], idle, now)
        };
        let wanted: [(PickHow, &dyn Fn() -> Option<String>); 3] =
            [(PickHow::Control, &control), (PickHow::Pin, &affinity), (PickHow::Resume, &resume)];
        wanted.into_iter().find_map(|(how, name)| {
            let lease = self.lease_by_name(wish, &name()?, tried)?;
            self.count(how);
            Some(lease)
        })
    }

    /// A lease on the node of this name, if it is up, not tried and has room.
    fn lease_by_name(&self, wish: Wish<'_>, name: &str, tried: &[Arc<Node>]) -> Option<Lease> {
        let is_it = |n: &&Arc<Node>| n.name() == name && n.is_up(wish.port) && !tried.iter().any(|t| t.name() == name);
        self.nodes.now().iter().find(is_it)?.try_lease()
    }

    fn balanced(&self, wish: Wish<'_>, tried: &[Arc<Node>]) -> Result<Lease, NoNode> {
        let key = self.affinity_key(wish).unwrap_or_else(|| match wish.session {
            Some(session) => session.to_vec(),
            None => client_key(wish.client),
        });
        loop {
            let nodes = self.nodes.now();
            let is_open = |n: &&Arc<Node>| !n.drains() && !tried.iter().any(|t| t.name() == n.name());
            let open: Vec<_> = nodes.iter().filter(is_open).collect();
            let with_room = |nodes: Vec<_>| first(nodes).into_iter().filter(|n: &&Arc<Node>| n.has_room()).collect();
            let up: Vec<_> = with_room(open.iter().copied().filter(|n| n.is_up(wish.port)).collect());
            // One that the DNS tells of no more takes nothing, whether it is up or not.
            let all_down = || {
                let mut told = nodes.iter().filter(|n| !n.is_gone()).peekable();
                told.peek().is_some() && told.all(|n| !n.is_up(wish.port))
            };
            let now = Instant::now();
            let (node, how) = match self.choose(wish.port, &key, &up, now) {
                Some(node) => {
                    self.note_all_down(wish.port, false);
                    (node, if tried.is_empty() { PickHow::Balance } else { PickHow::Failover })
                }
                None if self.when_all_down == WhenAllDown::TryAll && all_down() => {
                    self.note_all_down(wish.port, true);
                    let all: Vec<_> = with_room(open);
                    (self.choose(wish.port, &key, &all, now).ok_or(NoNode)?, PickHow::TryAll)
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
            AffinityKey::Client => Some(client_key(wish.client)),
            AffinityKey::User => wish.user.map(|user| user.as_bytes().to_vec()),
        }
    }

    /// The node that the key's hash names among those that are up: for requests of sessions that
    /// this gateway does not know. Takes no lease on its own account.
    pub fn by_hash(&self, key: &[u8]) -> Result<Lease, NoNode> {
        let nodes = self.nodes.now();
        let up = nodes.iter().filter(|n| n.is_up(n.fallback_port()) && !n.is_gone()).collect();
        let node = highest(key, &first(up)).ok_or(NoNode)?;
        self.count(PickHow::Hash);
        Ok(node.lease())
    }

    /// The same for a start, as others find its node again that know nothing but its id: no pin and no balance decide, but
    /// the limits hold. `tried` are left out.
    pub fn pick_by_hash(&self, wish: Wish<'_>, tried: &[Arc<Node>]) -> Result<Lease, NoNode> {
        let is_free =
            |n: &&Arc<Node>| n.is_up(wish.port) && !n.is_gone() && !tried.iter().any(|t| t.name() == n.name());
        let nodes = self.nodes.now();
        let up = first(nodes.iter().filter(is_free).collect());
        let lease = highest(&wish.session.ok_or(NoNode)?, &up).and_then(|node| node.try_lease()).ok_or(NoNode)?;
        self.count(PickHow::Hash);
        Ok(lease)
    }

    fn choose<'a>(&self, port: NodePort, key: &[u8], nodes: &[&'a Arc<Node>], now: Instant) -> Option<&'a Arc<Node>> {
        let candidate = |n: &&'a Arc<Node>| Candidate {
            name: n.name(),
            sessions: n.sessions(),
            weight: n.weight(),
            part: n.part(port, now),
        };
        let all: Vec<_> = nodes.iter().map(candidate).collect();
        let chosen = balance::choose(self.balance, key, &all, || self.turn.fetch_add(1, Ordering::Relaxed))?;
        nodes.get(chosen).copied()
    }

    /// Says that all nodes are down and tried all the same, or that this is over; once each time.
    fn note_all_down(&self, port: NodePort, down: bool) {
        let [fallback, control] = &*self.all_down;
        let is_control = matches!(port, NodePort::Tcp | NodePort::Udp);
        let noted = if is_control { control } else { fallback };
        if noted.load(Ordering::Relaxed) == down || noted.swap(down, Ordering::Relaxed) == down {
            return;
        }
        let (upstream, port) = (self.name(), port.as_str());
        if down {
            tracing::warn!(upstream, port, "All nodes are down; they are tried all the same.");
        } else {
            tracing::info!(upstream, port, "Not all nodes are down any more.");
        }
    }

    fn count(&self, how: PickHow) {
        self.metrics.picked(how);
    }
}

fn pins(max: u32, before: Option<&Upstream>) -> Arc<Pins> {
    before.map_or_else(|| Arc::new(Pins::new(max)), |before| before.pins.clone())
}

fn clients(max: u32, before: Option<&Upstream>) -> Arc<Clients> {
    before.map_or_else(|| Arc::new(Clients::new(max)), |before| before.clients.clone())
}

fn client_key(client: IpAddr) -> Vec<u8> {
    client.to_canonical().to_string().into_bytes()
}

fn resume_key(wish: Wish<'_>) -> (Vec<u8>, &[u8]) {
    (client_key(wish.client), wish.user.unwrap_or_default().as_bytes())
}

/// Those of the least priority among these.
fn first(nodes: Vec<&Arc<Node>>) -> Vec<&Arc<Node>> {
    let least = nodes.iter().map(|node| node.priority()).min();
    nodes.into_iter().filter(|node| Some(node.priority()) == least).collect()
}

fn highest<'a>(key: &[u8], nodes: &[&'a Arc<Node>]) -> Option<&'a Arc<Node>> {
    nodes
        .iter()
        .copied()
        .max_by(|a, b| hash::score(key, a.name(), a.weight()).total_cmp(&hash::score(key, b.name(), b.weight())))
}

#[cfg(test)]
mod tests;
