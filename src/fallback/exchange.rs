//! One request on its way to a node: what the connection decided before, what the engine meets, and
//! what the connection must know afterwards. Engine-neutral.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    grammar::Call,
    node_conn::{NodeConn, Slot},
    session::Session,
};
use crate::{
    net::{forwarded::Forwarded, http1::Head},
    telemetry::{AddedLatency, Direction, Operation, Outcome, Reason, WorkClock},
    upstream::{Lease, NoNode, Node, Upstream},
};

/// An admitted request with its node.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) call: Call,
    pub(super) head: Head,
    /// None for a request of a session that is routed by hash without being known.
    pub(super) session: Option<Arc<Session>>,
    pub(super) upstream: Arc<Upstream>,
    /// Whether the client is to keep its connection: decided at the start, told in its answer.
    pub(super) offer_persistence: Option<bool>,
    /// Whose request it is, and what its node is told of that.
    pub(super) forwarded: Forwarded,
    /// How a session that is not known here ends with this request, which goes by the hash of its id.
    pub(super) unseen_end: Option<Outcome>,
    /// Whether a start goes by the hash of its id, on to other nodes too.
    pub(super) by_hash: bool,
    /// The start body's part of the memory for all of those, until it has gone on.
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// What goes to the client from now on is the final answer.
    answers: AtomicBool,
    /// What goes to the client from now on is a body, and the head before it.
    answers_with_body: AtomicBool,
    /// Bytes waited for a cap on bandwidth since this was last asked.
    held_up: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    node: Arc<Node>,
    /// Held for a routed request alone; a session holds its own.
    _lease: Option<Lease>,
    tried: Vec<Arc<Node>>,
    fate: Fate,
    node_conn: Slot,
    /// How long the gateway has been at work on it; none before it is carried.
    clock: Option<WorkClock>,
}

/// What became of the exchange.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate {
    /// The final status that went to the client; 0 when there was none.
    pub(super) status: u16,
    /// The answer went out to its last byte.
    pub(super) whole: bool,
    /// The node's own refusal in `x-real-mgmt-error`.
    pub(super) node_refused: bool,
    /// The node offered to keep one connection for the session.
    pub(super) node_keeps: bool,
    /// The client was told to keep its connection.
    pub(super) client_keeps: bool,
    /// What broke, in the word for everybody and in words for the operator.
    pub(super) failure: Option<(Reason, String)>,
}

impl Exchange {
    /// A request of a known session, to that session's node.
    pub(super) fn of_session(
        call: Call,
        head: Head,
        upstream: Arc<Upstream>,
        forwarded: Forwarded,
        session: Arc<Session>,
        node: Arc<Node>,
    ) -> Exchange {
        Exchange::new(call, head, upstream, forwarded, Some(session), node, None)
    }

    /// A request of an unknown session, to the node that holds the lease for it.
    pub(super) fn routed(
        call: Call,
        head: Head,
        upstream: Arc<Upstream>,
        forwarded: Forwarded,
        lease: Lease,
    ) -> Exchange {
        Exchange::new(call, head, upstream, forwarded, None, lease.node().clone(), Some(lease))
    }

    fn new(
        call: Call,
        head: Head,
        upstream: Arc<Upstream>,
        forwarded: Forwarded,
        session: Option<Arc<Session>>,
        node: Arc<Node>,
        lease: Option<Lease>,
    ) -> Exchange {
        let state = State {
            node,
            _lease: lease,
            tried: Vec::new(),
            fate: Fate::default(),
            node_conn: Slot::default(),
            clock: None,
        };
        Exchange {
            call,
            head,
            session,
            upstream,
            offer_persistence: None,
            forwarded,
            unseen_end: None,
            by_hash: false,
            room: None,
            answers: AtomicBool::new(false),
            answers_with_body: AtomicBool::new(false),
            held_up: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(super) fn is_start(&self) -> bool {
        self.call.operation == Operation::Start
    }

    /// Whether the client reads a body after this answer: only that of a file it fetches and wants.
    /// It would take any other for the next answer.
    pub(super) fn has_answer_body(&self, status: u16) -> bool {
        status == 200 && self.call.fetches && self.head.field("x-skip-file").is_none_or(|v| !v.starts_with(b"1"))
    }

    pub(super) fn node(&self) -> Arc<Node> {
        self.lock().node.clone()
    }

    /// Another node instead of the one that could not be reached, which counts as tried. Only a start may move: later
    /// requests need the node that has the session.
    pub(super) fn move_on(&self) -> Result<(), NoNode> {
        let session = self.session.as_ref().filter(|_| self.is_start()).ok_or(NoNode)?;
        self.on_clock(WorkClock::spoil);
        let mut state = self.lock();
        let node = state.node.clone();
        state.tried.push(node);
        let lease = if self.by_hash {
            self.upstream.pick_by_hash(session.wish(), &state.tried)?
        } else {
            self.upstream.pick(session.wish(), &state.tried)?
        };
        state.node = lease.node().clone();
        drop(state);
        session.assign(lease);
        Ok(())
    }

    /// From now on every other node may be tried again.
    pub(super) fn forget_tried(&self) {
        self.lock().tried.clear();
    }

    /// The connection to the node, for the engine to take.
    pub(super) fn set_node_conn(&self, conn: NodeConn) {
        self.lock().node_conn = Slot::new(Mutex::new(Some(conn)));
    }

    /// Where the engine finds the connection to the node.
    pub(super) fn node_slot(&self) -> Slot {
        self.lock().node_conn.clone()
    }

    /// The values of a field of the node's answer, in its own bytes.
    pub(super) fn answered(&self, name: &str) -> Vec<Vec<u8>> {
        let slot = self.node_slot();
        let conn = slot.lock().unwrap_or_else(PoisonError::into_inner);
        conn.as_ref().map(|c| c.answer.values(name).into_iter().map(<[u8]>::to_vec).collect()).unwrap_or_default()
    }

    /// Whether the head of the node's answer is larger than is looked through.
    pub(super) fn is_answer_too_large(&self) -> bool {
        let slot = self.node_slot();
        let conn = slot.lock().unwrap_or_else(PoisonError::into_inner);
        conn.as_ref().is_some_and(|conn| conn.answer.is_too_large())
    }

    /// Takes the connection to the node away from the engine, if it still has one.
    pub(super) fn take_node_conn(&self) -> Option<NodeConn> {
        let slot = self.node_slot();
        slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes what broke; the first word stands, for what follows is its consequence.
    pub(super) fn fail(&self, reason: Reason, detail: String) {
        self.lock().fate.failure.get_or_insert((reason, detail));
    }

    /// The request is sent anew; what failed is no longer its failure.
    pub(super) fn forgive(&self) {
        self.lock().fate.failure = None;
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Fate)) {
        change(&mut self.lock().fate);
    }

    pub(super) fn fate(&self) -> Fate {
        self.lock().fate.clone()
    }

    /// The client is about to get an answer with a body.
    pub(super) fn body_begins(&self) {
        self.answers_with_body.store(true, Relaxed);
    }

    /// The client is about to get the final head.
    pub(super) fn answer_begins(&self) {
        self.answers.store(true, Relaxed);
    }

    /// Whether what goes to the client is the final head, or comes after it.
    pub(super) fn has_answer_begun(&self) -> bool {
        self.answers.load(Relaxed)
    }

    /// Whether the client is getting an answer with a body.
    pub(super) fn has_body_begun(&self) -> bool {
        self.answers_with_body.load(Relaxed)
    }

    /// Bytes wait for a cap on bandwidth.
    pub(super) fn hold_up(&self) {
        self.held_up.store(true, Relaxed);
    }

    /// Whether bytes waited for a cap on bandwidth since this was last asked.
    pub(super) fn was_held_up(&self) -> bool {
        self.held_up.swap(false, Relaxed)
    }

    /// Notes how much of the file comes, where the node said so.
    pub(super) fn note_size(&self, size: Option<u64>) {
        if let Some((session, size)) = self.session.as_ref().zip(size) {
            session.set_current_size(size);
        }
    }

    /// What the gateway adds is told by this clock from now on.
    pub(super) fn set_clock(&self, clock: WorkClock) {
        self.lock().clock = Some(clock);
    }

    /// Runs the clock, stands it, or spoils it.
    pub(super) fn on_clock(&self, change: impl FnOnce(&mut WorkClock)) {
        if let Some(clock) = &mut self.lock().clock {
            change(clock);
        }
    }

    /// The final head was given to the client's connection: what the gateway added until now is counted.
    pub(super) fn handed(&self, added: &AddedLatency) {
        let slot = self.node_slot();
        let times = slot.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(NodeConn::times);
        if let Some(times) = times {
            self.on_clock(|clock| {
                clock.stand_at(times.sent);
                clock.run_from(times.answered);
                clock.count(added);
            });
        }
    }

    /// Counts body bytes for the session.
    pub(super) fn moved(&self, direction: Direction, n: usize) {
        if let Some(session) = &self.session {
            session.moved(direction, n as u64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
