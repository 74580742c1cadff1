//! The way in: from an accepted connection to a client and its bytes.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::net::TcpStream;

use super::{
    Transport,
    proxy_protocol::Fronts,
    tcp::{self, Conn},
    tls::{ServerTls, TlsError},
};
use crate::{
    config::{ListenerConfig, TimeoutsConfig},
    telemetry::{HandshakeResult, ListenerMetrics, Metrics, Reason},
};

/// What a listener does with a connection before anything is read of it: the header of a trusted front, then TLS.
#[derive(Debug)]
pub struct Entrance {
    name: String,
    tls: Option<ServerTls>,
    fronts: Fronts,
    timeouts: TimeoutsConfig,
    metrics: Arc<ListenerMetrics>,
}

impl Entrance {
    /// The entrance of a listener; reads its certificates, opens no socket.
    ///
    /// # Errors
    /// The listener's certificate, key or CA file is unusable.
    pub fn build(config: &ListenerConfig, timeouts: &TimeoutsConfig, metrics: &Metrics) -> Result<Entrance, TlsError> {
        Ok(Entrance {
            name: config.name.clone(),
            tls: config.tls.as_ref().map(ServerTls::build).transpose()?,
            fronts: Fronts::new(config),
            timeouts: timeouts.clone(),
            metrics: metrics.listener(&config.name),
        })
    }

    /// Whether TLS ends here.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The fronts that may name their clients.
    pub fn fronts(&self) -> &Fronts {
        &self.fronts
    }

    /// Exports when the certificates end, from the time on when they are served.
    pub fn show_certificates(&self, metrics: &Metrics) {
        for (name, not_after) in self.certificates() {
            metrics.certificate_not_after.with_label_values(&[self.name.as_str(), name.as_str()]).set(not_after as f64);
        }
    }

    /// The first name of each certificate, and when it ends, in Unix seconds.
    pub fn certificates(&self) -> Vec<(String, i64)> {
        self.tls.iter().flat_map(ServerTls::expiries).collect()
    }

    /// Lets a new connection in: its bytes, and who the client is. Nothing where that fails, which is counted. Whom a
    /// front names must be admitted before anything else is read.
    pub async fn enter(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        admit: impl FnOnce(IpAddr) -> Result<(), Reason>,
    ) -> Option<(Transport, SocketAddr)> {
        let (mut conn, peer) = (Conn::new(stream), tcp::canonical(peer));
        let client = match self.fronts.client(&mut conn, peer, self.timeouts.request_head).await {
            Ok(client) => client,
            Err(error) => {
                self.metrics.refusal(Reason::ProxyProtocol);
                tracing::debug!(listener = self.name, reason = %Reason::ProxyProtocol, %error, "No PROXY header.");
                return None;
            }
        };
        if client != peer
            && let Err(reason) = admit(client.ip())
        {
            self.metrics.refusal(reason);
            tracing::debug!(listener = self.name, %reason, client = %client.ip(), "A front's client is refused.");
            return None;
        }
        let Some(tls) = &self.tls else { return Some((Transport::Plain(conn), client)) };
        match tls.accept(conn, self.timeouts.tls_handshake).await {
            Ok(tls) => {
                self.metrics.handshake(HandshakeResult::Ok);
                Some((Transport::Tls(Box::new(tls)), client))
            }
            Err(error) => {
                self.refuse_handshake(&error);
                None
            }
        }
    }

    fn refuse_handshake(&self, error: &io::Error) {
        let (result, reason) = match error.kind() {
            io::ErrorKind::TimedOut => (HandshakeResult::Timeout, Reason::TlsTimeout),
            _ => (HandshakeResult::Failed, Reason::TlsHandshake),
        };
        self.metrics.handshake(result);
        self.metrics.refusal(reason);
        tracing::debug!(listener = self.name, %reason, %error, "No TLS with a client.");
    }
}
