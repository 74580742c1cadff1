//! Every request after the start: its session is known, or it goes nowhere.

use std::{sync::Arc, time::Duration};

use super::{
    Door, body,
    connection::Refused,
    exchange::Exchange,
    grammar::{self, Call},
    session::{InFlight, Session},
    sessions::{Found, Reach},
    start,
};
use crate::{
    config::{BindClient, UnknownSession},
    net::{
        forwarded::Forwarded,
        http1::{Airlock, Head},
    },
    telemetry::{Operation, Outcome, Reason, WorkClock},
    upstream::Node,
};

/// The largest session_end body that is looked into, in bytes; the client's has about 1.2 KiB.
const WHOLE_END: usize = 64 * 1024;
/// How long a request waits for the one before it in its session to be over. The client makes one at
/// a time, but sends the next on a new connection as soon as it has the last byte of an answer; only
/// then is what the answer means for the session known, and the node's connection free again.
const TURN: Duration = Duration::from_secs(1);

/// What becomes of a request that is not refused.
pub(super) enum Prepared {
    /// A request of a session holds it until it is over.
    Carry(Arc<Exchange>, Option<InFlight>),
    /// The end of a session that was refused: there is nobody to carry it to.
    EndOfRefused,
}

/// Finds the session of a request, and looks whether it may have it.
pub(super) async fn follow(
    door: &Door,
    airlock: &mut Airlock,
    call: Call,
    head: Head,
    forwarded: Forwarded,
    clock: &mut WorkClock,
) -> Result<Prepared, Refused> {
    if let Some(session) = door.sessions.find(call.session) {
        clock.stand();
        session.quiet(TURN).await;
        clock.run();
    }
    // What is asked of another process counts like any other request outside of a session.
    if door.sessions.is_to_be_asked_for(call.session) && !door.entry.may_ask(&door.own, forwarded.client.into()) {
        return Err(Reason::RequestRate);
    }
    let held = match door.sessions.hold_anywhere(call.session).await {
        Found::Held(held) => held,
        Found::Unknown => return unknown(door, call, head, forwarded),
        Found::Unasked => return unasked(door, airlock, call, head, forwarded).await,
    };
    let session = held.session().clone();
    match take(door, airlock, &call, &head, &forwarded, &session, clock).await {
        Ok(node) => {
            let exchange = Exchange::of_session(call, head, door.upstream.clone(), forwarded, session, node);
            Ok(Prepared::Carry(Arc::new(exchange), Some(held)))
        }
        Err(reason) => {
            drop(held);
            // Whoever ended it meanwhile found it busy, and has left the end to this request.
            if session.is_cancelled() {
                door.sessions.finish(&session, Outcome::Cancelled, Some(Reason::Cancelled));
            }
            Err(reason)
        }
    }
}

/// A request of no session that is known.
fn unknown(door: &Door, call: Call, head: Head, forwarded: Forwarded) -> Result<Prepared, Refused> {
    if call.operation == Operation::End && door.sessions.was_refused(call.session) {
        return Ok(Prepared::EndOfRefused);
    }
    if door.sessions.was_cancelled(call.session) {
        return Err(Reason::Cancelled);
    }
    if door.admission.unknown_session == UnknownSession::Refuse {
        return Err(door.outside(forwarded.client, Reason::UnknownSession));
    }
    Ok(Prepared::Carry(Arc::new(routed(door, call, head, forwarded)?), None))
}

/// A request of a session that may be another replica's, which cannot be asked.
async fn unasked(
    door: &Door,
    airlock: &mut Airlock,
    call: Call,
    head: Head,
    forwarded: Forwarded,
) -> Result<Prepared, Refused> {
    if call.operation == Operation::End && door.sessions.was_refused(call.session) {
        return Ok(Prepared::EndOfRefused);
    }
    if door.sessions.was_cancelled(call.session) {
        return Err(Reason::Cancelled);
    }
    if door.sessions.reach() == Reach::Refuse {
        return Err(door.outside(forwarded.client, Reason::StateUnavailable));
    }
    let mut exchange = routed(door, call, head, forwarded)?;
    if exchange.call.operation == Operation::End {
        airlock.take_in(WHOLE_END, door.timeouts.body_idle).await.map_err(|e| start::broken_off(&e))?;
        let done = body::end(airlock.taken_in()).done;
        exchange.unseen_end = Some(if done { Outcome::Done } else { Outcome::Error });
    }
    door.metrics.unverified();
    door.sessions.note_unverified(&door.name);
    Ok(Prepared::Carry(Arc::new(exchange), None))
}

/// To the node that the hash of its id names.
fn routed(door: &Door, call: Call, head: Head, forwarded: Forwarded) -> Result<Exchange, Refused> {
    if !door.entry.may_ask(&door.own, forwarded.client.into()) {
        return Err(Reason::RequestRate);
    }
    let lease = door.upstream.by_hash(&call.session.to_bytes()).map_err(|_| Reason::NoNode)?;
    Ok(Exchange::routed(call, head, door.upstream.clone(), forwarded, lease))
}

/// Notes what the request says of its session; gives the node that it goes to.
async fn take(
    door: &Door,
    airlock: &mut Airlock,
    call: &Call,
    head: &Head,
    forwarded: &Forwarded,
    session: &Session,
    clock: &mut WorkClock,
) -> Result<Arc<Node>, Refused> {
    if door.admission.bind_client == BindClient::Ip && session.client() != forwarded.client {
        return Err(door.outside(forwarded.client, Reason::ClientMismatch));
    }
    if session.is_cancelled() {
        return Err(Reason::Cancelled);
    }
    let node = session.node().ok_or(Reason::UnknownSession)?;
    match call.operation {
        Operation::File => {
            let size = head.content_length().filter(|_| !call.fetches);
            session.set_current_file(&grammar::readable(&call.name), size);
        }
        Operation::End => {
            clock.stand();
            airlock.take_in(WHOLE_END, door.timeouts.body_idle).await.map_err(|e| start::broken_off(&e))?;
            clock.run();
            session.set_end(body::end(airlock.taken_in()));
        }
        _ => {}
    }
    Ok(node)
}
