//! A request that is held: its node cannot be reached, and may be back in a moment.
//!
//! A client that has sent all waits as long as it hears a 102 now and then. One that still sends has 20 seconds of patience
//! and nothing helps (docs/protocol.md, "Answers"), so a small body is taken in, and with a large one the hold is short.
//! A session is held for `node_grace` in all as long as its node is away: its client may have thousands of files to try.

use std::{fmt, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{Door, exchange::Exchange, session::Session};
use crate::{
    net::http1::Airlock,
    telemetry::{NodeWait, WorkClock},
};

/// The largest body that is taken in while a request is held, in bytes.
const SMALL: u64 = 64 * 1024;
/// The longest hold of a client that cannot be told to wait, from the beginning of its request: half of its patience.
const UNTOLD: Duration = Duration::from_secs(10);
/// From one try to the next, at first; each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A held request, until it drops.
pub(super) struct Hold<'a> {
    door: &'a Door,
    exchange: &'a Exchange,
    session: &'a Session,
    since: Instant,
    /// When it is given up.
    pub(super) until: Instant,
    /// How much of the body is taken in, in bytes: all of it, or nothing.
    pub(super) take_in: usize,
    pause: Duration,
    result: NodeWait,
    /// The body's part of the memory for all that are held.
    room: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Hold<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("until", &self.until).field("take_in", &self.take_in).finish_non_exhaustive()
    }
}

impl<'a> Hold<'a> {
    /// Begins to hold a request that came at `begin`. None where that is off, where its session was held as long as it may
    /// be, and where no session is known.
    pub(super) fn new(door: &'a Door, airlock: &Airlock, exchange: &'a Exchange, begin: Instant) -> Option<Hold<'a>> {
        exchange.on_clock(WorkClock::spoil);
        let session = exchange.session.as_ref()?;
        let (since, length) = (Instant::now(), airlock.body_left());
        let mut until = session.absence.missed(since, door.node_grace) + door.node_grace;
        if until <= since {
            return None;
        }
        // The memory for a start body is had already.
        let is_here = length == 0 || exchange.room.is_some();
        let room = (!is_here && length <= SMALL).then(|| door.sessions.held_body(length)).flatten();
        let is_whole = is_here || room.is_some();
        if !is_whole || door.slow_node_notice.is_none() {
            until = until.min(begin + UNTOLD);
        }
        session.set_held(true);
        Some(Hold {
            door,
            exchange,
            session,
            since,
            until,
            take_in: if is_whole { usize::try_from(length).unwrap_or(0) } else { 0 },
            pause: FIRST_PAUSE,
            result: NodeWait::Left,
            room,
        })
    }

    /// How long to wait until the node is tried again.
    pub(super) fn pause(&mut self) -> Duration {
        let next = (self.pause * 2).min(LAST_PAUSE);
        std::mem::replace(&mut self.pause, next)
    }

    /// How long it has lasted.
    pub(super) fn lasted(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends it; what ends in no other way is left by the client. The room for the body is to be kept until it has gone on.
    pub(super) fn ends(mut self, result: NodeWait) -> Option<OwnedSemaphorePermit> {
        self.result = result;
        self.room.take()
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.door.metrics.node_wait(self.result);
        self.session.set_held(false);
        if self.result != NodeWait::Returned {
            self.session.absence.missed(Instant::now(), self.door.node_grace);
        }
        tracing::info!(
            listener = self.door.name,
            session = self.session.label(),
            node = self.exchange.node().name(),
            operation = %self.exchange.call.operation,
            result = %self.result,
            waited = ?self.lasted(),
            "A request waited for its node."
        );
    }
}
