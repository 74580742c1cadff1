//! The fallback door: every HTTP(S) fallback session runs through here.
//!
//! `connection` is the story of a request: the airlock reads its head, `grammar` says what it is,
//! `body` and `token` what a start may do, `sessions` where a later request belongs, and `engine`
//! carries it to its node. What is refused is answered in `answer`; nothing of it reaches a node.

mod admission;
mod answer;
pub mod body;
mod connection;
mod engine;
mod exchange;
pub mod forwarded;
pub mod grammar;
pub mod guard;
mod headers;
mod node_conn;
mod node_head;
mod session;
mod sessions;
mod stream;
pub mod target;
pub mod token;
mod watch;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{AdmissionConfig, Config, ListenerConfig, PersistentConnection, TimeoutsConfig, UpstreamConfig},
    net::{
        Transport,
        http1::Airlock,
        proxy_protocol::Fronts,
        tcp::{self, Conn},
        tls::{ServerTls, TlsError},
    },
    telemetry::{HandshakeResult, ListenerMetrics, Metrics, Reason},
    upstream::Upstream,
};

pub use session::Session;
pub use sessions::{Sessions, sweep_forever};

/// What a fallback listener of one config generation does with a connection.
#[derive(Debug)]
pub struct Door {
    name: String,
    tls: Option<ServerTls>,
    upstream: Arc<Upstream>,
    admission: AdmissionConfig,
    persistence: PersistentConnection,
    timeouts: TimeoutsConfig,
    /// None is off.
    slow_node_notice: Option<Duration>,
    fronts: Fronts,
    engine: engine::Engine,
    sessions: Arc<Sessions>,
    metrics: ListenerMetrics,
    drain: CancellationToken,
}

impl Door {
    /// Builds the door of a listener; reads its certificates, opens no socket. New sessions are
    /// refused once `drain` is cancelled.
    pub fn build(
        config: &ListenerConfig,
        top: &Config,
        upstream: (&UpstreamConfig, Arc<Upstream>),
        sessions: Arc<Sessions>,
        metrics: &Metrics,
        drain: CancellationToken,
    ) -> Result<Door, TlsError> {
        let tls = config.tls.as_ref().map(ServerTls::build).transpose()?;
        Ok(Door {
            name: config.name.clone(),
            tls,
            engine: engine::Engine::new(config, upstream.0, top)?,
            upstream: upstream.1,
            admission: config.admission.clone(),
            persistence: config.persistence(),
            timeouts: top.timeouts.clone(),
            slow_node_notice: config.slow_node_notice,
            fronts: Fronts::new(config),
            sessions,
            metrics: metrics.listener(&config.name),
            drain,
        })
    }

    /// Exports when its certificates end, from the time on when they are served.
    pub fn show_certificates(&self, metrics: &Metrics) {
        for (name, not_after) in self.tls.iter().flat_map(ServerTls::expiries) {
            metrics.certificate_not_after.with_label_values(&[self.name.as_str(), name.as_str()]).set(not_after as f64);
        }
    }

    /// The listener's series.
    pub fn metrics(&self) -> &ListenerMetrics {
        &self.metrics
    }

    /// Serves one accepted connection to its end.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let _active = self.metrics.connection();
        let mut conn = Conn::new(stream);
        let peer = tcp::canonical(peer);
        let client = match self.fronts.client(&mut conn, peer, self.timeouts.request_head).await {
            Ok(client) => client,
            Err(error) => {
                self.metrics.refusal(Reason::ProxyProtocol);
                tracing::debug!(listener = self.name, reason = %Reason::ProxyProtocol, %error, "No PROXY header.");
                return;
            }
        };
        let transport = match &self.tls {
            None => Transport::Plain(conn),
            Some(tls) => match tls.accept(conn, self.timeouts.tls_handshake).await {
                Ok(tls) => {
                    self.metrics.handshake(HandshakeResult::Ok);
                    Transport::Tls(Box::new(tls))
                }
                Err(error) => return self.refuse_handshake(&error),
            },
        };
        connection::serve(self, Airlock::new(transport), client).await;
    }

    fn refuse_handshake(&self, error: &io::Error) {
        let (result, reason) = match error.kind() {
            io::ErrorKind::TimedOut => (HandshakeResult::Timeout, Reason::TlsTimeout),
            _ => (HandshakeResult::Failed, Reason::TlsHandshake),
        };
        self.metrics.handshake(result);
        self.metrics.refusal(reason);
        tracing::debug!(listener = self.name, reason = %reason, %error, "No TLS with a client.");
    }
}
