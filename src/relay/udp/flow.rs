//! One flow: a client address and its own socket to the node.

use std::{sync::Arc, time::Duration};

use super::{DataDoor, table::Ended};
use crate::{
    limit::Shaper,
    net::udp::{Datagrams, Run, Segmenting, UdpSocket},
    relay::record::Told,
    telemetry::{DropReason, Kind, Posted},
    upstream::Client,
};

/// What a flow holds.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) socket: UdpSocket,
    /// The door that it began with: its end is counted and told under that one's names.
    pub(super) door: Arc<DataDoor>,
    /// Who it belongs to: says when the gate closes, and hears that data moves.
    pub(super) client: Arc<Client>,
    /// The name of its node; it stays there though the client's pin may move.
    pub(super) node: String,
    /// What is shown of it while it is open; it counts bytes.
    pub(super) transfer: Posted,
    pub(super) up: Way,
    pub(super) down: Way,
}

/// One direction of a flow.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) segmenting: Segmenting,
    pub(super) pace: Shaper,
}

impl Way {
    pub(super) fn new(pace: Shaper) -> Way {
        Way { segmenting: Segmenting::default(), pace }
    }
}

/// Feeds a run with those of the datagrams that the caps let pass, one by one; tells how many they do not.
pub(super) fn feed<'a>(
    pace: &mut Shaper,
    more: Datagrams<'a>,
    run: &mut Run<'a>,
    mut send: impl FnMut(&Run<'a>),
) -> u64 {
    if pace.is_unlimited() {
        run.feed(more, send);
        return 0;
    }
    let mut over = 0;
    for one in more.each() {
        match pace.try_take(one.bytes.len() as u64) {
            true => run.feed(one, &mut send),
            false => over += 1,
        }
    }
    over
}

/// Writes the record of a flow that has ended and counts its end, with what the kernel threw away of it.
pub(super) fn tell(ended: &Ended<Flow>, now: u64) {
    let Ended { key, held, began, why, .. } = ended;
    let door = &held.door;
    door.metrics.flow_finished(*why);
    if let Ok(lost @ 1..) = held.socket.lost() {
        door.metrics.dropped(DropReason::ReceiveFull, lost.into());
    }
    let told = Told {
        kind: Kind::Flow,
        id: Some(held.transfer.id()),
        listener: &door.name,
        client: key.client,
        upstream: door.upstream.name(),
        node: Some(&held.node),
        outcome: why.as_str(),
        reason: None,
        counts: held.transfer.counts(),
        lasted: Duration::from_millis(now.saturating_sub(*began)),
    };
    door.access_log.write(&told.record());
}
