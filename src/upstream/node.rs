//! One transfer node: where it is, whether it is up, and what it holds.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::{NodeConfig, Scheme},
    telemetry::Metrics,
};

/// What of a node outlives a reload: its health and the sessions on it.
#[derive(Debug)]
pub(super) struct NodeState {
    pub(super) health: Mutex<Health>,
    pub(super) sessions: AtomicUsize,
    addresses: Mutex<Vec<SocketAddr>>,
    turn: AtomicU32,
}

/// Up or down, with the run of like results that may turn it over.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) up: bool,
    /// Checks in a row that say the opposite of `up`.
    pub(super) against: u32,
    /// Real connects that failed in a row. A connect that succeeds ends this run alone: a node may
    /// take connections and fail its checks.
    pub(super) missed: u32,
    /// Whether any check has ended yet.
    pub(super) known: bool,
}

/// A transfer node as the running config has it.
#[derive(Debug)]
pub struct Node {
    upstream: String,
    scheme: Scheme,
    config: NodeConfig,
    pub(super) state: Arc<NodeState>,
    pending: Option<Arc<Semaphore>>,
    metrics: Arc<Metrics>,
}

impl Node {
    pub(super) fn new(
        upstream: &str,
        scheme: Scheme,
        config: &NodeConfig,
        before: Option<&Node>,
        metrics: Arc<Metrics>,
    ) -> Node {
        let state = before.map_or_else(
            || {
                Arc::new(NodeState {
                    health: Mutex::new(Health { up: true, against: 0, missed: 0, known: false }),
                    sessions: AtomicUsize::new(0),
                    addresses: Mutex::default(),
                    turn: AtomicU32::new(0),
                })
            },
            |node| node.state.clone(),
        );
        let node = Node {
            upstream: upstream.to_owned(),
            scheme,
            pending: config.max_pending.map(|n| Arc::new(Semaphore::new(n as usize))),
            config: config.clone(),
            state,
            metrics,
        };
        node.show();
        node
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its address or DNS name, as configured.
    pub fn host(&self) -> &str {
        &self.config.host
    }

    /// Host and port as a `Host` field has them.
    pub(super) fn authority(&self) -> std::io::Result<String> {
        let (host, port) = (self.host(), self.port()?);
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

    /// Sessions that hold a lease now.
    pub fn sessions(&self) -> usize {
        self.state.sessions.load(Ordering::Relaxed)
    }

    /// Whether it passes its checks (a node not checked yet counts as up).
    pub fn is_up(&self) -> bool {
        self.lock().up
    }

    /// Whether its first check has ended.
    pub fn is_known(&self) -> bool {
        self.lock().known
    }

    /// Whether `max_sessions` leaves room for one more, at this moment.
    pub(super) fn has_room(&self) -> bool {
        self.config.max_sessions.is_none_or(|max| self.sessions() < max as usize)
    }

    /// Whether this is the same node as in another config: same scheme, host and port.
    pub(super) fn is_at(&self, scheme: Scheme, config: &NodeConfig) -> bool {
        self.scheme == scheme && self.config.host == config.host && self.config.ports == config.ports
    }

    /// The port that the fallback uses, as it is called in the config and in metrics.
    pub(super) fn port_name(&self) -> &'static str {
        match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port of the scheme; the config's own rules keep it from being absent.
    fn port(&self) -> std::io::Result<u16> {
        self.config.port(self.scheme).ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
    }

    /// An address to connect to; a name's addresses take turns. Fails when the name has none.
    pub async fn address(&self) -> std::io::Result<SocketAddr> {
        if let Ok(ip) = self.config.host.parse() {
            return Ok(SocketAddr::new(ip, self.port()?));
        }
        if let Some(known) = self.known_address() {
            return Ok(known);
        }
        self.resolve().await?;
        self.known_address().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
    }

    /// Looks the name up anew; the addresses known before stay when that fails.
    pub(super) async fn resolve(&self) -> std::io::Result<()> {
        if self.config.host.parse::<std::net::IpAddr>().is_ok() {
            return Ok(());
        }
        let found: Vec<_> = tokio::net::lookup_host((self.config.host.as_str(), self.port()?)).await?.collect();
        if !found.is_empty() {
            *self.state.addresses.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
        Ok(())
    }

    fn known_address(&self) -> Option<SocketAddr> {
        let addresses = self.state.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.state.turn.fetch_add(1, Ordering::Relaxed) as usize;
        addresses.get(turn.checked_rem(addresses.len())?).copied()
    }

    /// Waits for one of the `max_pending` places for a connect in the making: the node's accept
    /// queue is short (20 by default), and a connect that overflows it waits a second or more.
    pub async fn pending(self: &Arc<Self>) -> Pending {
        let permit = match &self.pending {
            Some(places) => places.clone().acquire_owned().await.ok(),
            None => None,
        };
        Pending { node: self.clone(), since: Instant::now(), _permit: permit }
    }

    /// A lease for one more session, if `max_sessions` leaves room for it.
    pub(super) fn try_lease(self: &Arc<Self>) -> Option<Lease> {
        let max = self.config.max_sessions.map_or(usize::MAX, |max| max as usize);
        let count = &self.state.sessions;
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).ok()?;
        self.show();
        Some(Lease(self.clone()))
    }

    /// A lease that `max_sessions` has no say in: for a session that is on the node already.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        self.state.sessions.fetch_add(1, Ordering::Relaxed);
        self.show();
        Lease(self.clone())
    }

    /// Takes the result of a real connect into account. It can only mark a node down.
    fn connect_ended(&self, good: bool) {
        let mut health = self.lock();
        health.missed = if good { 0 } else { health.missed + 1 };
        let down = health.up && health.missed >= PASSIVE_THRESHOLD;
        drop(health);
        if down {
            self.judge(false, 1);
        }
    }

    /// Takes the result of a check into account.
    pub(super) fn judge(&self, good: bool, threshold: u32) {
        let mut health = self.lock();
        health.known = true;
        if health.up == good {
            health.against = 0;
            return;
        }
        health.against += 1;
        if health.against < threshold {
            return;
        }
        health.up = good;
        health.against = 0;
        health.missed = 0;
        drop(health);
        self.show();
        if good {
            tracing::info!(upstream = self.upstream, node = self.name(), "Node is up.");
        } else {
            tracing::warn!(upstream = self.upstream, node = self.name(), "Node is down.");
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Health> {
        self.state.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self) {
        let labels = [self.upstream.as_str(), self.name()];
        self.metrics.node_sessions.with_label_values(&labels).set(self.sessions() as i64);
        self.metrics.node_up.with_label_values(&[labels[0], labels[1], self.port_name()]).set(i64::from(self.is_up()));
    }
}

/// One session on a node, until it drops.
#[derive(Debug)]
pub struct Lease(Arc<Node>);

impl Lease {
    /// The node held.
    pub fn node(&self) -> &Arc<Node> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.state.sessions.fetch_sub(1, Ordering::Relaxed);
        self.0.show();
    }
}

/// A connect in the making.
#[derive(Debug)]
pub struct Pending {
    node: Arc<Node>,
    since: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Real connects that must fail in a row until a node counts as down without a check saying so.
const PASSIVE_THRESHOLD: u32 = 2;

impl Pending {
    /// The connect succeeded.
    pub fn connected(self) {
        let taken: Duration = self.since.elapsed();
        self.node
            .metrics
            .node_connect
            .with_label_values(&[self.node.upstream.as_str(), self.node.name()])
            .observe(taken.as_secs_f64());
        self.node.connect_ended(true);
    }

    /// The connect failed: a passive mark, which an active check takes back.
    pub fn failed(self) {
        self.node.connect_ended(false);
    }
}
