//! Flows that go from one process to the next with their sockets, so that a node sees no change.

use std::{io, sync::atomic::Ordering, time::Instant};

use super::{Flow, Way, Worker};
use crate::{
    net::udp::UdpSocket,
    relay::udp::{listener::Handed, table::Key},
    shared::FlowState,
    telemetry::{Direction, DropReason, FlowOutcome},
};

impl Worker {
    /// All flows, as another process needs them; here they stay as they are.
    ///
    /// # Errors
    /// A socket cannot be shared, for no descriptor is left: its node would see another one.
    pub(super) fn handed(&self) -> io::Result<Vec<Handed>> {
        let now = self.millis(Instant::now());
        let handed = self.table.iter().filter_map(|(id, key, flow)| {
            let (began, last) = self.table.times(id)?;
            let counts = flow.transfer.counts();
            let state = FlowState {
                client: key.client,
                port: key.port,
                local: key.local,
                node: flow.node.clone(),
                age: now.saturating_sub(began),
                idle: now.saturating_sub(last),
                uploaded: counts.upload(),
                downloaded: counts.download(),
            };
            let socket = flow.socket.share().and_then(UdpSocket::handed);
            Some(socket.map(|socket| (state, socket)))
        });
        handed.collect()
    }

    /// Goes on with a flow that ran in another process until `now`.
    pub(super) fn bring(&mut self, state: FlowState, socket: UdpSocket, now: u64) {
        let (client, node) = (state.client, state.node.clone());
        if let Err(reason) = self.try_bring(state, socket, now) {
            tracing::warn!(listener = self.door.name, %client, node, %reason, "A flow cannot go on here.");
        }
    }

    fn try_bring(&mut self, state: FlowState, socket: UdpSocket, now: u64) -> Result<(), DropReason> {
        let door = self.door.clone();
        let ip = state.client.ip();
        let client = door.upstream.client(ip).ok_or(DropReason::GateClosed)?;
        let nodes = door.upstream.nodes();
        let node = nodes.iter().find(|node| node.name() == state.node).ok_or(DropReason::NoNode)?;
        let (up, down) = door.paces(ip, node);
        let transfer = door.post(state.client, &state.node);
        transfer.counts().add(Direction::Upload, state.uploaded);
        transfer.counts().add(Direction::Download, state.downloaded);
        let flows = client.flows().clone().into();
        let held = Flow {
            socket,
            door: door.clone(),
            client,
            node: state.node,
            transfer,
            up: Way::new(up),
            down: Way::new(down),
        };
        let key = Key { client: state.client, port: state.port, local: state.local };
        let times = (now.saturating_sub(state.age), now.saturating_sub(state.idle));
        let id = self.table.bring(key, times, &flows, &door.limit, held)?;
        let added = self.table.get(id).map(|(_, flow)| self.poller.add(&flow.socket, u64::from(id) as usize));
        if let Some(Err(_)) = added {
            self.table.remove(id, FlowOutcome::Drained);
            return Err(DropReason::NodeUnreachable);
        }
        self.orders.flows.fetch_add(1, Ordering::Relaxed);
        door.metrics.flow_opened();
        Ok(())
    }
}
