//! The Prometheus families, built once and handed down; there is no global registry.
//!
//! Label values are configured names and words of [`super::labels`], so the number of series is
//! bounded by the config and the code; what a reload took out of the config is forgotten (`super::known`). What is
//! counted on every request or chunk is resolved to its series when a listener is built ([`ListenerMetrics`]), and what
//! is counted of a node when its upstream is.

use std::{sync::Arc, time::Duration};

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use super::{
    answered::Answered,
    families::{Families, Family},
    kept::{KeptNow, KeptState},
    known::ADMIN,
    labels::{
        ControlOutcome, Direction, DropReason, Finding, FlowOutcome, HandshakeResult, Limit, NodeWait, Outcome,
        ProbeResult, Reason, Scope, TunnelOutcome,
    },
    limits::Limits,
    refusals::{OfListener, RefusalSeen, Refusals},
    series::{DataMetrics, ListenerMetrics, ProbeMetrics, TunnelMetrics},
    throttled::Throttled,
};

/// Seconds; a session may last a night.
const DURATIONS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0];
/// Seconds; a wait ends with `max_wait`, which is a minute by default.
const WAITS: &[f64] = &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0];
/// Seconds; a connect to a node is a matter of milliseconds until it is not.
const CONNECTS: &[f64] = &[0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0];
/// Seconds; what the gateway adds is a fraction of a millisecond, and a second when it has no processor left.
const ADDED: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// Every family the gateway exports. Fields carry the family's help text as their doc.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    pub(super) connections: IntCounterVec,
    pub(super) connections_active: IntGaugeVec,
    pub(super) tls_handshakes: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) sessions_started: IntCounterVec,
    pub(super) sessions_active: IntGaugeVec,
    pub(super) sessions_finished: IntCounterVec,
    pub(super) session_duration: HistogramVec,
    pub(super) unverified: IntCounterVec,
    pub(super) waiting: IntGaugeVec,
    pub(super) wait: HistogramVec,
    pub(super) node_waits: IntCounterVec,
    pub(super) added: HistogramVec,
    pub(super) files: IntCounterVec,
    pub(super) bytes: IntCounterVec,
    pub(super) refusals: IntCounterVec,
    pub(super) refusals_seen: Refusals,
    pub(super) findings: IntCounterVec,
    pub(super) controls_finished: IntCounterVec,
    pub(super) tunnels: IntCounterVec,
    pub(super) tunnels_active: IntGaugeVec,
    pub(super) flows: IntCounterVec,
    pub(super) flows_active: IntGaugeVec,
    pub(super) flows_finished: IntCounterVec,
    pub(super) datagrams: IntCounterVec,
    pub(super) dropped: IntCounterVec,
    pub(super) icmp_errors: IntCounterVec,
    pub(super) probes: IntCounterVec,
    throttled: Throttled,
    limits: Limits,
    kept: KeptState,
    /// Lines of the access log that its writer could not keep up with, or not write.
    pub access_log_dropped: IntCounter,
    /// Lines of the diagnostics that whoever reads them could not keep up with.
    pub log_dropped: IntCounter,
    /// 1 while a node's port passes its checks, else 0.
    pub(super) node_up: IntGaugeVec,
    /// Sessions that hold a lease on the node.
    pub(super) node_draining: IntGaugeVec,
    pub(super) node_sessions: IntGaugeVec,
    /// Time to open a connection to the node.
    pub(super) node_connect: HistogramVec,
    /// Active checks by result.
    pub(super) health_checks: IntCounterVec,
    /// Node choices by what decided.
    pub(super) node_picks: IntCounterVec,
    /// Lookups of the nodes of an upstream by result.
    pub(super) lookups: IntCounterVec,
    /// Number of the applied config, from 1.
    pub config_generation: IntGauge,
    /// 1 when the last reload was applied, 0 when it was rejected.
    pub config_last_reload_success: IntGauge,
    /// When the last reload was tried, Unix seconds.
    pub config_last_reload_timestamp: Gauge,
    /// When a served certificate ends, Unix seconds.
    pub certificate_not_after: GaugeVec,
}

impl Metrics {
    /// Registers every family; fails only when two families share a name.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let mut all = Families::default();
        let build = all.gauges("build_info", "Always 1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        all.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let f = &mut all;
        Ok(Metrics {
            connections: f.counters("connections_total", "Connections accepted.", &["listener"])?,
            connections_active: f.gauges("connections_active", "Connections open now.", &["listener"])?,
            tls_handshakes: f.counters("tls_handshakes_total", "TLS handshakes by result.", &["listener", "result"])?,
            requests: f.counters(
                "requests_total",
                "Requests answered, by operation and status.",
                &["listener", "operation", "status"],
            )?,
            sessions_started: f.counters(
                "sessions_started_total",
                "Sessions that a node accepted.",
                &["listener", "direction"],
            )?,
            sessions_active: f.gauges("sessions_active", "Sessions open now.", &["listener", "node"])?,
            sessions_finished: f.counters(
                "sessions_finished_total",
                "Sessions ended, by outcome.",
                &["listener", "outcome"],
            )?,
            session_duration: f.histograms(
                "session_duration_seconds",
                "Time from session_start to the session's end.",
                &["listener"],
                DURATIONS,
            )?,
            unverified: f.counters(
                "unverified_requests_total",
                "Requests of sessions that other replicas might know and that could not be asked for: they went by the hash of their id.",
                &["listener"],
            )?,
            waiting: f.gauges("waiting", "Sessions that wait for room now.", &["listener"])?,
            wait: f.histograms(
                "wait_seconds",
                "Time that sessions waited for room, whatever came of it.",
                &["listener"],
                WAITS,
            )?,
            node_waits: f.counters(
                "node_waits_total",
                "Requests that were held because their node could not be reached, by what came of it.",
                &["listener", "result"],
            )?,
            added: f.histograms(
                "added_latency_seconds",
                "Time that the gateway itself adds to a fallback request that meets no trouble, all waits left out.",
                &["listener"],
                ADDED,
            )?,
            files: f.counters(
                "files_total",
                "File requests by whether the node took or gave the file.",
                &["listener", "outcome"],
            )?,
            bytes: f.counters(
                "bytes_total",
                "Bytes of bodies, control connections and datagrams moved for clients.",
                &["listener", "direction"],
            )?,
            refusals: f.counters(
                "refusals_total",
                "Refusals and failures by the word that log and reply carry.",
                &["listener", "reason"],
            )?,
            refusals_seen: Refusals::default(),
            findings: f.counters(
                "guard_findings_total",
                "What was noticed of downloads and let pass.",
                &["listener", "finding"],
            )?,
            tunnels: f.counters(
                "tunnels_total",
                "Tunnels of forward proxies that ended, by outcome.",
                &["listener", "outcome"],
            )?,
            tunnels_active: f.gauges("tunnels_active", "Tunnels of forward proxies open now.", &["listener"])?,
            controls_finished: f.counters(
                "control_connections_finished_total",
                "Control connections that had met their node, by how they ended.",
                &["listener", "outcome"],
            )?,
            flows_active: f.gauges("udp_flows_active", "Flows of data open now.", &["listener"])?,
            flows: f.counters("udp_flows_total", "Flows of data opened.", &["listener"])?,
            flows_finished: f.counters(
                "udp_flows_finished_total",
                "Flows of data ended, by outcome.",
                &["listener", "outcome"],
            )?,
            datagrams: f.counters("udp_datagrams_total", "Datagrams relayed.", &["listener", "direction"])?,
            dropped: f.counters(
                "udp_datagrams_dropped_total",
                "Datagrams that went nowhere, by reason.",
                &["listener", "reason"],
            )?,
            probes: f.counters(
                "doctor_probes_total",
                "Probes of a doctor at a data or fallback port; result says what became of it. All but the answered were met as if there were no secret.",
                &["listener", "result"],
            )?,
            icmp_errors: f.counters(
                "udp_icmp_errors_total",
                "ICMP errors that nodes or the way to them sent back.",
                &["listener"],
            )?,
            throttled: f.add(Throttled::new(
                "throttled_seconds_total",
                "Time that streams waited for caps on bandwidth, added up over all of them.",
            )?)?,
            limits: f.add(Limits::new()?)?,
            kept: f.add(KeptState::new()?)?,
            access_log_dropped: f.counter(
                "access_log_dropped_total",
                "Lines of the access log that were dropped, for its writer could not keep up or could not write.",
            )?,
            log_dropped: f.counter(
                "log_dropped_total",
                "Lines of the log on standard error that were dropped, for its reader could not keep up.",
            )?,
            node_up: f.gauges(
                "node_up",
                "1 while the node's port passes its checks.",
                &["upstream", "node", "port"],
            )?,
            node_draining: f.gauges(
                "node_draining",
                "1 while nothing new goes to the node, by the config or by an operator.",
                &["upstream", "node"],
            )?,
            node_sessions: f.gauges("node_sessions", "Sessions on the node.", &["upstream", "node"])?,
            node_connect: f.histograms(
                "node_connect_seconds",
                "Time to open a connection to the node.",
                &["upstream", "node"],
                CONNECTS,
            )?,
            health_checks: f.counters(
                "health_checks_total",
                "Active health checks by result.",
                &["upstream", "node", "port", "result"],
            )?,
            node_picks: f.counters("node_picks_total", "Node choices by what decided.", &["upstream", "how"])?,
            lookups: f.counters(
                "discovery_lookups_total",
                "Lookups of an upstream's nodes by result.",
                &["upstream", "result"],
            )?,
            config_generation: f.gauge("config_generation", "Number of the applied config, from 1.")?,
            config_last_reload_success: f.gauge("config_last_reload_success", "1 when the last reload was applied.")?,
            config_last_reload_timestamp: f
                .float_gauge("config_last_reload_timestamp_seconds", "When the last reload was tried.")?,
            certificate_not_after: f.float_gauges(
                "tls_certificate_not_after_timestamp_seconds",
                "When the certificate ends.",
                &["listener", "name"],
            )?,
            registry: all.registry,
            families: all.all,
        })
    }

    /// Where it is read how long streams waited for caps on bandwidth.
    pub fn read_throttled(&self, source: impl Fn(Scope, Direction) -> Duration + Send + Sync + 'static) {
        self.throttled.read_from(Box::new(source));
    }

    /// Counts a refusal of the admin door, which is no listener of the config.
    pub fn refused_by_admin(&self, reason: Reason) {
        self.refusals_of(ADMIN).count(reason);
    }

    /// Where it is read what a limit of the whole gateway allows, none where it is off, and what is used of it.
    pub fn read_limits(&self, source: impl Fn(Limit) -> (Option<u64>, u64) + Send + Sync + 'static) {
        self.limits.read_from(Box::new(source));
    }

    /// Where it is read whether the last change of sessions and pins is kept, and how often that failed; none where nothing
    /// is kept.
    pub fn read_kept(&self, source: impl Fn() -> Option<KeptNow> + Send + Sync + 'static) {
        self.kept.read_from(Box::new(source));
    }

    /// Each limit of the whole gateway with what it allows, none where it is off, and what is used of it now.
    pub fn limits(&self) -> Vec<(Limit, Option<u64>, u64)> {
        self.limits.now()
    }

    /// Every reason for which a listener refused, or failed at, anything since it is there.
    pub fn refusals(&self) -> Vec<RefusalSeen> {
        self.refusals_seen.seen()
    }

    fn refusals_of(&self, name: &str) -> Arc<OfListener> {
        self.refusals_seen.of(name, |reason| self.refusals.with_label_values(&[name, reason.as_str()]))
    }

    /// Connections to a listener that are open.
    pub fn connections_open(&self, name: &str) -> u64 {
        u64::try_from(self.connections_active.with_label_values(&[name]).get()).unwrap_or(0)
    }

    /// The text exposition of all families.
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "Metrics could not be encoded.");
        }
        out
    }

    /// All families, `process_*` left out, in the order of their making.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The series of one listener of data, all created at 0.
    pub fn data(&self, name: &str) -> DataMetrics {
        let by = |vec: &IntCounterVec, word: &str| vec.with_label_values(&[name, word]);
        DataMetrics {
            flows: self.flows.with_label_values(&[name]),
            active: self.flows_active.with_label_values(&[name]),
            finished: FlowOutcome::ALL.iter().map(|o| by(&self.flows_finished, o.as_str())).collect(),
            datagrams: Direction::ALL.iter().map(|d| by(&self.datagrams, d.as_str())).collect(),
            bytes: Direction::ALL.iter().map(|d| by(&self.bytes, d.as_str())).collect(),
            dropped: DropReason::ALL.iter().map(|r| by(&self.dropped, r.as_str())).collect(),
            icmp_errors: self.icmp_errors.with_label_values(&[name]),
            probes: self.probes(name),
        }
    }

    /// The series of one listener that answers doctors, all created at 0.
    pub fn probes(&self, name: &str) -> ProbeMetrics {
        let by = |result: &ProbeResult| self.probes.with_label_values(&[name, result.as_str()]);
        ProbeMetrics(ProbeResult::ALL.iter().map(by).collect())
    }

    /// The series of one listener of connections, all created at 0 so that a rate has something to start from.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let by = |vec: &IntCounterVec, word: &str| vec.with_label_values(&[name, word]);
        Arc::new(ListenerMetrics {
            connections: self.connections.with_label_values(&[name]),
            connections_active: self.connections_active.with_label_values(&[name]),
            handshakes: HandshakeResult::ALL.iter().map(|r| by(&self.tls_handshakes, r.as_str())).collect(),
            started: Direction::ALL.iter().map(|d| by(&self.sessions_started, d.as_str())).collect(),
            finished: Outcome::ALL.iter().map(|o| by(&self.sessions_finished, o.as_str())).collect(),
            duration: self.session_duration.with_label_values(&[name]),
            files_ok: by(&self.files, "ok"),
            files_failed: by(&self.files, "failed"),
            bytes: Direction::ALL.iter().map(|d| by(&self.bytes, d.as_str())).collect(),
            findings: Finding::ALL.iter().map(|w| by(&self.findings, w.as_str())).collect(),
            refusals: self.refusals_of(name),
            controls: ControlOutcome::ALL.iter().map(|o| by(&self.controls_finished, o.as_str())).collect(),
            requests: Answered::new(name, self.requests.clone()),
            sessions_active: self.sessions_active.clone(),
            unverified: self.unverified.with_label_values(&[name]),
            waiting: self.waiting.with_label_values(&[name]),
            waited: self.wait.with_label_values(&[name]),
            node_waits: NodeWait::ALL.iter().map(|w| by(&self.node_waits, w.as_str())).collect(),
            added: self.added.clone(),
            name: name.to_owned(),
        })
    }

    /// The series of a listener that is a forward proxy, resolved once.
    pub fn tunnels(&self, name: &str) -> TunnelMetrics {
        let by = |outcome: &TunnelOutcome| self.tunnels.with_label_values(&[name, outcome.as_str()]);
        TunnelMetrics {
            active: self.tunnels_active.with_label_values(&[name]),
            ended: TunnelOutcome::ALL.iter().map(by).collect(),
        }
    }
}
