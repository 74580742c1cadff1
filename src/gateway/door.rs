//! The kinds of door there can be behind a listener.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{generation::BuildError, parts::Parts};
use crate::{
    config::{Config, ListenerConfig, Protocol, UpstreamConfig},
    fallback, forward,
    limit::{Guest, OfListener, Places},
    net::{dns::Resolver, probe::Secret, tcp},
    relay::{ControlDoor, DataDoor, Probes},
    telemetry::{ListenerMetrics, Metrics},
    upstream::Upstream,
};

/// What serves a listener.
#[derive(Debug, Clone)]
pub(super) enum Door {
    /// It takes connections.
    Stream(StreamDoor),
    /// It takes datagrams.
    Data(Arc<DataDoor>),
}

/// What serves connections.
#[derive(Debug, Clone)]
pub(super) enum StreamDoor {
    Fallback(Arc<fallback::Door>),
    Control(Arc<ControlDoor>),
    Forward(Arc<forward::Door>),
}

/// A door with what holds for the connections to it.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    pub(super) door: StreamDoor,
    own: OfListener,
    fronts: Vec<IpNet>,
}

impl Behind {
    pub(super) fn new(door: StreamDoor, config: &ListenerConfig) -> Behind {
        let own = OfListener::connections(&config.name, &config.limits);
        Behind { door, own, fronts: config.trusted_proxies.clone() }
    }

    /// Takes a place for a connection, or closes it with a word that is counted.
    pub(super) fn admit(&self, places: &Places, peer: SocketAddr) -> Option<Guest> {
        let peer = tcp::canonical(peer).ip();
        let is_front = self.fronts.iter().any(|net| net.contains(&peer));
        let admitted = places.admit(&self.own, (!is_front).then_some(peer));
        let refused = |reason| {
            self.door.metrics().refusal(reason);
            tracing::debug!(client = %peer, %reason, "A connection is refused.");
        };
        admitted.map_err(refused).ok()
    }
}

/// What a door stands on: a forward proxy on a policy and a resolver, all others on an upstream.
pub(super) struct Ground<'a> {
    pub(super) upstream: Option<(&'a UpstreamConfig, Arc<Upstream>)>,
    pub(super) policy: Option<(Arc<forward::Rules>, Arc<Resolver>)>,
    pub(super) secret: Option<Arc<Secret>>,
}

impl Door {
    /// Exports when the certificates end that are now served.
    pub(super) fn show_certificates(&self, metrics: &Metrics) {
        match self {
            Door::Stream(StreamDoor::Fallback(door)) => door.show_certificates(metrics),
            Door::Stream(StreamDoor::Forward(door)) => door.show_certificates(metrics),
            Door::Stream(StreamDoor::Control(_)) | Door::Data(_) => {}
        }
    }

    /// The first name of each certificate, and when it ends, in Unix seconds.
    pub(super) fn certificates(&self) -> Vec<(String, i64)> {
        match self {
            Door::Stream(StreamDoor::Fallback(door)) => door.certificates(),
            Door::Stream(StreamDoor::Forward(door)) => door.certificates(),
            Door::Stream(StreamDoor::Control(_)) | Door::Data(_) => Vec::new(),
        }
    }

    /// Builds the door of a listener; reads its certificates, opens no socket.
    pub(super) fn build(
        config: &ListenerConfig,
        top: &Config,
        ground: Ground<'_>,
        parts: &Parts,
        drain: CancellationToken,
    ) -> Result<Door, BuildError> {
        let listener = || config.name.clone();
        let upstream = || {
            let missing = || BuildError::Upstream { listener: listener(), upstream: config.leads_to().to_owned() };
            ground.upstream.ok_or_else(missing)
        };
        let tls = |source| BuildError::Tls { listener: listener(), source };
        Ok(match config.protocol {
            Protocol::Https | Protocol::Http => {
                let (heard, room) = (parts.heard.clone(), parts.probing.clone());
                let probes = ground.secret.clone().map(|secret| fallback::Probes { secret, heard, room });
                let sessions = (parts.sessions.clone(), parts.entry.clone(), probes);
                let (metrics, bandwidth) = (&parts.metrics, parts.bandwidth.clone());
                let door = fallback::Door::build(config, top, upstream()?, sessions, metrics, bandwidth, drain);
                let door = door.map_err(tls)?;
                Door::Stream(StreamDoor::Fallback(Arc::new(door)))
            }
            Protocol::Tcp => {
                let shared = parts.control.clone();
                let door = ControlDoor::build(config, top, upstream()?.1, &parts.metrics, shared, drain);
                Door::Stream(StreamDoor::Control(Arc::new(door)))
            }
            Protocol::Udp => {
                let told = (parts.access_log.clone(), parts.live.clone());
                let limits = (parts.flows.clone(), parts.bandwidth.clone());
                let probes = ground.secret.clone().map(|secret| Probes { secret, heard: parts.heard.clone() });
                let upstream = upstream()?.1;
                Door::Data(Arc::new(DataDoor::build(config, upstream, limits, &parts.metrics, told, probes)))
            }
            Protocol::ForwardProxy => {
                let missing = || BuildError::Policy { listener: listener(), policy: config.leads_to().to_owned() };
                let ground = ground.policy.ok_or_else(missing)?;
                let shared = parts.forward.clone();
                let door = forward::Door::build(config, top, ground, &parts.metrics, shared, drain).map_err(tls)?;
                Door::Stream(StreamDoor::Forward(Arc::new(door)))
            }
        })
    }
}

impl StreamDoor {
    /// The listener's series.
    pub(super) fn metrics(&self) -> &ListenerMetrics {
        match self {
            StreamDoor::Fallback(door) => door.metrics(),
            StreamDoor::Control(door) => door.metrics(),
            StreamDoor::Forward(door) => door.metrics(),
        }
    }

    /// Serves one accepted connection to its end; `current` is what stands behind its listener at any time.
    pub(super) async fn serve(self, stream: TcpStream, peer: SocketAddr, guest: Guest, current: Arc<ArcSwap<Behind>>) {
        // Boxed, so that no door's connections have the size of another's.
        match self {
            StreamDoor::Fallback(door) => Box::pin(door.serve(stream, peer, guest)).await,
            StreamDoor::Control(door) => Box::pin(door.serve(stream, peer, guest)).await,
            StreamDoor::Forward(door) => {
                let now = move || match &current.load().door {
                    StreamDoor::Forward(door) => Some(door.clone()),
                    _ => None,
                };
                Box::pin(door.serve(stream, peer, guest, now)).await;
            }
        }
    }
}
