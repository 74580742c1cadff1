//! The fallback door: every HTTP(S) fallback session runs through here.
//!
//! `connection` is the story of a request: the airlock reads its head, `grammar` says what it is, `start` with `body` and
//! `token` what a start may do, `waiting` when, by the limits of `entry`; `sessions` where a later request belongs. The
//! question of a doctor is answered by `probe`. `passage` brings a request to its node: `reach` connects, with `hold` for a node
//! that is not there, and `engine` carries. What is refused is answered in `answer`; nothing of it reaches a node.

mod admission;
mod answer;
pub mod body;
mod cause;
mod connection;
mod engine;
mod entry;
mod exchange;
mod follow;
pub mod grammar;
pub mod guard;
mod headers;
mod hold;
mod needs;
mod node_conn;
mod node_head;
mod passage;
mod probe;
mod reach;
mod session;
mod sessions;
mod shared_limits;
mod start;
mod stream;
pub mod target;
pub mod token;
mod waiting;
mod watch;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{AdmissionConfig, Config, ListenerConfig, PersistentConnection, Scheme, TimeoutsConfig, UpstreamConfig},
    limit::{Bandwidth, Guest},
    net::{entrance::Entrance, http1::Airlock, tls::TlsError, tls_client::ClientTls},
    telemetry::{ListenerMetrics, Metrics},
    upstream::Upstream,
};

pub use entry::Entry;
pub use grammar::SessionId;
pub use probe::{ProbeRoom, Probes};
pub use session::Session;
pub use sessions::{Elsewhere, Given, News, Reach, Replicas, Sessions, Watch, sweep_forever};
pub use shared_limits::SharedLimits;

/// What a fallback listener of one config generation does with a connection.
#[derive(Debug)]
pub struct Door {
    name: String,
    entrance: Entrance,
    upstream: Arc<Upstream>,
    admission: AdmissionConfig,
    persistence: PersistentConnection,
    timeouts: TimeoutsConfig,
    /// None is off.
    slow_node_notice: Option<Duration>,
    /// Zero is off.
    node_grace: Duration,
    /// None where nodes are spoken to in the clear.
    node_tls: Option<ClientTls>,
    engine: engine::Engine,
    sessions: Arc<Sessions>,
    entry: Arc<Entry>,
    own: Arc<entry::OfDoor>,
    /// None where doctors are not answered.
    probes: Option<probe::OfListener>,
    metrics: Arc<ListenerMetrics>,
    drain: CancellationToken,
}

impl Door {
    /// Builds the door of a listener; reads its certificates, opens no socket. New sessions are
    /// refused once `drain` is cancelled.
    pub fn build(
        config: &ListenerConfig,
        top: &Config,
        upstream: (&UpstreamConfig, Arc<Upstream>),
        (sessions, entry, probes): (Arc<Sessions>, Arc<Entry>, Option<Probes>),
        metrics: &Metrics,
        bandwidth: Bandwidth,
        drain: CancellationToken,
    ) -> Result<Door, TlsError> {
        let own = metrics.listener(&config.name);
        let node_tls = match upstream.0.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(ClientTls::build(&upstream.0.tls.clone().unwrap_or_default())?),
        };
        Ok(Door {
            name: config.name.clone(),
            entrance: Entrance::build(config, &top.timeouts, metrics)?,
            engine: engine::Engine::new(config, upstream.0, bandwidth, own.added_latency(), sessions.clone()),
            upstream: upstream.1,
            admission: config.admission.clone(),
            persistence: config.persistence(),
            timeouts: top.timeouts.clone(),
            slow_node_notice: config.slow_node_notice,
            node_grace: upstream.0.node_grace,
            node_tls,
            sessions,
            own: entry.door(&config.name),
            entry,
            probes: probes.map(|probes| probe::OfListener::new(probes, metrics.probes(&config.name))),
            metrics: own,
            drain,
        })
    }

    /// Exports when its certificates end, from the time on when they are served.
    pub fn show_certificates(&self, metrics: &Metrics) {
        self.entrance.show_certificates(metrics);
    }

    /// The first name of each of its certificates, and when it ends, in Unix seconds.
    pub fn certificates(&self) -> Vec<(String, i64)> {
        self.entrance.certificates()
    }

    /// The listener's series.
    pub fn metrics(&self) -> &ListenerMetrics {
        &self.metrics
    }

    /// Serves one accepted connection to its end.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, mut guest: Guest) {
        let _active = self.metrics.connection();
        let entered = self.entrance.enter(stream, peer, |client| guest.name(client)).await;
        let Some((transport, client)) = entered else { return };
        connection::serve(self, Airlock::new(transport), client, guest).await;
    }
}
