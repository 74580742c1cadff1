//! Data of the nominal path: datagrams, each flow to the node of its client.
//!
//! `listener` holds the sockets and threads of an address; a thread is a `worker`, which owns a socket, its flows
//! (`table`, a pure core) and their sockets to the nodes (`flow`), and shares neither lock nor memory with the others
//! while datagrams move, save the caps on bandwidth where there are any. `gate` says who is let in and where to.

mod flow;
mod gate;
mod halt;
mod listener;
mod probe;
pub mod table;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{Gate, ListenerConfig},
    limit::{Bandwidth, Flow, FlowLimit, Shaper},
    telemetry::{About, AccessLog, DataMetrics, Direction, Kind, Live, Metrics, Posted},
    upstream::{Node, Upstream},
};

pub use listener::{DataListener, DataSockets, Handed};
pub use probe::Probes;

/// What a listener of data of one config generation does with a datagram.
#[derive(Debug)]
pub struct DataDoor {
    name: String,
    gate: Gate,
    gate_grace: Duration,
    flow_idle: Duration,
    upstream: Arc<Upstream>,
    limit: FlowLimit,
    bandwidth: Bandwidth,
    metrics: DataMetrics,
    access_log: AccessLog,
    live: Live,
    probes: Option<Probes>,
}

impl DataDoor {
    /// Builds the door of a listener; opens no socket.
    pub fn build(
        config: &ListenerConfig,
        upstream: Arc<Upstream>,
        (limit, bandwidth): (FlowLimit, Bandwidth),
        metrics: &Metrics,
        (access_log, live): (AccessLog, Live),
        probes: Option<Probes>,
    ) -> DataDoor {
        DataDoor {
            name: config.name.clone(),
            gate: config.gate,
            gate_grace: config.gate_grace,
            flow_idle: config.flow_idle,
            upstream,
            limit,
            bandwidth,
            metrics: metrics.data(&config.name),
            access_log,
            live,
            probes,
        }
    }

    /// Shows a flow for as long as the result lives.
    fn post(&self, client: SocketAddr, node: &str) -> Posted {
        self.live.post(About {
            listener: self.name.as_str().into(),
            upstream: Some(self.upstream.name().into()),
            node: Some(node.into()),
            ..About::new(Kind::Flow, client.ip())
        })
    }

    /// How fast a flow may go, up and down; each flow is a session of its own.
    fn paces(&self, client: IpAddr, node: &Node) -> (Shaper, Shaper) {
        let flow = Flow {
            listener: self.name.as_str().into(),
            client: client.into(),
            session: Some(self.bandwidth.number()),
            node: Some(node.full_name()),
        };
        (self.bandwidth.stream(flow.clone(), Direction::Upload), self.bandwidth.stream(flow, Direction::Download))
    }
}
