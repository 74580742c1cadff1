//! One transfer node: where it is, whether it is up, and what it holds.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    balance,
    lease::{Lease, Pending},
    made::{Found, Origin, can_be},
    verdict::Verdict,
};
use crate::{
    config::{NodeConfig, NodePort, Scheme, UpstreamConfig},
    telemetry::{Metrics, NodeMetrics},
};

/// What of a node outlives a reload: its health and the sessions on it.
#[derive(Debug, Default)]
pub(super) struct NodeState {
    /// Of the fallback's port and of the control port.
    verdicts: [Mutex<Verdict>; 2],
    pub(super) sessions: AtomicUsize,
    addresses: Mutex<Vec<IpAddr>>,
    turn: AtomicU32,
    /// An operator lets nothing new go there.
    drained: AtomicBool,
    /// The DNS tells of it no more: nothing new goes there.
    gone: AtomicBool,
}

/// Told that a node may have room again.
#[derive(Clone)]
pub(super) struct HasRoom(pub(super) Arc<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for HasRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HasRoom")
    }
}

/// A transfer node as the running config has it.
#[derive(Debug)]
pub struct Node {
    upstream: String,
    full_name: Arc<str>,
    scheme: Scheme,
    /// The ports whose health matters; others count as up.
    checked: Vec<NodePort>,
    config: NodeConfig,
    slow_start: Option<Duration>,
    pub(super) state: Arc<NodeState>,
    pending: Option<Arc<Semaphore>>,
    metrics: NodeMetrics,
    has_room: OnceLock<HasRoom>,
    origin: Option<Origin>,
}

impl Node {
    pub(super) fn new(
        upstream: &UpstreamConfig,
        checked: &[NodePort],
        config: &NodeConfig,
        before: Option<&Node>,
        metrics: &Metrics,
    ) -> Node {
        let node = Node::at((upstream, checked), config, None, before, metrics);
        node.show();
        node
    }

    /// One that may come from the DNS; nothing is shown of it yet.
    pub(super) fn at(
        (upstream, checked): (&UpstreamConfig, &[NodePort]),
        config: &NodeConfig,
        origin: Option<Origin>,
        before: Option<&Node>,
        metrics: &Metrics,
    ) -> Node {
        Node {
            upstream: upstream.name.clone(),
            full_name: format!("{}/{}", upstream.name, config.name).into(),
            scheme: upstream.scheme,
            checked: checked.to_vec(),
            pending: config.max_pending.map(|n| Arc::new(Semaphore::new(n as usize))),
            config: config.clone(),
            slow_start: upstream.slow_start,
            state: before.map_or_else(Arc::default, |node| node.state.clone()),
            metrics: metrics.node(&upstream.name, &config.name, checked),
            has_room: OnceLock::new(),
            origin,
        }
    }

    /// Whom to tell from now on that there is room: a session has left, or the node is up again.
    pub(super) fn tell_room(&self, hook: HasRoom) {
        let _ = self.has_room.set(hook);
    }

    pub(super) fn has_room_again(&self) {
        if let Some(HasRoom(tell)) = self.has_room.get() {
            tell(&self.upstream);
        }
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The configured name behind that of its upstream, which no other node has.
    pub fn full_name(&self) -> Arc<str> {
        self.full_name.clone()
    }

    /// Its address or DNS name, as configured.
    pub fn host(&self) -> &str {
        &self.config.host
    }

    /// Host and port as a `Host` field has them.
    pub(super) fn authority(&self, port: NodePort) -> io::Result<String> {
        let (host, port) = (self.host(), self.port(port)?);
        Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    /// The name of the upstream it belongs to.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Its share under every balance; 1 is usual.
    pub fn weight(&self) -> u32 {
        self.config.weight
    }

    /// With how much of its weight it counts for this port, from a tenth to 1: a node that is up again comes slowly.
    pub(super) fn part(&self, port: NodePort, now: Instant) -> f64 {
        let risen = self.verdict(port).risen.filter(|_| self.checked.contains(&judge(port)));
        balance::part(risen, self.slow_start, now)
    }

    /// As many sessions as it may have; none for any number.
    pub fn max_sessions(&self) -> Option<u32> {
        self.config.max_sessions
    }

    /// Sessions that hold a lease now.
    pub fn sessions(&self) -> usize {
        self.state.sessions.load(Ordering::Relaxed)
    }

    /// Whether the port passes its checks (one not checked, or not yet, counts as up). Data has no
    /// check of its own: it goes by the control port.
    pub fn is_up(&self, port: NodePort) -> bool {
        !self.checked.contains(&judge(port)) || self.verdict(port).up
    }

    /// Whether the first check of every port has ended.
    pub fn is_known(&self) -> bool {
        self.checked.iter().all(|port| self.is_port_known(*port))
    }

    /// Whether the first check of this port has ended.
    pub fn is_port_known(&self, port: NodePort) -> bool {
        self.verdict(port).known
    }

    /// The ports that are checked.
    pub fn checked(&self) -> &[NodePort] {
        &self.checked
    }

    /// Whether nothing new goes there, by the config or by an operator. What is there goes on.
    pub fn drains(&self) -> bool {
        self.config.drain || self.is_gone() || self.state.drained.load(Ordering::Relaxed)
    }

    /// Whether the DNS tells of it no more.
    pub(super) fn is_gone(&self) -> bool {
        self.state.gone.load(Ordering::Relaxed)
    }

    /// Says whether the DNS tells of it no more. True where that is news.
    pub(super) fn set_gone(&self, gone: bool) -> bool {
        let was = self.state.gone.swap(gone, Ordering::Relaxed);
        self.show_drain();
        was != gone
    }

    /// What the DNS says of it, where it comes from there.
    pub(super) fn found(&self) -> Option<&Found> {
        self.origin.as_ref().map(|origin| &origin.found)
    }

    /// New sessions go to nodes of the least that are up; 0 where nothing says otherwise.
    pub(super) fn priority(&self) -> u16 {
        self.found().map_or(0, |found| found.priority)
    }

    /// Whether an operator lets nothing new go there.
    pub(super) fn is_drained(&self) -> bool {
        self.state.drained.load(Ordering::Relaxed)
    }

    /// Lets nothing new go there from now on, or again. It outlives a reload. False where the config drains it, or
    /// the DNS tells of it no more; these alone can end that.
    pub fn set_drain(&self, drain: bool) -> bool {
        let before = self.drains();
        self.state.drained.store(drain, Ordering::Relaxed);
        self.show_drain();
        if before != self.drains() {
            let (upstream, node, sessions) = (self.upstream(), self.name(), self.sessions());
            tracing::info!(upstream, node, sessions, drains = self.drains(), "Whether a node drains has changed.");
        }
        if !self.drains() {
            self.has_room_again();
        }
        drain || !(self.config.drain || self.is_gone())
    }

    fn show_drain(&self) {
        self.metrics.show_drain(self.drains());
    }

    /// Whether `max_sessions` leaves room for one more, at this moment.
    pub(super) fn has_room(&self) -> bool {
        !self.drains() && self.config.max_sessions.is_none_or(|max| self.sessions() < max as usize)
    }

    /// Whether this is the same node as in another config: same scheme, host and port.
    pub(super) fn is_at(&self, scheme: Scheme, config: &NodeConfig) -> bool {
        self.scheme == scheme && self.config.host == config.host && self.config.ports == config.ports
    }

    /// Whether another config's node is this one.
    pub(super) fn is_same(&self, other: &Node) -> bool {
        self.is_at(other.scheme, &other.config)
    }

    /// Whether this is its address, or one of those that its name had when it was looked up last.
    pub(super) fn is_known_at(&self, ip: IpAddr) -> bool {
        match self.config.host.parse::<IpAddr>() {
            Ok(own) => own == ip,
            Err(_) => self.state.addresses.lock().unwrap_or_else(PoisonError::into_inner).contains(&ip),
        }
    }

    /// A port's number; the config's own rules keep it from being absent.
    fn port(&self, port: NodePort) -> io::Result<u16> {
        self.config.port(port).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// The port of the fallback.
    pub fn fallback_port(&self) -> NodePort {
        self.scheme.port()
    }

    /// Where to connect to; a name's addresses take turns. Fails when the name has none.
    pub async fn address(&self, port: NodePort) -> io::Result<SocketAddr> {
        if let Some(known) = self.known_ip() {
            return Ok(SocketAddr::new(known, self.port(port)?));
        }
        self.resolve().await?;
        let ip = self.known_ip().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(SocketAddr::new(ip, self.port(port)?))
    }

    /// Looks the name up anew; the addresses known before stay when that fails.
    pub(super) async fn resolve(&self) -> io::Result<()> {
        if self.config.host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        let host = self.config.host.as_str();
        let found: Vec<_> = match &self.origin {
            Some(origin) => {
                let found = origin.resolver.addresses(host).await.map_err(io::Error::other)?;
                found.into_iter().filter(can_be).collect()
            }
            // The port plays no part in looking up a name.
            None => tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect(),
        };
        if !found.is_empty() {
            *self.state.addresses.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
        Ok(())
    }

    /// Its address, or that of its name whose turn it is, once the name was looked up.
    pub fn known_ip(&self) -> Option<IpAddr> {
        if let Ok(ip) = self.config.host.parse() {
            return Some(ip);
        }
        let addresses = self.state.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.state.turn.fetch_add(1, Ordering::Relaxed) as usize;
        addresses.get(turn.checked_rem(addresses.len())?).copied()
    }

    /// Where its control connections go, at this IP address of its.
    pub(super) fn control_address(&self, ip: IpAddr) -> Option<SocketAddr> {
        Some(SocketAddr::new(ip, self.config.port(NodePort::Tcp)?))
    }

    /// Where its data goes, at this IP address of its: the port that stands as far from the first one of its range
    /// as `nth` says.
    pub fn data_address(&self, ip: IpAddr, nth: u16) -> Option<SocketAddr> {
        Some(SocketAddr::new(ip, self.config.port(NodePort::Udp)?.checked_add(nth)?))
    }

    /// Waits for one of the `max_pending` places for a connect in the making: the node's accept
    /// queue is short (20 by default), and a connect that overflows it waits a second or more.
    pub async fn pending(self: &Arc<Self>, port: NodePort) -> Pending {
        let permit = match &self.pending {
            Some(places) => places.clone().acquire_owned().await.ok(),
            None => None,
        };
        Pending::new(self.clone(), port, permit)
    }

    /// A lease for one more session, if `max_sessions` leaves room for it.
    pub(super) fn try_lease(self: &Arc<Self>) -> Option<Lease> {
        if self.drains() {
            return None;
        }
        let max = self.config.max_sessions.map_or(usize::MAX, |max| max as usize);
        let count = &self.state.sessions;
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).ok()?;
        Some(Lease::new(self.clone()))
    }

    /// A lease that `max_sessions` has no say in: for a session that is on the node already.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        self.state.sessions.fetch_add(1, Ordering::Relaxed);
        Lease::new(self.clone())
    }

    /// Takes the result of a real connect into account. It can only mark a port down.
    pub(super) fn connect_ended(&self, port: NodePort, good: bool) {
        let turned = self.verdict(port).connected(good, Instant::now());
        self.tell(port, turned);
    }

    /// Takes the result of a check into account.
    pub(super) fn judge(&self, port: NodePort, good: bool, threshold: u32, now: Instant) {
        let turned = self.verdict(port).checked(good, threshold, now);
        self.tell(port, turned);
    }

    fn tell(&self, port: NodePort, turned: bool) {
        if !turned {
            return;
        }
        self.show();
        if self.is_up(port) {
            tracing::info!(upstream = self.upstream, node = self.name(), port = port.as_str(), "Node is up.");
            self.has_room_again();
        } else {
            tracing::warn!(upstream = self.upstream, node = self.name(), port = port.as_str(), "Node is down.");
        }
    }

    pub(super) fn metrics(&self) -> &NodeMetrics {
        &self.metrics
    }

    fn verdict(&self, port: NodePort) -> MutexGuard<'_, Verdict> {
        let [fallback, control] = &self.state.verdicts;
        let verdict = match port {
            NodePort::Http | NodePort::Https => fallback,
            NodePort::Tcp | NodePort::Udp => control,
        };
        verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn show(&self) {
        for port in &self.checked {
            self.metrics.show(*port, self.is_up(*port));
        }
        self.show_drain();
    }
}

/// The port whose checks say of this one whether it is up.
fn judge(port: NodePort) -> NodePort {
    if port == NodePort::Udp { NodePort::Tcp } else { port }
}
