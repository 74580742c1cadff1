//! The passage of an admitted request: its node is reached, the client's connection is lent to the engine for the exchange
//! and taken back. Only here may a request be sent twice.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Door,
    connection::cancelled,
    exchange::{Exchange, Fate},
    node_conn::NodeConn,
    reach::reach,
    watch::watch,
};
use crate::{
    net::http1::Airlock,
    telemetry::{Reason, WorkClock},
};

/// What is there after the passage. What became of the exchange it tells itself.
pub(super) struct Passed {
    /// The client's connection.
    pub(super) airlock: Option<Airlock>,
    /// The node's.
    pub(super) node_conn: Option<NodeConn>,
    /// Nothing moved in it for `body_idle`.
    pub(super) stalled: bool,
}

/// Brings a request to its node, and the answer back.
///
/// A request is sent once. But a node may close a kept connection in the moment in which it is used again; then a GET,
/// which changes nothing, is sent once more on a fresh one.
pub(super) async fn pass(door: &Door, mut airlock: Airlock, exchange: &Arc<Exchange>) -> Passed {
    let mut heard = Instant::now();
    let mut is_first = true;
    loop {
        let reached = match reach(door, &mut airlock, exchange, heard).await {
            Ok(reached) => reached,
            Err((reason, detail)) => {
                exchange.fail(reason, detail);
                return Passed { airlock: Some(airlock), node_conn: None, stalled: reason == Reason::Stalled };
            }
        };
        // The room is kept until the body has gone on.
        let _room = reached.room;
        heard = reached.heard;
        let (lent, loan) = airlock.lend(exchange.head.raw().clone());
        let stalled = tokio::select! {
            () = door.engine.carry(lent, exchange.clone()) => false,
            () = watch(&door.timeouts, door.slow_node_notice, &loan, exchange, heard) => true,
            () = cancelled(exchange) => false,
        };
        let (back, node_conn) = (loan.take_back(), exchange.take_node_conn());
        let again = is_first && !stalled && may_go_again(exchange, &exchange.fate(), node_conn.as_ref());
        match back {
            Some(whole) if again && !whole.has_ended() => {
                tracing::debug!(listener = door.name, node = exchange.node().name(), "A GET is sent once more.");
                exchange.on_clock(WorkClock::spoil);
                exchange.forgive();
                (airlock, is_first) = (whole, false);
            }
            airlock => return Passed { airlock, node_conn, stalled },
        }
    }
}

/// Whether this is a GET that met a kept connection which its node had closed.
fn may_go_again(exchange: &Exchange, fate: &Fate, conn: Option<&NodeConn>) -> bool {
    let was_lost = matches!(fate.failure, Some((Reason::NodeLost, _)));
    exchange.call.fetches && was_lost && fate.status == 0 && conn.is_some_and(NodeConn::is_stale)
}
