//! session_start: the token decides whether it is let in, the limits when, and the upstream where to.

use std::{io, net::IpAddr, sync::Arc, time::SystemTime};

use super::{
    Door, admission, body,
    connection::Refused,
    exchange::Exchange,
    grammar::{self, Call},
    session::{InFlight, Opening, Session},
    sessions::Reach,
    waiting,
};
use crate::{
    config::PersistentConnection,
    net::{
        forwarded::Forwarded,
        http1::{Airlock, Head},
    },
    telemetry::{Outcome, Reason, WorkClock},
    upstream::Node,
};

/// The largest start body that is read whole before it goes on, in bytes; a larger one cannot wait for room.
const WHOLE_START: u64 = 1024 * 1024;

/// What becomes of a start: an exchange with its node, which holds the session, or a refusal that is written down.
pub(super) async fn start(
    door: &Door,
    airlock: &mut Airlock,
    call: Call,
    head: Head,
    forwarded: Forwarded,
    clock: &mut WorkClock,
) -> Result<(Arc<Exchange>, InFlight), Refused> {
    let length = head.content_length().unwrap_or(0);
    let room = (length <= WHOLE_START).then(|| door.sessions.body(length)).flatten();
    let wanted =
        if room.is_some() { usize::try_from(length).unwrap_or(body::START_PREFIX) } else { body::START_PREFIX };
    clock.stand();
    if let Err(error) = airlock.take_in(wanted, door.timeouts.body_idle).await {
        let reason = broken_off(&error);
        door.sessions.refuse(unread(door, &call, &forwarded), Outcome::Lost, reason);
        return Err(reason);
    }
    clock.run();
    let text = airlock.taken_in();
    let Some(said) = body::start(text) else {
        return Err(door.refuse_start(unread(door, &call, &forwarded), Reason::BadStart));
    };
    let opening = Opening {
        direction: Some(said.direction),
        user: room.as_ref().and_then(|_| body::user(text)),
        sources: room.as_ref().map(|_| body::sources(text)),
        ..unread(door, &call, &forwarded)
    };
    let decided = if grammar::SessionId::parse(said.id) != Some(call.session) {
        Err(Reason::SessionMismatch)
    } else if door.drain.is_cancelled() {
        Err(Reason::Draining)
    } else if door.sessions.reach() == Reach::Refuse {
        Err(Reason::StateUnavailable)
    } else {
        admission::decide(&door.admission, said.token, SystemTime::now())
    };
    if let Err(reason) = decided {
        return Err(door.refuse_start(opening, reason));
    }
    // Where it is live elsewhere it is here now; where nobody answers that is known before a node is chosen.
    let _ = door.sessions.fetch_of_replicas(call.session).await;
    let session = door.sessions.begin(opening).map_err(|reason| door.outside(forwarded.client, reason))?;
    let held = session.busy();
    let node = match waiting::admit(door, airlock, &session, room.is_some(), clock).await {
        Ok(()) => session.node().ok_or(Reason::Internal),
        Err(reason) => Err(reason),
    };
    let node = match node {
        Ok(node) => shared(door, &session, node).await,
        refused => refused,
    };
    let node = node.inspect_err(|reason| {
        let outcome = match reason {
            Reason::ClientLost => Outcome::Lost,
            Reason::Cancelled => Outcome::Cancelled,
            _ => Outcome::Refused,
        };
        door.sessions.finish(&session, outcome, Some(*reason));
    })?;
    let offer = match door.persistence {
        PersistentConnection::Force => Some(true),
        PersistentConnection::Off => Some(false),
        PersistentConnection::Auto => None,
    };
    let upstream = door.entry.current(&door.upstream);
    let mut exchange = Exchange::of_session(call, head, upstream, forwarded, session, node);
    exchange.offer_persistence = offer;
    exchange.room = room;
    exchange.by_hash = door.sessions.reach() == Reach::Hash;
    Ok((Arc::new(exchange), held))
}

/// The node of a session, once the other replicas know it; where they cannot, the one that they will find by themselves, or none.
async fn shared(door: &Door, session: &Arc<Session>, node: Arc<Node>) -> Result<Arc<Node>, Refused> {
    if door.sessions.begin_shared(session, false, false).await {
        return Ok(node);
    }
    match door.sessions.reach() {
        Reach::Whole => return Ok(node),
        Reach::Refuse => return Err(Reason::StateUnavailable),
        Reach::Hash => {}
    }
    Ok(match door.entry.current(&door.upstream).pick_by_hash(session.wish(), &[]) {
        Ok(lease) if lease.node().name() != node.name() => {
            let node = lease.node().clone();
            session.assign(lease);
            node
        }
        _ => node,
    })
}

/// What is known of a session before its start body is read.
pub(super) fn unread(door: &Door, call: &Call, forwarded: &Forwarded) -> Opening {
    Opening {
        id: call.session,
        listener: door.name.clone(),
        metrics: door.metrics.clone(),
        upstream: door.upstream.clone(),
        client: forwarded.client,
        direction: None,
        user: None,
        sources: None,
    }
}

/// Why a body could not be read ahead.
pub(super) fn broken_off(error: &io::Error) -> Refused {
    if error.kind() == io::ErrorKind::TimedOut { Reason::Stalled } else { Reason::ClientLost }
}

impl Door {
    /// Counts a request that belongs to no session that was let in. Who asks too often hears that instead.
    pub(super) fn outside(&self, client: IpAddr, reason: Reason) -> Refused {
        if self.entry.may_ask(&self.own, client.into()) { reason } else { Reason::RequestRate }
    }

    /// Writes a start down that is not let in, and says what it is answered with.
    pub(super) fn refuse_start(&self, opening: Opening, reason: Reason) -> Refused {
        // That the gateway ends, or lacks something, is no fault of who asks.
        let is_ours = matches!(reason, Reason::Draining | Reason::StateUnavailable);
        let reason = if is_ours { reason } else { self.outside(opening.client, reason) };
        self.sessions.refuse(opening, Outcome::Refused, reason);
        reason
    }
}
