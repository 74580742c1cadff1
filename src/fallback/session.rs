//! One fallback session, from session_start to its end, over any number of connections.

mod absence;
mod busy;
mod elsewhere;
mod record;
mod replicas;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::absence::Absence;
use self::replicas::Shares;
pub(super) use self::{busy::InFlight, replicas::Teller};
use super::{body::End, grammar::SessionId, node_conn::NodeConn};
use crate::{
    limit::SessionPermit,
    telemetry::{About, ActiveGuard, Direction, Finding, Kind, ListenerMetrics, Live, Posted, Stage},
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
    pub metrics: Arc<ListenerMetrics>,
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
    /// What is shown of it while it lives; it counts bytes and files.
    transfer: Posted,
    /// An operator ends it.
    cancel: CancellationToken,
    permit: Mutex<Option<SessionPermit>>,
    lease: Mutex<Option<Lease>>,
    /// Stays known when the lease is given back.
    node: Mutex<Option<Arc<Node>>>,
    /// The node's connection between two requests, where the node keeps one.
    node_conn: Mutex<Option<NodeConn>>,
    /// Of its node.
    pub(super) absence: Absence,
    was_open: AtomicBool,
    active: Mutex<Option<ActiveGuard>>,
    requests: AtomicU64,
    end: Mutex<Option<End>>,
    /// The size that the node announced for the file that the client asks for next.
    announced: Mutex<Option<u64>>,
    lengths_differ: AtomicU64,
    /// Milliseconds after its start at which something last moved.
    last: AtomicU64,
    in_flight: AtomicUsize,
    /// Milliseconds that its start waited for room.
    waited: AtomicU64,
    request_over: Notify,
    node_keeps: AtomicBool,
    client_keeps: AtomicBool,
    elsewhere: AtomicBool,
    shares: Shares,
    teller: Teller,
}

impl Session {
    /// `label` is what is shown of its id.
    pub(super) fn new(opening: Opening, label: String, live: &Live, teller: &Teller) -> Session {
        Session::begun(opening, label, live, None, teller)
    }

    fn begun(opening: Opening, label: String, live: &Live, began: Option<SystemTime>, teller: &Teller) -> Session {
        let transfer = live.post(About {
            id: Some(label),
            listener: opening.listener.as_str().into(),
            user: opening.user.clone(),
            direction: opening.direction,
            upstream: Some(opening.upstream.name().into()),
            sources: opening.sources,
            began,
            ..About::new(Kind::Session, opening.client)
        });
        transfer.set_stage(Stage::Starting);
        Session {
            opening,
            transfer,
            cancel: CancellationToken::new(),
            permit: Mutex::default(),
            lease: Mutex::default(),
            node: Mutex::default(),
            node_conn: Mutex::default(),
            absence: Absence::default(),
            was_open: AtomicBool::new(false),
            active: Mutex::default(),
            requests: AtomicU64::new(0),
            end: Mutex::default(),
            announced: Mutex::default(),
            lengths_differ: AtomicU64::new(0),
            last: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
            request_over: Notify::new(),
            node_keeps: AtomicBool::new(false),
            client_keeps: AtomicBool::new(false),
            elsewhere: AtomicBool::new(false),
            shares: Shares::default(),
            teller: teller.clone(),
        }
    }

    /// The id, to find and to hash the session with.
    pub fn id(&self) -> SessionId {
        self.opening.id
    }

    /// What logs and pages show of the id: a short keyed hash.
    pub fn label(&self) -> &str {
        self.transfer.id()
    }

    /// The listener it came in by.
    pub fn listener(&self) -> &str {
        &self.opening.listener
    }

    /// When its start was admitted.
    pub fn started(&self) -> Instant {
        self.transfer.begin()
    }

    /// Breaks off what it is doing.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until an operator ends it.
    pub(super) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether an operator has ended it.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Notes whether its start waits for room.
    pub(super) fn set_waiting(&self, waits: bool) {
        self.transfer.set_stage(if waits { Stage::Waiting } else { Stage::Starting });
    }

    /// Notes whether a request of it waits for its node.
    pub(super) fn set_held(&self, is_held: bool) {
        let goes_on = if self.is_open() { Stage::Open } else { Stage::Starting };
        self.transfer.set_stage(if is_held { Stage::Held } else { goes_on });
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
        self.transfer.set_node(lease.node().name().into());
        *lock(&self.node) = Some(lease.node().clone());
        *lock(&self.lease) = Some(lease);
    }

    /// It is over: gives its places back, and is not shown any more.
    pub(super) fn close(&self) {
        self.leave();
        self.transfer.end();
    }

    /// Gives its places back, on the node and among the sessions.
    pub(super) fn leave(&self) {
        // Or more would seem active than there is room for.
        let active = lock(&self.active).take();
        drop(active);
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
            self.was_open.store(true, Relaxed);
            lock(&self.active).get_or_insert_with(|| self.opening.metrics.session_started(direction, &node));
        }
        self.transfer.set_stage(Stage::Open);
    }

    /// Whether a node accepted the start.
    pub fn is_open(&self) -> bool {
        self.was_open.load(Relaxed)
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
        self.transfer.counts().add(direction, n);
        self.opening.metrics.bytes(direction, n);
        self.touch();
    }

    /// Counts the end of a file request.
    pub fn file_ended(&self, ok: bool) {
        self.transfer.file_ended(ok);
        self.opening.metrics.file(ok);
    }

    /// Notes the file that is being moved, and how much of it where that is known already.
    pub fn set_current_file(&self, name: &str, size: Option<u64>) {
        self.transfer.set_file(name, size);
    }

    /// Notes how much of the current file comes.
    pub fn set_current_size(&self, size: u64) {
        self.transfer.set_file_size(size);
    }

    /// Notes the size of the download after this one, of which this is the index (none for a start), and gives the size that
    /// was announced for this one. None also where what was announced last was for another file, as where another replica has
    /// answered the request before this one and has not been heard of yet.
    pub fn announce(&self, index: Option<u64>, next: Option<u64>) -> Option<u64> {
        let this = index.map_or(0, |index| index.saturating_add(1));
        let last = self.shares.turn(this.saturating_add(1));
        std::mem::replace(&mut *lock(&self.announced), next).filter(|_| last == this)
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

    /// Counts a request of it.
    pub fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
