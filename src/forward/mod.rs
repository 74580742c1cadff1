//! The door of the forward proxy, for clients behind a firewall (docs/protocol.md, "Forward proxies").
//!
//! `connection` is the story of a request: the airlock reads its head, `login` says who asks, `target` for what,
//! `reach` asks the `policy`, finds addresses and connects, through the `parent` if there is one. A CONNECT becomes a
//! tunnel (`connect`); any other request is passed on byte for byte (`exchange`). What is refused is answered in `answer`.
//!
//! `target`, `address`, `policy` and `auth` are pure: they open no socket, ask no resolver and look at no clock.

pub mod address;
mod answer;
pub mod auth;
mod connect;
mod connection;
mod exchange;
mod login;
mod outgoing;
mod parent;
pub mod policy;
mod reach;
mod recent;
mod record;
mod request;
pub mod target;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::{address::OwnAddresses, outgoing::Link, recent::Recent};
use crate::{
    config::{Config, ListenerConfig, TimeoutsConfig},
    limit::{Bandwidth, Guest, OfListener, TunnelLimit},
    net::{dns::Resolver, entrance::Entrance, tls::TlsError},
    telemetry::{AccessLog, ListenerMetrics, Live, Metrics, TunnelMetrics},
    tunnel::PipePool,
};

pub use self::{
    login::{Rules, RulesError},
    outgoing::Outgoing,
    recent::Recents,
};

/// What the doors of all generations share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Pipes for bulk.
    pub pipes: PipePool,
    /// How fast bytes may go.
    pub bandwidth: Bandwidth,
    /// Where the record of each tunnel and request goes.
    pub access_log: AccessLog,
    /// Where each is shown as long as it stands.
    pub live: Live,
    /// Cancelled: every tunnel is cut.
    pub cut: CancellationToken,
    /// How many tunnels there may be.
    pub tunnels: TunnelLimit,
    /// What the gateway itself listens on now.
    pub own: Arc<ArcSwap<OwnAddresses>>,
    /// Who was connected to what of late.
    pub recents: Recents,
    /// Connections that were opened from here.
    pub outgoing: Outgoing,
}

/// What a forward proxy of one config generation does with a connection.
#[derive(Debug)]
pub struct Door {
    name: String,
    entrance: Entrance,
    rules: Arc<Rules>,
    resolver: Arc<Resolver>,
    timeouts: TimeoutsConfig,
    metrics: Arc<ListenerMetrics>,
    tunnels: TunnelMetrics,
    recent: Recent,
    of_listener: OfListener,
    shared: Shared,
    drain: CancellationToken,
}

impl Door {
    /// Builds the door of a listener; reads its certificates, opens no socket. New tunnels are refused once `drain` is
    /// cancelled.
    ///
    /// # Errors
    /// The listener's certificate, key or CA file is unusable.
    pub fn build(
        config: &ListenerConfig,
        top: &Config,
        (rules, resolver): (Arc<Rules>, Arc<Resolver>),
        metrics: &Metrics,
        shared: Shared,
        drain: CancellationToken,
    ) -> Result<Door, TlsError> {
        Ok(Door {
            name: config.name.clone(),
            entrance: Entrance::build(config, &top.timeouts, metrics)?,
            rules,
            resolver,
            timeouts: top.timeouts.clone(),
            metrics: metrics.listener(&config.name),
            tunnels: metrics.tunnels(&config.name),
            recent: shared.recents.of(&config.name),
            of_listener: OfListener::tunnels(&config.name, &config.limits),
            shared,
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

    /// Serves one accepted connection to its end. `now` gives the listener's door of this moment, by which each request
    /// is judged: a client that stays does not keep a policy that is gone.
    pub async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        mut guest: Guest,
        now: impl Fn() -> Option<Arc<Door>> + Send + Sync,
    ) {
        let _active = self.metrics.connection();
        let link = Link::incoming(&stream);
        // Boxed, so that a tunnel does not hold the room that its beginning needed.
        let entering = self.entrance.enter(stream, peer, |client| guest.name(client));
        let Some((transport, client)) = Box::pin(entering).await else { return };
        if let Some(tunnel) = Box::pin(connection::serve(self, transport, (client, link), now)).await {
            tunnel.run().await;
        }
    }
}
