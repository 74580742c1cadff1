//! What outlives a reload: metrics, sessions, the access log, and limits that change in place.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::{
    config::Config,
    fallback::{Entry, ProbeRoom, Sessions},
    forward::{self, address::OwnAddresses},
    limit::{Bandwidth, ConnectionLimit, FlowLimit, Maxima, Places, TunnelLimit},
    net::{files, interfaces, probe::Heard, shortage::Shortage},
    relay,
    telemetry::{AccessLog, Limit, Live, Metrics, Spans},
    tunnel::PipePool,
    upstream::Upstream,
};

/// Pipes of control connections and tunnels that move bulk at the same time; further ones copy.
const PIPES: usize = 64;
/// What a pipe holds, in bytes, where the system allows it.
const PIPE_ROOM: usize = 1024 * 1024;

/// Shared by all generations.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: AccessLog,
    /// What is open now.
    pub(super) live: Live,
    pub(super) sessions: Arc<Sessions>,
    /// What fallback sessions are let in by.
    pub(super) entry: Arc<Entry>,
    pub(super) places: Places,
    pub(super) shortage: Arc<Shortage>,
    pub(super) flows: FlowLimit,
    /// Probes of doctors, so that a reload lets none be answered twice.
    pub(super) heard: Arc<Mutex<Heard>>,
    /// Those that fallback doors are answering.
    pub(super) probing: ProbeRoom,
    pub(super) bandwidth: Bandwidth,
    pub(super) control: relay::control::Shared,
    pub(super) forward: forward::Shared,
    /// Cancelled: every control connection, tunnel and exchange of a forward proxy is cut.
    pub(super) cut: CancellationToken,
    pub(super) session_idle: LiveDuration,
}

impl Parts {
    /// `label_key` hides the ids of sessions as another process does.
    pub(super) fn new(config: &Config, label_key: Option<(u64, u64)>) -> Result<Parts, StartError> {
        let metrics = Arc::new(Metrics::new().map_err(StartError::Metrics)?);
        let access_log = AccessLog::open(&config.access_log)
            .map_err(|source| StartError::AccessLog { path: config.access_log.path.clone(), source })?
            .counting_drops(metrics.access_log_dropped.clone())
            .with_spans(Spans::open(config.log.otlp_endpoint.as_deref())?);
        let bandwidth = Bandwidth::new(config);
        let throttled = bandwidth.clone();
        metrics.read_throttled(move |scope, direction| throttled.throttled(scope, direction));
        let live = Live::default();
        let (pipes, cut) = (PipePool::new(PIPES, PIPE_ROOM), CancellationToken::new());
        let entry = Arc::new(Entry::new(&config.limits));
        let connections = ConnectionLimit::new(Maxima::of_connections(&config.limits));
        let parts = Parts {
            metrics,
            sessions: Arc::new(Sessions::new(access_log.clone(), live.clone(), label_key)),
            places: Places { connections, sessions: entry.sessions().clone() },
            entry,
            shortage: Arc::default(),
            heard: Arc::default(),
            probing: ProbeRoom::default(),
            flows: FlowLimit::new(config.limits.max_udp_flows, config.limits.max_udp_flows_per_client),
            control: relay::control::Shared {
                pipes: pipes.clone(),
                bandwidth: bandwidth.clone(),
                access_log: access_log.clone(),
                live: live.clone(),
                cut: cut.clone(),
            },
            forward: forward::Shared {
                pipes,
                bandwidth: bandwidth.clone(),
                access_log: access_log.clone(),
                live: live.clone(),
                cut: cut.clone(),
                tunnels: TunnelLimit::new(Maxima::of_tunnels(&config.limits)),
                own: Arc::default(),
                recents: forward::Recents::default(),
                outgoing: forward::Outgoing::default(),
            },
            bandwidth,
            cut,
            access_log,
            live,
            session_idle: LiveDuration::new(config.timeouts.session_idle),
        };
        parts.show_limits();
        Ok(parts)
    }

    /// Lets the metrics tell how much of each limit is used.
    fn show_limits(&self) {
        let (connections, tunnels) = (self.places.connections.clone(), self.forward.tunnels.clone());
        let (sessions, flows) = (self.places.sessions.clone(), self.flows.clone());
        // It knows the upstreams, and they the metrics.
        let entry = Arc::downgrade(&self.entry);
        self.metrics.read_limits(move |limit| match limit {
            Limit::MaxConnections => (connections.max().map(u64::from), connections.open().into()),
            Limit::MaxSessions => (sessions.max().map(u64::from), sessions.open().into()),
            Limit::MaxWaiting => entry.upgrade().map_or((None, 0), |entry| {
                let (max, now) = entry.waiting();
                (Some(max.into()), now.into())
            }),
            Limit::MaxUdpFlows => (Some(flows.max().into()), flows.open().into()),
            Limit::MaxTunnels => (tunnels.max().map(u64::from), tunnels.open().into()),
            Limit::OpenFiles => (files::limit(), files::open()),
        });
    }

    /// What the gateway listens on from now on.
    pub(super) fn set_own(&self, listeners: Vec<SocketAddr>, admin: Option<SocketAddr>) {
        self.forward.own.store(Arc::new(OwnAddresses { listeners, admin, local: interfaces::addresses() }));
    }

    /// Looks which addresses this host has now.
    pub(super) fn look_around(&self) {
        let local = interfaces::addresses();
        if self.forward.own.load().local != local {
            self.forward.own.rcu(|own| OwnAddresses { local: local.clone(), ..OwnAddresses::clone(own) });
        }
    }

    /// Has all that lives on go by this config.
    pub(super) fn apply(&self, config: &Config, upstreams: &HashMap<String, Arc<Upstream>>) {
        self.entry.apply(config, upstreams);
        self.places.connections.set(Maxima::of_connections(&config.limits));
        self.flows.set_max(config.limits.max_udp_flows, config.limits.max_udp_flows_per_client);
        self.bandwidth.apply(config);
        self.forward.tunnels.set(Maxima::of_tunnels(&config.limits));
        self.session_idle.set(config.timeouts.session_idle);
    }
}

/// A duration that a reload may change under its readers.
#[derive(Debug, Clone)]
pub(super) struct LiveDuration(Arc<AtomicU64>);

impl LiveDuration {
    fn new(value: Duration) -> LiveDuration {
        let live = LiveDuration(Arc::default());
        live.set(value);
        live
    }

    fn set(&self, value: Duration) {
        self.0.store(u64::try_from(value.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}
