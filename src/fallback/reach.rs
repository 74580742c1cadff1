//! The way of a request to its node: a connection that was kept, or a fresh one; a start goes on to other nodes, and what
//! finds none is held for a while. Until here no node has read anything of the request.

use std::{future::poll_fn, io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Door,
    connection::{Refused, cancelled},
    exchange::Exchange,
    hold::Hold,
    node_conn::NodeConn,
    start,
};
use crate::{
    net::{http1::Airlock, shortage::is_ours},
    telemetry::{NodeWait, Reason, WorkClock},
    upstream::{Node, Pending},
};

/// A sign of life that is not taken by then finds nobody.
const NOTICE_WRITE: Duration = Duration::from_secs(1);

/// Why a node was not reached.
struct Missed {
    node: Arc<Node>,
    /// To be judged, or dropped.
    pending: Pending,
    error: io::Error,
}

impl Missed {
    /// Whether it may be another matter in a moment. A certificate stays what it is.
    fn may_pass(&self) -> bool {
        !matches!(self.error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other)
    }

    fn told(&self) -> String {
        format!("{}: {}", self.node.name(), self.error)
    }
}

/// What comes next while a node is to be reached.
enum Next {
    Tried(Result<NodeConn, Missed>),
    Client(Refused),
    Notice,
    Late,
}

/// What the way to the node has left behind.
pub(super) struct Reached {
    /// When the client last heard a sign of life, or began to wait for one.
    pub(super) heard: Instant,
    /// Memory for a body that was taken in.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Finds the exchange a connection to its node. Its client has waited for a sign of life since `heard`. The error is the
/// reason, and a text for the operator.
pub(super) async fn reach(
    door: &Door,
    airlock: &mut Airlock,
    exchange: &Exchange,
    heard: Instant,
) -> Result<Reached, (Refused, String)> {
    let kept = exchange.session.as_ref().and_then(|session| session.take_node_conn());
    if let Some(mut conn) = kept {
        conn.renew();
        exchange.set_node_conn(conn);
        return Ok(Reached { heard, room: None });
    }
    exchange.on_clock(WorkClock::stand);
    let (begin, mut heard) = (Instant::now(), heard);
    let mut hold: Option<Hold<'_>> = None;
    let mut last = String::new();
    let mut trying = pin!(attempt(door, exchange, None));
    loop {
        let until = hold.as_ref().map_or(begin + door.timeouts.body_idle, |hold| hold.until);
        let take_in = hold.as_ref().map_or(0, |hold| hold.take_in);
        let next = tokio::select! {
            biased;
            () = cancelled(exchange) => Next::Client(Reason::Cancelled),
            tried = &mut trying => Next::Tried(tried),
            reason = left(airlock, take_in, door.timeouts.body_idle) => Next::Client(reason),
            () = sleep_until(until) => Next::Late,
            () = next_notice(door, heard) => Next::Notice,
        };
        match next {
            Next::Tried(Ok(conn)) => {
                if let Some(session) = &exchange.session {
                    session.absence.is_over();
                }
                let room = hold.and_then(|hold| hold.ends(NodeWait::Returned));
                exchange.set_node_conn(conn);
                exchange.on_clock(WorkClock::run);
                return Ok(Reached { heard, room });
            }
            Next::Tried(Err(missed)) => {
                last = missed.told();
                if let Some(hold) = &mut hold {
                    // The nodes were tried and judged; whichever is back first will do for a start.
                    exchange.forget_tried();
                    let _ = exchange.move_on();
                    trying.set(attempt(door, exchange, Some(hold.pause())));
                    continue;
                }
                let may_pass = missed.may_pass();
                // Out of descriptors or ports is our own trouble, not the node's.
                if !is_ours(&missed.error) {
                    missed.pending.failed();
                }
                if exchange.move_on().is_ok() {
                    trying.set(attempt(door, exchange, None));
                    continue;
                }
                hold = if may_pass { Hold::new(door, airlock, exchange, begin) } else { None };
                match &mut hold {
                    Some(hold) => trying.set(attempt(door, exchange, Some(hold.pause()))),
                    None => return Err((Reason::NodeUnreachable, last)),
                }
            }
            Next::Client(reason) => return Err((reason, "while its node was not reached".into())),
            Next::Notice => {
                heard = Instant::now();
                if airlock.notice(NOTICE_WRITE).await.is_err() {
                    return Err((Reason::ClientLost, "while its node was not reached".into()));
                }
            }
            Next::Late => {
                let Some(hold) = hold else {
                    return Err((Reason::Stalled, "no node was reached within body_idle".into()));
                };
                let waited = hold.lasted();
                hold.ends(NodeWait::GaveUp);
                return Err((Reason::NodeUnreachable, format!("the node was awaited for {waited:.1?}: {last}")));
            }
        }
    }
}

/// One try, after a pause if there is one; the pause ends at once when the node is found to be up again.
async fn attempt(door: &Door, exchange: &Exchange, pause: Option<Duration>) -> Result<NodeConn, Missed> {
    let node = exchange.node();
    let port = node.fallback_port();
    if let Some(pause) = pause {
        tokio::select! {
            () = sleep(pause) => {}
            () = comes_up(door, &node) => {}
        }
    }
    let pending = node.pending(port).await;
    let open = async {
        let address = node.address(port).await?;
        NodeConn::open(address, door.node_tls.as_ref().map(|tls| (tls, node.host()))).await
    };
    let opened = timeout(door.timeouts.connect, open).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match opened {
        Ok(conn) => {
            pending.connected();
            Ok(conn)
        }
        Err(error) => Err(Missed { node, pending, error }),
    }
}

/// Waits until a node that is down is up.
async fn comes_up(door: &Door, node: &Node) {
    let is_up = || node.is_up(node.fallback_port());
    if is_up() {
        return std::future::pending().await;
    }
    loop {
        let mut news = pin!(door.entry.node_news());
        news.as_mut().enable();
        if is_up() {
            return;
        }
        news.await;
    }
}

/// Takes in so much of the body, then waits until the client leaves.
async fn left(airlock: &mut Airlock, take_in: usize, idle: Duration) -> Refused {
    if let Err(error) = airlock.take_in(take_in, idle).await {
        return start::broken_off(&error);
    }
    poll_fn(|cx| airlock.poll_left_behind_body(cx)).await;
    Reason::ClientLost
}

/// Waits until it is time for a sign of life.
async fn next_notice(door: &Door, heard: Instant) {
    match door.slow_node_notice {
        Some(notice) => sleep_until(heard + notice).await,
        None => std::future::pending().await,
    }
}
