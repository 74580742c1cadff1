//! What outlives a reload: metrics, sessions, the access log, and limits that change in place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::{
    config::Config,
    fallback::Sessions,
    limit::{ConnectionLimit, FlowLimit, Maxima},
    relay,
    telemetry::{AccessLog, Metrics},
    tunnel::PipePool,
};

/// Pipes of control connections that move bulk at the same time; further ones copy.
const PIPES: usize = 64;
/// What a pipe holds, in bytes, where the system allows it.
const PIPE_ROOM: usize = 1024 * 1024;

/// Shared by all generations.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: AccessLog,
    pub(super) sessions: Arc<Sessions>,
    pub(super) connections: ConnectionLimit,
    pub(super) flows: FlowLimit,
    pub(super) control: relay::control::Shared,
    pub(super) session_idle: LiveDuration,
}

impl Parts {
    pub(super) fn new(config: &Config) -> Result<Parts, StartError> {
        let metrics = Arc::new(Metrics::new().map_err(StartError::Metrics)?);
        let access_log = AccessLog::open(&config.access_log)
            .map_err(|source| StartError::AccessLog { path: config.access_log.path.clone(), source })?;
        Ok(Parts {
            metrics,
            sessions: Arc::new(Sessions::new(access_log.clone())),
            connections: ConnectionLimit::new(Maxima::of_connections(&config.limits)),
            flows: FlowLimit::new(config.limits.max_udp_flows, config.limits.max_udp_flows_per_client),
            control: relay::control::Shared {
                pipes: PipePool::new(PIPES, PIPE_ROOM),
                access_log: access_log.clone(),
                cut: CancellationToken::new(),
            },
            access_log,
            session_idle: LiveDuration::new(config.timeouts.session_idle),
        })
    }

    pub(super) fn apply(&self, config: &Config) {
        self.connections.set(Maxima::of_connections(&config.limits));
        self.flows.set_max(config.limits.max_udp_flows, config.limits.max_udp_flows_per_client);
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
