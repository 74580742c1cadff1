//! The series of one node and of one upstream, resolved once.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{
    labels::{HealthResult, LookupResult, PickHow},
    metrics::Metrics,
    series::ActiveGuard,
};
use crate::config::NodePort;

/// The series of one node, resolved once.
#[derive(Debug)]
pub struct NodeMetrics {
    draining: IntGauge,
    sessions: IntGauge,
    connect: Histogram,
    checked: Vec<(NodePort, OfPort)>,
}

/// The series of one port that is checked.
#[derive(Debug)]
struct OfPort {
    up: IntGauge,
    checks: Vec<IntCounter>,
}

/// The series of one upstream, resolved once.
#[derive(Debug)]
pub struct UpstreamMetrics(Vec<IntCounter>);

/// The series of the lookups of one upstream whose nodes are discovered, resolved once.
#[derive(Debug)]
pub struct LookupMetrics(Vec<IntCounter>);

impl Metrics {
    /// The series of one node of which these ports are checked.
    pub fn node(&self, upstream: &str, name: &str, checked: &[NodePort]) -> NodeMetrics {
        let port = |port: &NodePort| {
            let labels = [upstream, name, port.as_str()];
            let [a, b, c] = labels;
            let checks = |result: &HealthResult| self.health_checks.with_label_values(&[a, b, c, result.as_str()]);
            let checks = HealthResult::ALL.iter().map(checks).collect();
            (*port, OfPort { up: self.node_up.with_label_values(&labels), checks })
        };
        NodeMetrics {
            draining: self.node_draining.with_label_values(&[upstream, name]),
            sessions: self.node_sessions.with_label_values(&[upstream, name]),
            connect: self.node_connect.with_label_values(&[upstream, name]),
            checked: checked.iter().map(port).collect(),
        }
    }

    /// The series of one upstream.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let picks = |how: &PickHow| self.node_picks.with_label_values(&[name, how.as_str()]);
        UpstreamMetrics(PickHow::ALL.iter().map(picks).collect())
    }

    /// The series of the lookups of one upstream whose nodes are discovered.
    pub fn lookups(&self, name: &str) -> LookupMetrics {
        let lookups = |result: &LookupResult| self.lookups.with_label_values(&[name, result.as_str()]);
        LookupMetrics(LookupResult::ALL.iter().map(lookups).collect())
    }
}

impl NodeMetrics {
    /// Counts a session on the node for as long as the guard lives.
    pub fn session(&self) -> ActiveGuard {
        ActiveGuard::new(self.sessions.clone())
    }

    /// Shows whether nothing new goes to the node.
    pub fn show_drain(&self, drains: bool) {
        self.draining.set(i64::from(drains));
    }

    /// Counts a connection that was opened, and how long that took.
    pub fn connected(&self, took: Duration) {
        self.connect.observe(took.as_secs_f64());
    }

    /// Shows whether a port passes its checks; of a port without checks nothing is shown.
    pub fn show(&self, port: NodePort, up: bool) {
        if let Some(of_port) = self.of(port) {
            of_port.up.set(i64::from(up));
        }
    }

    /// Counts a check.
    pub fn checked(&self, port: NodePort, result: HealthResult) {
        if let Some(of_port) = self.of(port) {
            of_port.checks[result as usize].inc();
        }
    }

    fn of(&self, port: NodePort) -> Option<&OfPort> {
        self.checked.iter().find(|(checked, _)| *checked == port).map(|(_, of_port)| of_port)
    }
}

impl UpstreamMetrics {
    /// Counts a choice of a node by what decided.
    pub fn picked(&self, how: PickHow) {
        self.0[how as usize].inc();
    }
}

impl LookupMetrics {
    /// Counts a lookup.
    pub fn ended(&self, result: LookupResult) {
        self.0[result as usize].inc();
    }
}
