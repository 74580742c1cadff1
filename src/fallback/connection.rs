//! The life of one client connection: head, grammar, session, node, answer, and again.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    Door, answer,
    exchange::Exchange,
    follow::{self, Prepared},
    grammar,
    passage::{Passed, pass},
    probe::Asked,
    session::{InFlight, Session},
    start,
};
use crate::{
    limit::Guest,
    net::{
        forwarded,
        http1::{Airlock, DRAIN_BYTES, DRAIN_TIME, Drained, Head, HeadError, HeadProblem, Waits},
    },
    telemetry::{Operation, Outcome, Reason, RequestSpan, WorkClock},
};

/// How long what still comes of an upload is taken in once an operator has ended it, so that its client hears why.
const CANCEL_TIME: Duration = Duration::from_secs(2);

/// What comes of one request.
enum Next {
    /// The connection is sound and waits for the next request.
    Again(Airlock),
    /// And is kept for so long at least.
    Kept(Airlock, Duration),
    /// It is to be closed; with what broke, unless the client left.
    Close(Option<Airlock>, Option<Reason>),
}

/// A request that was refused, by what.
pub(super) type Refused = Reason;

/// Serves a connection to its end.
pub(super) async fn serve(door: Arc<Door>, mut airlock: Airlock, client: SocketAddr, guest: Guest) {
    // The sessions whose client was told to keep this connection: one, if it is the real client.
    let mut keeps: Vec<Arc<Session>> = Vec::new();
    let (mut first, mut kept) = (true, Duration::ZERO);
    let (outcome, reason) = loop {
        let timeouts = &door.timeouts;
        let first_byte = match (keeps.is_empty(), first) {
            (false, _) => timeouts.session_idle,
            (true, true) => timeouts.request_head,
            (true, false) => timeouts.keep_alive.max(std::mem::take(&mut kept)),
        };
        let waits = Waits { first_byte, head: timeouts.request_head };
        let head = tokio::select! {
            biased;
            head = airlock.next_head(waits) => head,
            () = one_cancelled(&keeps), if !keeps.is_empty() => {
                keeps.retain(|session| !session.is_cancelled());
                // No request is there to be answered; other sessions may go on.
                if keeps.is_empty() {
                    return airlock.close().await;
                }
                continue;
            }
            () = door.drain.cancelled(), if keeps.is_empty() && !first => return airlock.close().await,
        };
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                let silent = matches!(error, HeadError::Done) && !airlock.has_ended();
                refuse_head(&door, airlock, error, first).await;
                break if silent { (Outcome::Idle, None) } else { (Outcome::Lost, None) };
            }
        };
        first = false;
        match request(&door, airlock, head, (client, &guest), &mut keeps).await {
            Next::Again(back) => airlock = back,
            Next::Kept(back, time) => (airlock, kept) = (back, time),
            Next::Close(back, reason) => {
                if let Some(back) = back {
                    back.close().await;
                }
                break (Outcome::Lost, reason);
            }
        }
    };
    // A client that was told to keep its connection does not open another one.
    for session in keeps {
        let reason = (outcome == Outcome::Lost).then(|| reason.unwrap_or(Reason::ClientLost));
        door.sessions.finish(&session, outcome, reason);
    }
}

/// The framing is lost, or there is no head: an answer where one can be read, then the end.
async fn refuse_head(door: &Door, mut airlock: Airlock, error: HeadError, first: bool) {
    let reason = match &error {
        HeadError::Done if !first || airlock.has_ended() => return airlock.close().await,
        HeadError::Done | HeadError::Timeout => Reason::HeadTimeout,
        HeadError::Io(_) => Reason::ClientLost,
        HeadError::Problem(HeadProblem::TooLarge | HeadProblem::TooManyFields) => Reason::HeadTooLarge,
        HeadError::Problem(_) => Reason::BadHead,
    };
    door.metrics.refusal(reason);
    tracing::debug!(listener = door.name, reason = %reason, %error, "No request could be read.");
    if reason != Reason::ClientLost {
        let text = answer::refusal(reason, Operation::Other, true);
        let _ = airlock.answer(&text, door.timeouts.request_head).await;
        door.metrics.request(Operation::Other, answer::answer(reason, Operation::Other).status);
    }
    airlock.close().await;
}

async fn request(
    door: &Arc<Door>,
    mut airlock: Airlock,
    head: Head,
    (client, guest): (SocketAddr, &Guest),
    keeps: &mut Vec<Arc<Session>>,
) -> Next {
    let mut clock = WorkClock::running_since(airlock.head_whole());
    let host = head.field("host").unwrap_or_default();
    let forwarded = forwarded::of(&head, client, door.entrance.is_tls(), door.entrance.fronts().trusted());
    let call = match grammar::parse(head.method(), head.target(), host) {
        Ok(call) => call,
        Err(reason) => {
            // Whoever has a session here may well ask in it for what it cannot have.
            let reason = if keeps.is_empty() { door.outside(forwarded.client, reason) } else { reason };
            return refuse(door, airlock, Operation::Other, reason).await;
        }
    };
    let operation = call.operation;
    // Behind a front nobody was told apart when he came; the last places are for those who have a session.
    if guest.is_in_reserve()
        && !door.sessions.is_anywhere(call.session).await
        && !door.sessions.was_refused(call.session)
    {
        return refuse(door, airlock, operation, Reason::TooManyConnections).await;
    }
    let lacks_length = !call.fetches && head.content_length().is_none();
    let has_length = call.fetches && head.content_length().is_some_and(|n| n > 0);
    let unfit = if head.has_control() {
        Some(Reason::BadName)
    } else {
        (lacks_length || has_length).then_some(Reason::BadRequest)
    };
    if let Some(reason) = unfit {
        let reason = match door.sessions.find(call.session) {
            _ if operation == Operation::Start => door.refuse_start(start::unread(door, &call, &forwarded), reason),
            Some(_) => reason,
            None => door.outside(forwarded.client, reason),
        };
        return refuse(door, airlock, operation, reason).await;
    }
    // A client that has a proxy's password asks whether it is wanted before it begins, also where there is no proxy.
    if operation == Operation::Start && head.field("x-aspera-auth-probe").is_some() && head.content_length() == Some(0)
    {
        if !door.entry.may_ask(&door.own, forwarded.client.into()) {
            return refuse(door, airlock, operation, Reason::RequestRate).await;
        }
        return nothing_to_do(door, airlock, operation).await;
    }
    if let Some(asked) = door.probes.as_ref().and_then(|probes| probes.asked(&call, &head)) {
        return told(door, airlock, asked, forwarded.client).await;
    }
    let prepared = match operation {
        Operation::Start => start::start(door, &mut airlock, call, head, forwarded, &mut clock)
            .await
            .map(|(exchange, held)| Prepared::Carry(exchange, Some(held))),
        _ => follow::follow(door, &mut airlock, call, head, forwarded, &mut clock).await,
    };
    match prepared {
        Ok(Prepared::Carry(exchange, held)) => {
            exchange.set_clock(clock);
            carry(door, airlock, exchange, held, keeps).await
        }
        Ok(Prepared::EndOfRefused) => nothing_to_do(door, airlock, operation).await,
        Err(reason) => refuse(door, airlock, operation, reason).await,
    }
}

/// Answers a request that is over with its answer.
async fn nothing_to_do(door: &Door, mut airlock: Airlock, operation: Operation) -> Next {
    let drained = airlock.drain(DRAIN_BYTES, door.timeouts.body_idle, DRAIN_TIME).await;
    door.metrics.request(operation, 200);
    finish(door, airlock, answer::NOTHING_TO_DO, drained).await
}

/// Answers the question of a doctor, within the rate of requests outside of sessions. No drain waits for it.
async fn told(door: &Door, mut airlock: Airlock, asked: Asked<'_>, client: IpAddr) -> Next {
    if !door.entry.may_ask(&door.own, client.into()) {
        asked.refused();
        return refuse(door, airlock, Operation::File, Reason::RequestRate).await;
    }
    let answered = tokio::select! {
        answered = asked.answer(door, &mut airlock) => answered,
        () = door.drain.cancelled() => return Next::Close(Some(airlock), None),
    };
    match answered {
        Ok(Some(kept)) if !airlock.has_ended() => Next::Kept(airlock, kept),
        _ => Next::Close(Some(airlock), None),
    }
}

/// Has the exchange carried to its node, then looks at what became of it.
async fn carry(
    door: &Arc<Door>,
    airlock: Airlock,
    exchange: Arc<Exchange>,
    held: Option<InFlight>,
    keeps: &mut Vec<Arc<Session>>,
) -> Next {
    let begin = Instant::now();
    exchange.session.iter().for_each(|session| session.request());
    let Passed { airlock, node_conn, stalled } = pass(door, airlock, &exchange).await;
    // A body that the node did not read to its end would stand before the next head.
    let node_conn = node_conn.filter(|_| airlock.as_ref().is_some_and(|a| a.body_left() == 0));
    let mut fate = exchange.fate();
    let operation = exchange.call.operation;
    if exchange.session.as_ref().is_some_and(|session| session.is_cancelled()) && !fate.whole {
        fate.failure = Some((Reason::Cancelled, "an operator ended the session".into()));
    } else if stalled {
        fate.failure = Some((Reason::Stalled, "nothing moved for body_idle".into()));
    } else if !fate.whole && fate.failure.is_none() {
        fate.failure = Some((Reason::Internal, "the engine ended without a word".into()));
    }
    // Without an answer of the node the gateway's own is counted where it is written.
    if fate.status != 0 {
        door.metrics.request(operation, fate.status);
    }
    if let Some(session) = &exchange.session {
        door.sessions.request_ended(&RequestSpan {
            session: session.label(),
            operation,
            node: exchange.node().name(),
            status: fate.status,
            reason: fate.failure.as_ref().map(|(reason, _)| *reason),
            begin,
        });
        after(door, session, &exchange, &fate);
        if let Some(conn) = node_conn.filter(|_| fate.whole && session.node_keeps() && operation != Operation::End) {
            session.keep_node_conn(conn);
        }
        if operation == Operation::Start && session.is_open() && session.client_keeps() {
            keeps.push(session.clone());
        }
        if operation == Operation::End {
            keeps.retain(|kept| !Arc::ptr_eq(kept, session));
        }
    }
    if let Some(outcome) = exchange.unseen_end.filter(|_| fate.whole) {
        door.sessions.ended_unseen(exchange.call.session, outcome);
    }
    drop(held);
    // Whoever cancelled while this was under way has left the end to it.
    if let Some(session) = exchange.session.as_ref().filter(|session| session.is_cancelled()) {
        door.sessions.finish(session, Outcome::Cancelled, Some(Reason::Cancelled));
    }
    let Some(mut airlock) = airlock else {
        return Next::Close(None, fate.failure.map(|(reason, _)| reason));
    };
    match fate.failure {
        None => {
            let drained = airlock.drain(DRAIN_BYTES, door.timeouts.body_idle, DRAIN_TIME).await;
            if drained == Drained::Whole && !airlock.has_ended() {
                Next::Again(airlock)
            } else {
                Next::Close(Some(airlock), None)
            }
        }
        Some((reason, detail)) => {
            tracing::warn!(
                listener = door.name,
                session = exchange.session.as_ref().map(|s| s.label()),
                node = exchange.node().name(),
                operation = %operation,
                reason = %reason,
                detail,
                "A request failed."
            );
            if fate.status != 0 || airlock.has_ended() || stalled && airlock.was_starved() {
                door.metrics.refusal(reason);
                return Next::Close(Some(airlock), Some(reason));
            }
            refuse(door, airlock, operation, reason).await
        }
    }
}

/// Waits until an operator ends one of the sessions.
async fn one_cancelled(sessions: &[Arc<Session>]) {
    let mut all: Vec<_> = sessions.iter().map(|session| Box::pin(session.cancelled())).collect();
    poll_fn(
        |cx| if all.iter_mut().any(|one| one.as_mut().poll(cx).is_ready()) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

/// Waits until an operator ends the session that it is part of.
pub(super) async fn cancelled(exchange: &Exchange) {
    match &exchange.session {
        Some(session) => session.cancelled().await,
        None => std::future::pending().await,
    }
}

/// What an exchange means for its session.
fn after(door: &Door, session: &Arc<Session>, exchange: &Exchange, fate: &super::exchange::Fate) {
    if exchange.call.operation == Operation::File {
        let good = if exchange.call.fetches { 200 } else { 201 };
        session.file_ended(fate.whole && fate.status == good);
    }
    // Its end comes once nothing of it is under way.
    if session.is_cancelled() && exchange.call.operation != Operation::End {
        return;
    }
    match exchange.call.operation {
        Operation::Start => {
            let accepted = fate.whole && matches!(fate.status, 200 | 201) && !fate.node_refused;
            if accepted {
                session.open(fate.node_keeps, fate.client_keeps);
                door.sessions.opened(session);
            } else {
                let reason = fate.failure.as_ref().map(|(reason, _)| *reason);
                door.sessions.finish(session, Outcome::Refused, reason);
            }
        }
        Operation::End => {
            let done = session.end().is_some_and(|end| end.done);
            door.sessions.finish(session, if done { Outcome::Done } else { Outcome::Error }, None);
        }
        _ => {}
    }
}

/// Drains what the client still sends, so that it hears the answer, and answers.
async fn refuse(door: &Door, mut airlock: Airlock, operation: Operation, reason: Reason) -> Next {
    door.metrics.refusal(reason);
    if airlock.has_ended() {
        return Next::Close(Some(airlock), Some(reason));
    }
    tracing::debug!(listener = door.name, operation = %operation, reason = %reason, "A request was refused.");
    let patience = if reason == Reason::Cancelled { CANCEL_TIME } else { DRAIN_TIME };
    let drained = airlock.drain(DRAIN_BYTES, door.timeouts.body_idle, patience).await;
    door.metrics.request(operation, answer::answer(reason, operation).status);
    let text = answer::refusal(reason, operation, drained == Drained::Given);
    match finish(door, airlock, &text, drained).await {
        Next::Close(airlock, None) => Next::Close(airlock, Some(reason)),
        next => next,
    }
}

async fn finish(door: &Door, mut airlock: Airlock, text: &[u8], drained: Drained) -> Next {
    let written = airlock.answer(text, door.timeouts.body_idle).await;
    if written.is_ok() && drained == Drained::Whole { Next::Again(airlock) } else { Next::Close(Some(airlock), None) }
}
