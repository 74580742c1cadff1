//! The gate: whose datagrams are let in, and when it closes behind a flow.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::DataDoor;
use crate::{config::Gate, limit::FlowsFull, telemetry::DropReason, upstream::Client};

impl DataDoor {
    /// The client that a new flow belongs to, if it is let in. Takes no lock, but where a client is new and the gate is off.
    ///
    /// While draining only clients with a control connection open now are let in.
    pub(super) fn admit(&self, ip: IpAddr, now: Instant, draining: bool) -> Result<Arc<Client>, DropReason> {
        let known = self.upstream.client(ip);
        match self.gate {
            Gate::ControlConnection => {
                let is_open = |client: &Arc<Client>| match draining {
                    true => client.controls() > 0,
                    false => client.is_open(now, self.gate_grace),
                };
                known.filter(is_open).ok_or(DropReason::GateClosed)
            }
            Gate::Off if draining => Err(DropReason::GateClosed),
            Gate::Off => {
                let flows = known.map_or(0, |client| client.open_flows());
                if let Some(full) = self.limit.full(flows) {
                    return Err(full.into());
                }
                self.upstream.pick_data(ip).map_err(|_| DropReason::NoNode)
            }
        }
    }

    /// The shortest time after which a flow may be over, to a quarter.
    pub(super) fn shortest_wait(&self) -> Duration {
        let wait = match self.gate {
            Gate::ControlConnection => self.flow_idle.min(self.gate_grace),
            Gate::Off => self.flow_idle,
        };
        wait / 4
    }

    /// Whether the gate has closed behind a flow of this client.
    pub(super) fn has_closed(&self, client: &Client, now: Instant, draining: bool) -> bool {
        match (self.gate, draining) {
            (Gate::Off, _) => false,
            (Gate::ControlConnection, true) => client.controls() == 0,
            (Gate::ControlConnection, false) => !client.is_open(now, self.gate_grace),
        }
    }
}

impl From<FlowsFull> for DropReason {
    fn from(full: FlowsFull) -> DropReason {
        match full {
            FlowsFull::Total => DropReason::TooManyFlows,
            FlowsFull::Client => DropReason::TooManyFlowsPerClient,
        }
    }
}
