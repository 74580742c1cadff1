//! One fallback session, from session_start to its end, over any number of connections.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{sync::Notify, time::timeout};

use super::{body::End, grammar::SessionId, node_conn::NodeConn};
use crate::{
    limit::SessionPermit,
    telemetry::{ActiveGuard, Direction, Finding, ListenerMetrics, Outcome, Reason, Record},
    upstream::{Lease, Node, Upstream, Wish},
};

/// What is known of a session when it starts.
#[derive(Debug)]
pub struct Opening {
    /// The id in the path.
    pub id: SessionId,
    /// The listener it came in by.
    pub listener: String,
    /// That listener's series.
    pub metrics: ListenerMetrics,
    /// The upstream of the listener.
    pub upstream: Arc<Upstream>,
    /// The client's address.
    pub client: IpAddr,
    /// Put or get, once the start body said so.
    pub direction: Option<Direction>,
    /// The transfer user, where the start body was small enough to be read whole.
    pub user: Option<String>,
    /// How many sources the start names, likewise.
    pub sources: Option<u64>,
}

/// A session in the table.
#[derive(Debug)]
pub struct Session {
    opening: Opening,
    label: String,
    started: Instant,
    permit: Mutex<Option<SessionPermit>>,
    lease: Mutex<Option<Lease>>,
    /// Stays known when the lease is given back.
    node: Mutex<Option<Arc<Node>>>,
    /// The node's connection between two requests, where the node keeps one.
    node_conn: Mutex<Option<NodeConn>>,
    active: OnceLock<ActiveGuard>,
    uploaded: AtomicU64,
    downloaded: AtomicU64,
    requests: AtomicU64,
    files_ok: AtomicU64,
    files_failed: AtomicU64,
    current_file: Mutex<Option<String>>,
    end: Mutex<Option<End>>,
    /// The size that the node announced for the file that the client asks for next.
    announced: Mutex<Option<u64>>,
    lengths_differ: AtomicU64,
    /// Milliseconds after `started` at which something last moved.
    last: AtomicU64,
    in_flight: AtomicUsize,
    /// Milliseconds that its start waited for room.
    waited: AtomicU64,
    request_over: Notify,
    node_keeps: AtomicBool,
    client_keeps: AtomicBool,
}

impl Session {
    pub(super) fn new(opening: Opening, label: String) -> Session {
        Session {
            opening,
            label,
            started: Instant::now(),
            permit: Mutex::default(),
            lease: Mutex::default(),
            node: Mutex::default(),
            node_conn: Mutex::default(),
            active: OnceLock::new(),
            uploaded: AtomicU64::new(0),
            downloaded: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            files_ok: AtomicU64::new(0),
            files_failed: AtomicU64::new(0),
            current_file: Mutex::default(),
            end: Mutex::default(),
            announced: Mutex::default(),
            lengths_differ: AtomicU64::new(0),
            last: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
            request_over: Notify::new(),
            node_keeps: AtomicBool::new(false),
            client_keeps: AtomicBool::new(false),
        }
    }

    /// The id, to find and to hash the session with.
    pub fn id(&self) -> SessionId {
        self.opening.id
    }

    /// What logs and pages show of the id: a short keyed hash.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The listener it came in by.
    pub fn listener(&self) -> &str {
        &self.opening.listener
    }

    /// When its start was admitted.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Put or get, once the start body said so.
    pub fn direction(&self) -> Option<Direction> {
        self.opening.direction
    }

    /// The address that opened it.
    pub fn client(&self) -> IpAddr {
        self.opening.client
    }

    /// The transfer user, where the start body was small enough to be read whole.
    pub fn user(&self) -> Option<&str> {
        self.opening.user.as_deref()
    }

    /// The node it is on.
    pub fn node(&self) -> Option<Arc<Node>> {
        lock(&self.node).clone()
    }

    /// Lets it in, and puts it on a node.
    pub fn let_in(&self, permit: SessionPermit, lease: Lease) {
        *lock(&self.permit) = Some(permit);
        self.assign(lease);
    }

    /// Notes how long its start waited for room.
    pub fn has_waited(&self, time: Duration) {
        self.waited.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Puts it on a node, or on another one while its start has reached none.
    pub fn assign(&self, lease: Lease) {
        *lock(&self.node) = Some(lease.node().clone());
        *lock(&self.lease) = Some(lease);
    }

    /// Gives its places back, on the node and among the sessions.
    pub(super) fn leave(&self) {
        // The node's first: who has waited for the other one needs both.
        let lease = lock(&self.lease).take();
        drop(lease);
        let permit = lock(&self.permit).take();
        drop(permit);
    }

    /// Gives its places back, and has the upstream remember how it ended: the node has answered its end, and
    /// whoever hears of that may start the next session.
    pub fn release(&self) {
        if let Some(done) = self.end().map(|end| end.done) {
            self.remember(done);
        }
        self.leave();
    }

    /// Has the upstream remember where its partial files are, or forget it. Twice does no harm.
    pub(super) fn remember(&self, well: bool) {
        if let Some(node) = self.node().filter(|_| self.is_open()) {
            self.upstream().session_ended(self.wish(), &node, well);
        }
    }

    /// Keeps the node's connection for the next request.
    pub(super) fn keep_node_conn(&self, conn: NodeConn) {
        *lock(&self.node_conn) = Some(conn);
    }

    /// The kept connection, if the node has not closed it meanwhile.
    pub(super) fn take_node_conn(&self) -> Option<NodeConn> {
        lock(&self.node_conn).take().and_then(|mut conn| conn.is_quiet().then_some(conn))
    }

    /// A node accepted the start. Whether it, and the client, keep one connection from now on.
    pub fn open(&self, node_keeps: bool, client_keeps: bool) {
        self.node_keeps.store(node_keeps, Relaxed);
        self.client_keeps.store(client_keeps, Relaxed);
        let node = self.node().map_or_else(String::new, |n| n.name().to_owned());
        if let Some(direction) = self.opening.direction {
            self.active.get_or_init(|| self.opening.metrics.session_started(direction, &node));
        }
    }

    /// Whether a node accepted the start.
    pub fn is_open(&self) -> bool {
        self.active.get().is_some()
    }

    /// Whether the node keeps one connection for the whole session.
    pub fn node_keeps(&self) -> bool {
        self.node_keeps.load(Relaxed)
    }

    /// Whether the client keeps one connection for the whole session; losing it ends the session.
    pub fn client_keeps(&self) -> bool {
        self.client_keeps.load(Relaxed)
    }

    /// Counts body bytes in their direction, and as a sign of life.
    pub fn moved(&self, direction: Direction, n: u64) {
        let counter = match direction {
            Direction::Upload => &self.uploaded,
            Direction::Download => &self.downloaded,
        };
        counter.fetch_add(n, Relaxed);
        self.opening.metrics.bytes(direction, n);
        self.touch();
    }

    /// Counts the end of a file request.
    pub fn file_ended(&self, ok: bool) {
        let counter = if ok { &self.files_ok } else { &self.files_failed };
        counter.fetch_add(1, Relaxed);
        self.opening.metrics.file(ok);
    }

    /// Notes the file that is being moved.
    pub fn set_current_file(&self, name: String) {
        *lock(&self.current_file) = Some(name);
    }

    /// Notes the size of the download after this one, and returns that of this one.
    pub fn announce(&self, next: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut *lock(&self.announced), next)
    }

    /// Notes a download that is not as long as it was announced.
    pub fn length_differs(&self) {
        self.lengths_differ.fetch_add(1, Relaxed);
        self.opening.metrics.finding(Finding::LengthDiffers);
    }

    /// Who wants a node.
    pub fn wish(&self) -> Wish<'_> {
        Wish {
            port: self.upstream().fallback_port(),
            session: Some(self.id().to_bytes()),
            client: self.opening.client,
            user: self.opening.user.as_deref(),
        }
    }

    /// The upstream that it is carried to.
    pub fn upstream(&self) -> &Upstream {
        &self.opening.upstream
    }

    /// Notes how the client saw the end.
    pub fn set_end(&self, end: End) {
        *lock(&self.end) = Some(end);
    }

    /// How the client saw the end, once it said so.
    pub fn end(&self) -> Option<End> {
        lock(&self.end).clone()
    }

    /// A request of it is under way for as long as the guard lives.
    pub fn request(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Relaxed);
        self.busy()
    }

    /// It is not idle, and later requests wait their turn, for as long as the guard lives.
    pub(super) fn busy(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, SeqCst);
        self.touch();
        InFlight(self.clone())
    }

    /// Waits until no request of it is under way, or for `limit`.
    pub async fn quiet(&self, limit: Duration) {
        let quiet = async {
            loop {
                let mut over = std::pin::pin!(self.request_over.notified());
                over.as_mut().enable();
                if self.in_flight.load(SeqCst) == 0 {
                    return;
                }
                over.await;
            }
        };
        let _ = timeout(limit, quiet).await;
    }

    /// How long nothing has moved and no request was under way.
    pub fn idle_for(&self) -> Duration {
        if self.in_flight.load(Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }

    fn touch(&self) {
        self.last.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Whether a download that the client calls done had fewer files than sources: the client takes a
    /// missing next name for the end of the list. A source that is an empty folder looks the same.
    fn chain_ended_early(&self, end: Option<&End>) -> bool {
        let moved = self.files_ok.load(Relaxed) + self.files_failed.load(Relaxed);
        self.direction() == Some(Direction::Download)
            && end.is_some_and(|e| e.done)
            && self.opening.sources.is_some_and(|sources| moved < sources)
    }

    /// Counts the end and makes the session's one access record.
    pub(super) fn record(&self, outcome: Outcome, reason: Option<Reason>) -> Record {
        let lasted = self.started.elapsed();
        self.opening.metrics.session_finished(outcome, lasted);
        let end = self.end();
        let from_end = |f: fn(&End) -> u64| end.as_ref().map_or(Value::Null, |e| f(e).into());
        let chain_ended_early = self.chain_ended_early(end.as_ref());
        if chain_ended_early {
            self.opening.metrics.finding(Finding::ChainEndedEarly);
        }
        Record::new("session")
            .field("listener", self.opening.listener.as_str())
            .field("session", self.label.as_str())
            .field("client", self.opening.client.to_string())
            .field("user", self.opening.user.clone())
            .field("direction", self.opening.direction.map(Direction::as_str))
            .field("upstream", self.opening.upstream.name())
            .field("node", self.node().map(|n| n.name().to_owned()))
            .field("outcome", outcome.as_str())
            .field("reason", reason.map(Reason::as_str))
            .field("code", from_end(|e| u64::from(e.code)))
            .field("client_files", from_end(|e| e.files))
            .field("client_files_failed", from_end(|e| e.files_failed))
            .field("client_bytes", from_end(|e| e.bytes))
            .field("files", self.files_ok.load(Relaxed))
            .field("files_failed", self.files_failed.load(Relaxed))
            .field("bytes_uploaded", self.uploaded.load(Relaxed))
            .field("bytes_downloaded", self.downloaded.load(Relaxed))
            .field("requests", self.requests.load(Relaxed))
            .field("lengths_differ", self.lengths_differ.load(Relaxed))
            .field("chain_ended_early", chain_ended_early)
            .field("last_file", lock(&self.current_file).clone())
            .field("waited_seconds", self.waited.load(Relaxed) as f64 / 1000.0)
            .field("seconds", (lasted.as_secs_f64() * 1000.0).round() / 1000.0)
    }
}

/// A request under way; the session is not idle while it lives.
#[derive(Debug)]
pub struct InFlight(Arc<Session>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, SeqCst);
        self.0.request_over.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
