//! The kinds of door there can be behind a listener.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{generation::BuildError, parts::Parts};
use crate::{
    config::{Config, ListenerConfig, Protocol, UpstreamConfig},
    fallback,
    relay::{ControlDoor, DataDoor},
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
}

impl Door {
    /// Exports when the certificates end that are now served.
    pub(super) fn show_certificates(&self, metrics: &Metrics) {
        if let Door::Stream(StreamDoor::Fallback(door)) = self {
            door.show_certificates(metrics);
        }
    }

    /// Builds the door of a listener; reads its certificates, opens no socket. Only a forward proxy has no upstream.
    pub(super) fn build(
        config: &ListenerConfig,
        top: &Config,
        upstream: Option<(&UpstreamConfig, Arc<Upstream>)>,
        parts: &Parts,
        drain: CancellationToken,
    ) -> Result<Door, BuildError> {
        let listener = || config.name.clone();
        let upstream = || {
            upstream
                .ok_or_else(|| BuildError::Upstream { listener: listener(), upstream: config.leads_to().to_owned() })
        };
        Ok(match config.protocol {
            Protocol::Https | Protocol::Http => {
                let sessions = parts.sessions.clone();
                let door = fallback::Door::build(config, top, upstream()?, sessions, &parts.metrics, drain)
                    .map_err(|source| BuildError::Tls { listener: listener(), source })?;
                Door::Stream(StreamDoor::Fallback(Arc::new(door)))
            }
            Protocol::Tcp => {
                let shared = parts.control.clone();
                let door = ControlDoor::build(config, top, upstream()?.1, &parts.metrics, shared, drain);
                Door::Stream(StreamDoor::Control(Arc::new(door)))
            }
            Protocol::Udp => {
                let log = parts.access_log.clone();
                let flows = parts.flows.clone();
                Door::Data(Arc::new(DataDoor::build(config, upstream()?.1, flows, &parts.metrics, log)))
            }
            // TEMPORARY: `StreamDoor::Forward` with a `forward::Door` comes here.
            Protocol::ForwardProxy => return Err(BuildError::Forward { listener: listener() }),
        })
    }
}

impl StreamDoor {
    /// The listener's series.
    pub(super) fn metrics(&self) -> &ListenerMetrics {
        match self {
            StreamDoor::Fallback(door) => door.metrics(),
            StreamDoor::Control(door) => door.metrics(),
        }
    }

    /// Serves one accepted connection to its end.
    pub(super) async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        match self {
            StreamDoor::Fallback(door) => door.serve(stream, peer).await,
            StreamDoor::Control(door) => door.serve(stream, peer).await,
        }
    }
}
