//! All that one config amounts to, sockets apart.

use std::{collections::HashMap, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use crate::{
    config::{Config, ListenerConfig, Scheme, UpstreamConfig},
    fallback::Door,
    net::{
        tls::{ServerTls, TlsError},
        tls_client::ClientTls,
    },
    upstream::{Checks, Upstream},
};

/// Why a valid config cannot be built: something that it names is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A listener's certificate, key or CA file is unusable.
    #[error("listener {listener}: {source}")]
    Tls {
        /// The listener.
        listener: String,
        /// Which file, and why.
        source: TlsError,
    },
    /// The certificates of an upstream's nodes cannot be verified.
    #[error("upstream {upstream}: {source}")]
    Roots {
        /// The upstream.
        upstream: String,
        /// Which file, and why.
        source: TlsError,
    },
    /// The listener names no upstream; the config's own rules keep that from happening.
    #[error("listener {listener}: there is no upstream {upstream}")]
    Upstream {
        /// The listener.
        listener: String,
        /// What it names.
        upstream: String,
    },
}

/// The doors and upstreams of one config.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) config: Config,
    pub(super) upstreams: HashMap<String, Arc<Upstream>>,
    /// By the listener's name, with the token that tells the door to take no new session.
    pub(super) doors: HashMap<String, (Arc<Door>, CancellationToken)>,
    /// Only the running config's nodes are checked.
    _checks: Vec<Checks>,
}

impl Generation {
    /// Builds doors and upstreams; health and leases of nodes that stay where they are go on.
    pub(super) fn build(config: Config, parts: &Parts, before: Option<&Generation>) -> Result<Generation, BuildError> {
        check(&config)?;
        let upstreams: HashMap<_, _> = config
            .upstreams
            .iter()
            .map(|u| {
                let old = before.and_then(|b| b.upstreams.get(&u.name));
                (u.name.clone(), Arc::new(Upstream::build(u, old.map(Arc::as_ref), &parts.metrics)))
            })
            .collect();
        let mut doors = HashMap::new();
        for listener in &config.listeners {
            let named = config.upstreams.iter().find(|u| u.name == listener.upstream);
            let upstream = named.zip(upstreams.get(&listener.upstream).cloned()).ok_or_else(|| {
                BuildError::Upstream { listener: listener.name.clone(), upstream: listener.upstream.clone() }
            })?;
            let drain = before.and_then(|b| b.drain_of(listener)).unwrap_or_default();
            let door = Door::build(listener, &config, upstream, parts.sessions.clone(), &parts.metrics, drain.clone())
                .map_err(|source| BuildError::Tls { listener: listener.name.clone(), source })?;
            doors.insert(listener.name.clone(), (Arc::new(door), drain));
        }
        let mut checks = Vec::new();
        for upstream in &config.upstreams {
            let tls = node_tls(upstream)?;
            if let Some(built) = upstreams.get(&upstream.name) {
                checks.push(Checks::start(&upstream.health_check, built, tls.as_ref()));
            }
        }
        Ok(Generation { config, upstreams, doors, _checks: checks })
    }

    /// The token of a listener that stays at its address: connections of all its doors hear of a drain.
    fn drain_of(&self, listener: &ListenerConfig) -> Option<CancellationToken> {
        let stays = |l: &&ListenerConfig| l.name == listener.name && l.address == listener.address;
        self.config.listeners.iter().find(stays)?;
        self.doors.get(&listener.name).map(|(_, drain)| drain.clone())
    }

    /// Whether the first check of every node has ended.
    pub(super) fn is_known(&self) -> bool {
        self.upstreams.values().all(|u| u.is_known())
    }
}

/// Reads everything that the config names.
pub(super) fn check(config: &Config) -> Result<(), BuildError> {
    for listener in &config.listeners {
        if let Some(tls) = &listener.tls {
            ServerTls::build(tls).map_err(|source| BuildError::Tls { listener: listener.name.clone(), source })?;
        }
    }
    config.upstreams.iter().try_for_each(|upstream| node_tls(upstream).map(drop))
}

/// How the nodes of an upstream are spoken to over TLS, if they are.
fn node_tls(upstream: &UpstreamConfig) -> Result<Option<ClientTls>, BuildError> {
    if upstream.scheme == Scheme::Http {
        return Ok(None);
    }
    ClientTls::build(&upstream.tls.clone().unwrap_or_default())
        .map(Some)
        .map_err(|source| BuildError::Roots { upstream: upstream.name.clone(), source })
}
