//! What the series of a gateway may be about, and the end of those that are about nothing any more.
//!
//! A reload may take a listener, a node, a port that was checked or a certificate out of the config; one that is rejected
//! may have made series of what never came. What stays of them would be shown for ever, and alerts go by it. So they are
//! forgotten, by this rule: what the running config names stays, and so does a listener that closes until it is through;
//! the series of any other listener stay as long as one of its gauges is not 0, and those of any other node as long as
//! sessions hold it. Everything else goes.
//!
//! All who count have resolved their series, and would count into nowhere after these were removed. Of what is named that
//! cannot happen, as it is never removed; for the same reason nothing may be forgotten while a new config is being built,
//! which has series of what is not named yet. Who comes back after it was forgotten begins at 0.

use std::collections::{HashMap, HashSet};

use prometheus::{
    IntGaugeVec,
    core::{Collector, MetricVec, MetricVecBuilder},
    proto::Metric,
};

use super::{live::Path, metrics::Metrics};

/// The listener under whose name the admin door counts, which is none of the config.
pub(super) const ADMIN: &str = "admin";

/// All that the running config names, and the listeners that are about to close.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Listeners that are open.
    pub listeners: HashSet<String>,
    /// Upstreams, which may have no node yet.
    pub upstreams: HashSet<String>,
    /// Nodes, by upstream and name.
    pub nodes: HashSet<(String, String)>,
    /// Ports that are checked, by upstream, node and port.
    pub ports: HashSet<(String, String, String)>,
    /// Certificates that are served, by listener and name.
    pub certificates: HashSet<(String, String)>,
}

impl Known {
    fn listener(&self, name: &str) -> bool {
        name == ADMIN || self.listeners.contains(name)
    }

    fn upstream(&self, name: &str) -> bool {
        self.upstreams.contains(name)
    }

    /// Whether listener, upstream and node are all known.
    pub(super) fn path(&self, path: &Path) -> bool {
        let node = match (&path.upstream, &path.node) {
            (Some(upstream), Some(node)) => self.nodes.contains(&(upstream.to_string(), node.to_string())),
            (Some(upstream), None) => self.upstream(upstream),
            (None, _) => true,
        };
        self.listener(&path.listener) && node
    }
}

impl Metrics {
    /// Forgets what is not known and not in use. Not to be called while a new config is being built. True when nothing is
    /// left of what is not known, so that there is nothing more to forget until that changes.
    pub fn forget(&self, known: &Known) -> bool {
        let gauges =
            [&self.connections_active, &self.sessions_active, &self.waiting, &self.tunnels_active, &self.flows_active];
        let used: HashSet<_> = gauges.into_iter().flat_map(|family| in_use(family, &["listener"])).collect();
        let is_used = |name: &str| used.iter().any(|labels| labels[0] == name);
        let keep = |name: &str| known.listener(name) || is_used(name);
        let listener = |labels: &Labels| keep(labels.of("listener"));
        for family in [
            &self.connections,
            &self.tls_handshakes,
            &self.requests,
            &self.sessions_started,
            &self.sessions_finished,
            &self.files,
            &self.bytes,
            &self.refusals,
            &self.findings,
            &self.node_waits,
            &self.unverified,
            &self.controls_finished,
            &self.tunnels,
            &self.flows,
            &self.flows_finished,
            &self.datagrams,
            &self.dropped,
            &self.icmp_errors,
            &self.probes,
        ] {
            sweep(family, listener);
        }
        for family in [&self.connections_active, &self.waiting, &self.tunnels_active, &self.flows_active] {
            sweep(family, listener);
        }
        for family in [&self.session_duration, &self.wait, &self.added] {
            sweep(family, listener);
        }
        self.refusals_seen.forget(keep);

        let held: HashSet<_> = in_use(&self.node_sessions, &["upstream", "node"]).into_iter().collect();
        let of = |labels: &Labels, names: [&str; 2]| names.map(|name| labels.of(name).to_owned());
        let is_node = |labels: &Labels| known.nodes.contains(&of(labels, ["upstream", "node"]).into());
        let node = |labels: &Labels| is_node(labels) || held.contains(of(labels, ["upstream", "node"]).as_slice());
        let port = |labels: &Labels| {
            let [upstream, node] = of(labels, ["upstream", "node"]);
            known.ports.contains(&(upstream, node, labels.of("port").to_owned()))
        };
        sweep(&self.node_sessions, node);
        sweep(&self.node_draining, node);
        sweep(&self.node_connect, node);
        sweep(&self.node_up, port);
        sweep(&self.health_checks, port);
        let is_upstream_held = |name: &str| held.iter().any(|labels| labels[0] == name);
        sweep(&self.node_picks, |labels| {
            known.upstream(labels.of("upstream")) || is_upstream_held(labels.of("upstream"))
        });
        sweep(&self.lookups, |labels| known.upstream(labels.of("upstream")));
        sweep(&self.certificate_not_after, |labels| {
            known.certificates.contains(&of(labels, ["listener", "name"]).into())
        });

        // A session's node is told without its upstream here.
        let on: HashSet<_> = in_use(&self.sessions_active, &["listener", "node"]).into_iter().collect();
        let is_any_node = |name: &str| known.nodes.iter().any(|(_, node)| node == name);
        let goes = |labels: &Labels| known.listener(labels.of("listener")) && is_any_node(labels.of("node"));
        sweep(&self.sessions_active, |labels| goes(labels) || on.contains(of(labels, ["listener", "node"]).as_slice()));

        let nodes = held.iter().all(|labels| known.nodes.contains(&(labels[0].clone(), labels[1].clone())));
        let sessions = on.iter().all(|labels| is_any_node(&labels[1]));
        nodes && sessions && used.iter().all(|labels| known.listener(&labels[0]))
    }
}

/// The labels of one series.
struct Labels<'a>(HashMap<&'a str, &'a str>);

impl<'a> Labels<'a> {
    fn new(series: &'a Metric) -> Labels<'a> {
        Labels(series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect())
    }

    fn of(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// The labels of these names of all series that are not 0.
fn in_use(family: &IntGaugeVec, names: &[&str]) -> Vec<Vec<String>> {
    let families = family.collect();
    let series = families.iter().flat_map(|family| family.get_metric());
    let used = series.filter(|series| series.get_gauge().get_value() != 0.0).map(Labels::new);
    used.map(|labels| names.iter().map(|name| labels.of(name).to_owned()).collect()).collect()
}

/// Removes all series but these.
fn sweep<B: MetricVecBuilder>(family: &MetricVec<B>, keep: impl Fn(&Labels<'_>) -> bool) {
    for collected in family.collect() {
        for labels in collected.get_metric().iter().map(Labels::new).filter(|labels| !keep(labels)) {
            // Fails where it is gone already, which is what is wanted.
            let _ = family.remove(&labels.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::NodePort,
        telemetry::{Direction, HealthResult, Operation, PickHow, Reason},
    };

    fn known(listeners: &[&str], nodes: &[&str]) -> Known {
        let pair = |node: &&str| ("u".to_owned(), (*node).to_owned());
        Known {
            listeners: listeners.iter().map(|name| (*name).to_owned()).collect(),
            upstreams: ["u".to_owned()].into(),
            nodes: nodes.iter().map(pair).collect(),
            ports: nodes.iter().map(|node| ("u".to_owned(), (*node).to_owned(), "tcp".to_owned())).collect(),
            certificates: [("a".to_owned(), "new".to_owned())].into(),
        }
    }

    fn about(metrics: &Metrics, what: &str) -> usize {
        let text = String::from_utf8(metrics.render()).unwrap();
        text.lines().filter(|line| !line.starts_with('#') && line.contains(what)).count()
    }

    #[test]
    fn all_of_a_listener_that_is_gone_goes_and_nothing_of_one_that_is_there() {
        let metrics = Metrics::new().unwrap();
        let fill = |name: &str| {
            let listener = metrics.listener(name);
            listener.added_latency();
            listener.request(Operation::Other, 404);
            listener.refusal(Reason::BadHead);
            drop(listener.session_started(Direction::Upload, "n1"));
            metrics.tunnels(name);
            metrics.data(name);
            for certificate in ["old", "new"] {
                metrics.certificate_not_after.with_label_values(&[name, certificate]).set(1.0);
            }
            listener
        };
        let (a, _b) = (fill("a"), fill("b"));
        metrics.refused_by_admin(Reason::NotFound);
        let (of_a, of_admin) = (about(&metrics, "listener=\"a\""), about(&metrics, "listener=\"admin\""));
        assert!(about(&metrics, "listener=\"b\"") > 100);
        assert!(metrics.forget(&known(&["a"], &["n1"])));
        assert_eq!(about(&metrics, "listener=\"b\""), 0);
        assert_eq!(about(&metrics, "listener=\"a\""), of_a - 1, "only the certificate that is served no more");
        assert_eq!(about(&metrics, "listener=\"admin\""), of_admin);
        assert_eq!(metrics.refusals().iter().map(|r| r.listener.as_str()).collect::<Vec<_>>(), ["a", "admin"]);
        a.refusal(Reason::BadHead);
        assert_eq!(about(&metrics, "refusals_total{listener=\"a\",reason=\"bad_head\"} 2"), 1, "it counts on");
        metrics.listener("b").refusal(Reason::BadHead);
        assert_eq!(about(&metrics, "refusals_total{listener=\"b\",reason=\"bad_head\"} 1"), 1, "it begins anew");
    }

    #[test]
    fn what_is_in_use_stays_until_it_is_over() {
        let metrics = Metrics::new().unwrap();
        let (listener, nodes) = (metrics.listener("b"), known(&["a"], &["n1"]));
        let [n1, n2] = ["n1", "n2"].map(|name| metrics.node("u", name, &[NodePort::Tcp]));
        let (connection, lease) = (listener.connection(), n2.session());
        let session = listener.session_started(Direction::Upload, "n2");
        n1.checked(NodePort::Tcp, HealthResult::Ok);
        assert!(!metrics.forget(&nodes), "not all is over");
        assert_eq!(about(&metrics, "connections_active{listener=\"b\"} 1"), 1);
        assert_eq!(about(&metrics, "sessions_active{listener=\"b\",node=\"n2\"} 1"), 1);
        assert_eq!(about(&metrics, "node_sessions{node=\"n2\",upstream=\"u\"} 1"), 1);
        drop((connection, session));
        assert!(!metrics.forget(&nodes), "a session holds a node");
        assert_eq!((about(&metrics, "\"b\""), about(&metrics, "node_sessions{node=\"n2\"")), (0, 1));
        drop(lease);
        assert!(metrics.forget(&nodes));
        assert_eq!(about(&metrics, "\"n2\""), 0);
        assert_eq!(about(&metrics, "health_checks_total{node=\"n1\",port=\"tcp\",result=\"ok\",upstream=\"u\"} 1"), 1);
    }

    #[test]
    fn a_node_that_is_gone_is_not_down_and_its_last_words_bring_nothing_back() {
        let metrics = Metrics::new().unwrap();
        let [n1, n2] = ["n1", "n2"].map(|name| metrics.node("u", name, &[NodePort::Tcp, NodePort::Http]));
        let (lease, old) = (n2.session(), metrics.upstream("old"));
        n1.show(NodePort::Tcp, true);
        assert!(!metrics.forget(&known(&[], &["n1"])));
        assert_eq!(about(&metrics, "node_up{"), 1, "nobody checks the other, though a session is on it");
        n2.show(NodePort::Tcp, false);
        n2.checked(NodePort::Tcp, HealthResult::Failed);
        drop(lease);
        assert!(metrics.forget(&known(&[], &["n1"])));
        n2.connected(std::time::Duration::ZERO);
        old.picked(PickHow::Balance);
        drop(n2.session());
        assert_eq!((about(&metrics, "\"n2\""), about(&metrics, "\"old\"")), (0, 0));
    }
}
