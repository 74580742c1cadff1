//! The series of one listener, resolved once, so that counting is an addition and no look-up.

use std::sync::Arc;

use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge, IntGaugeVec};

use super::{
    added::AddedLatency,
    answered::Answered,
    labels::{
        ControlOutcome, Direction, DropReason, Finding, FlowOutcome, HandshakeResult, NodeWait, Operation, Outcome,
        ProbeResult, Reason, TunnelOutcome,
    },
    refusals,
};

/// The series of one listener, resolved once.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub(super) name: String,
    pub(super) connections: IntCounter,
    pub(super) connections_active: IntGauge,
    pub(super) handshakes: Vec<IntCounter>,
    pub(super) started: Vec<IntCounter>,
    pub(super) finished: Vec<IntCounter>,
    pub(super) duration: Histogram,
    pub(super) files_ok: IntCounter,
    pub(super) files_failed: IntCounter,
    pub(super) bytes: Vec<IntCounter>,
    pub(super) refusals: Arc<refusals::OfListener>,
    pub(super) findings: Vec<IntCounter>,
    pub(super) controls: Vec<IntCounter>,
    pub(super) requests: Answered,
    pub(super) sessions_active: IntGaugeVec,
    pub(super) unverified: IntCounter,
    pub(super) waiting: IntGauge,
    pub(super) waited: Histogram,
    pub(super) node_waits: Vec<IntCounter>,
    pub(super) added: HistogramVec,
}

impl ListenerMetrics {
    /// Counts an accepted connection; the guard lowers `connections_active` when it goes.
    pub fn connection(&self) -> ActiveGuard {
        self.connections.inc();
        ActiveGuard::new(self.connections_active.clone())
    }

    /// Counts one TLS handshake.
    pub fn handshake(&self, result: HandshakeResult) {
        self.handshakes[result as usize].inc();
    }

    /// Counts one answered request. A status outside the known ones counts as `other`.
    pub fn request(&self, operation: Operation, status: u16) {
        self.requests.count(operation, status);
    }

    /// A session waits for room for as long as the guard lives.
    pub fn waiting(&self) -> ActiveGuard {
        ActiveGuard::new(self.waiting.clone())
    }

    /// Counts how long a session waited for room, whatever came of it.
    pub fn waited(&self, time: std::time::Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    /// Counts a request of a session that could not be asked for.
    pub fn unverified(&self) {
        self.unverified.inc();
    }

    /// Counts a request that was held because its node could not be reached.
    pub fn node_wait(&self, result: NodeWait) {
        self.node_waits[result as usize].inc();
    }

    /// Where it is counted what the gateway itself adds to a request. The series begins with this, for not every listener
    /// has such requests.
    pub fn added_latency(&self) -> AddedLatency {
        AddedLatency(self.added.with_label_values(&[self.name.as_str()]))
    }

    /// Counts a session that a node accepted.
    pub fn session_started(&self, direction: Direction, node: &str) -> ActiveGuard {
        self.started[direction as usize].inc();
        ActiveGuard::new(self.sessions_active.with_label_values(&[self.name.as_str(), node]))
    }

    /// Counts a session that another replica began and that is shown here from now on, until the guard drops.
    pub fn session_here(&self, node: &str) -> ActiveGuard {
        ActiveGuard::new(self.sessions_active.with_label_values(&[self.name.as_str(), node]))
    }

    /// Counts a session's end and how long it lasted.
    pub fn session_finished(&self, outcome: Outcome, lasted: std::time::Duration) {
        self.finished[outcome as usize].inc();
        self.duration.observe(lasted.as_secs_f64());
    }

    /// Counts a file request by whether it went well.
    pub fn file(&self, ok: bool) {
        if ok { self.files_ok.inc() } else { self.files_failed.inc() }
    }

    /// Counts body bytes.
    pub fn bytes(&self, direction: Direction, n: u64) {
        self.bytes[direction as usize].inc_by(n);
    }

    /// Counts what was noticed and let pass.
    pub fn finding(&self, finding: Finding) {
        self.findings[finding as usize].inc();
    }

    /// Counts a refusal or failure, and notes that it was now.
    pub fn refusal(&self, reason: Reason) {
        self.refusals.count(reason);
    }

    /// Counts the end of a control connection that had met its node.
    pub fn control_finished(&self, outcome: ControlOutcome) {
        self.controls[outcome as usize].inc();
    }
}

/// What became of the probes of doctors at one listener, resolved once.
#[derive(Debug, Clone)]
pub struct ProbeMetrics(pub(super) Vec<IntCounter>);

impl ProbeMetrics {
    /// Counts a probe.
    pub fn count(&self, result: ProbeResult) {
        self.0[result as usize].inc();
    }
}

/// The series of one listener of data, resolved once.
#[derive(Debug, Clone)]
pub struct DataMetrics {
    pub(super) flows: IntCounter,
    pub(super) active: IntGauge,
    pub(super) finished: Vec<IntCounter>,
    pub(super) datagrams: Vec<IntCounter>,
    pub(super) bytes: Vec<IntCounter>,
    pub(super) dropped: Vec<IntCounter>,
    pub(super) icmp_errors: IntCounter,
    pub(super) probes: ProbeMetrics,
}

impl DataMetrics {
    /// Counts a flow that was opened.
    pub fn flow_opened(&self) {
        self.flows.inc();
        self.active.inc();
    }

    /// Counts a flow's end.
    pub fn flow_finished(&self, outcome: FlowOutcome) {
        self.active.dec();
        self.finished[outcome as usize].inc();
    }

    /// Counts datagrams that were relayed, and their bytes.
    pub fn relayed(&self, direction: Direction, datagrams: u64, bytes: u64) {
        self.datagrams[direction as usize].inc_by(datagrams);
        self.bytes[direction as usize].inc_by(bytes);
    }

    /// Counts datagrams that went nowhere.
    pub fn dropped(&self, reason: DropReason, datagrams: u64) {
        self.dropped[reason as usize].inc_by(datagrams);
    }

    /// Counts a probe of a doctor.
    pub fn probe(&self, result: ProbeResult) {
        self.probes.count(result);
    }

    /// Counts ICMP errors.
    pub fn icmp_errors(&self, n: u64) {
        self.icmp_errors.inc_by(n);
    }
}

/// The series of one listener that is a forward proxy, resolved once.
#[derive(Debug, Clone)]
pub struct TunnelMetrics {
    pub(super) active: IntGauge,
    pub(super) ended: Vec<IntCounter>,
}

impl TunnelMetrics {
    /// Counts an open tunnel for as long as the guard lives.
    pub fn opened(&self) -> ActiveGuard {
        ActiveGuard::new(self.active.clone())
    }

    /// Counts how a tunnel, or the wish for one, ended.
    pub fn ended(&self, outcome: TunnelOutcome) {
        self.ended[outcome as usize].inc();
    }
}

/// Raises a gauge for as long as it lives.
#[derive(Debug)]
pub struct ActiveGuard(IntGauge);

impl ActiveGuard {
    pub(super) fn new(gauge: IntGauge) -> ActiveGuard {
        gauge.inc();
        ActiveGuard(gauge)
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
