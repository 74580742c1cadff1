//! The whole gateway at one moment, put together from all rooms for those who watch.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{generation::Generation, running::Run};
use crate::{
    admin::view::{Certificate, Limit, Listener, Node, Path, Port, Refusal, Reload, State, Status, Waiting, unix},
    config::{Config, Protocol},
    telemetry::{Flowing, Metrics, Stage, Transfer},
};

/// A certificate that ends within this needs an operator.
const ENDS_SOON: Duration = Duration::from_hours(14 * 24);

pub(super) fn status(run: &Run) -> Status {
    let (generation, config) = (run.generation(), run.config());
    let flowing = run.parts.live.flowing();
    let (success, at) = run.last_reload();
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION"),
        state: State::Ready,
        notes: Vec::new(),
        now: unix(SystemTime::now()),
        started: unix(run.started),
        generation: run.number(),
        last_reload: Reload { success, at: unix(at) },
        log_level: config.log.level.as_str().to_owned(),
        listeners: listeners(run, &config, &flowing),
        nodes: nodes(run, &generation, &config, &flowing),
        paths: flowing.iter().map(path).collect(),
        waiting: waiting(run, &config),
        limits: limits(&run.parts.metrics),
        bandwidth: serde_json::to_value(&config.bandwidth).unwrap_or_default(),
        refusals: refusals(&run.parts.metrics),
        certificates: certificates(&generation, &config),
    };
    let (state, notes) = judge(run, &generation, &status);
    (status.state, status.notes) = (state, notes);
    status
}

/// How it stands, and what an operator should do something about.
fn judge(run: &Run, generation: &Generation, status: &Status) -> (State, Vec<String>) {
    let mut notes = Vec::new();
    for node in status.nodes.iter().filter(|node| !node.up) {
        let down: Vec<_> =
            node.ports.iter().filter(|port| port.known && !port.up).map(|port| port.name.as_str()).collect();
        notes.push(format!("Node {} of {} is down at {}.", node.name, node.upstream, down.join(", ")));
    }
    for upstream in generation.upstreams.values().filter(|upstream| upstream.lacks_nodes()) {
        let (name, nodes) = (upstream.name(), upstream.nodes().len());
        notes.push(format!("The nodes of {name} are not found in the DNS; known: {nodes}."));
    }
    let soon = status.now + ENDS_SOON.as_secs_f64();
    for certificate in status.certificates.iter().filter(|certificate| certificate.not_after < soon) {
        let days = ((certificate.not_after - status.now) / 86_400.0).floor();
        let when = if days < 0.0 { "has ended".to_owned() } else { format!("ends in {days} days") };
        notes.push(format!("The certificate {} of {} {when}.", certificate.name, certificate.listener));
    }
    if !status.last_reload.success {
        notes.push("The last new config was rejected; the log says why.".to_owned());
    }
    for limit in &status.limits {
        if limit.max.is_some_and(|max| max > 0 && limit.used >= max) {
            notes.push(format!("{} is used up.", limit.name));
        }
    }
    if run.is_draining() {
        let open = run.parts.live.transfers().len();
        notes.insert(0, format!("It takes nothing new, and stops when what is open is over: {open} now."));
        return (State::Draining, notes);
    }
    let state = match (generation.is_known(), notes.is_empty()) {
        (false, _) => State::Starting,
        (true, true) => State::Ready,
        (true, false) => State::Degraded,
    };
    // That is what somebody wants, and nothing to be mended.
    for node in status.nodes.iter().filter(|node| node.drains) {
        let (name, upstream, left) = (&node.name, &node.upstream, node.sessions);
        notes.push(format!("Nothing new goes to node {name} of {upstream}; sessions on it: {left}."));
    }
    (state, notes)
}

fn listeners(run: &Run, config: &Config, flowing: &[Flowing]) -> Vec<Listener> {
    let bound = run.addresses();
    let bound: HashMap<_, _> = bound.iter().map(|(name, address)| (name.as_str(), *address)).collect();
    let listener = |listener: &crate::config::ListenerConfig| {
        let of_it = || flowing.iter().filter(|flowing| *flowing.path.listener == *listener.name);
        Listener {
            name: listener.name.clone(),
            protocol: listener.protocol.as_str().to_owned(),
            address: bound.get(listener.name.as_str()).map_or(listener.address.to_string(), ToString::to_string),
            leads_to: listener.leads_to().to_owned(),
            connections: (listener.protocol != Protocol::Udp)
                .then(|| run.parts.metrics.connections_open(&listener.name)),
            open: of_it().map(|flowing| flowing.open).sum(),
            upload_rate: sum(of_it().map(|flowing| flowing.upload_rate)),
            download_rate: sum(of_it().map(|flowing| flowing.download_rate)),
        }
    };
    config.listeners.iter().map(listener).collect()
}

fn nodes(run: &Run, generation: &Generation, config: &Config, flowing: &[Flowing]) -> Vec<Node> {
    let open = run.parts.live.transfers();
    let upstreams = config.upstreams.iter().filter_map(|upstream| generation.upstreams.get(&upstream.name));
    let node = |node: &Arc<crate::upstream::Node>| {
        let is_it = |flowing: &&Flowing| {
            let (upstream, name) = (flowing.path.upstream.as_deref(), flowing.path.node.as_deref());
            upstream == Some(node.upstream()) && name == Some(node.name())
        };
        let of_it = || flowing.iter().filter(is_it);
        let port = |port: &crate::config::NodePort| Port {
            name: port.as_str().to_owned(),
            up: node.is_up(*port),
            known: node.is_port_known(*port),
        };
        let ports: Vec<_> = node.checked().iter().map(port).collect();
        let is_here = |transfer: &&Arc<Transfer>| {
            let upstream = transfer.about().upstream.as_deref();
            upstream == Some(node.upstream()) && transfer.node().as_deref() == Some(node.name())
        };
        Node {
            upstream: node.upstream().to_owned(),
            name: node.name().to_owned(),
            host: node.host().to_owned(),
            up: ports.iter().all(|port| port.up),
            drains: node.drains(),
            ports,
            sessions: node.sessions() as u64,
            max_sessions: node.max_sessions().map(u64::from),
            eta: open.iter().filter(is_here).filter_map(|transfer| transfer.eta()).reduce(f64::max),
            weight: node.weight(),
            upload_rate: sum(of_it().map(|flowing| flowing.upload_rate)),
            download_rate: sum(of_it().map(|flowing| flowing.download_rate)),
        }
    };
    upstreams.flat_map(|upstream| upstream.nodes().to_vec()).map(|found| node(&found)).collect()
}

/// A sum of rates as it is shown. That of none is 0, where the library's own would be -0.
fn sum(rates: impl Iterator<Item = f64>) -> f64 {
    rates.fold(0.0, |sum, rate| sum + rate).round()
}

fn path(flowing: &Flowing) -> Path {
    Path {
        listener: flowing.path.listener.to_string(),
        kind: flowing.path.kind.as_str(),
        upstream: flowing.path.upstream.as_deref().map(str::to_owned),
        node: flowing.path.node.as_deref().map(str::to_owned),
        open: flowing.open,
        upload_rate: flowing.upload_rate.round(),
        download_rate: flowing.download_rate.round(),
    }
}

fn waiting(run: &Run, config: &Config) -> Waiting {
    let open = run.parts.live.transfers();
    let waiting: Vec<_> = open.iter().filter(|transfer| transfer.stage() == Stage::Waiting).collect();
    let longest = waiting.iter().map(|transfer| transfer.begin().elapsed()).max();
    Waiting {
        now: waiting.len() as u64,
        max: u64::from(config.limits.max_waiting),
        longest: longest.map(|longest| longest.as_millis() as f64 / 1000.0),
    }
}

fn limits(metrics: &Metrics) -> Vec<Limit> {
    let limit = |(limit, max, used): (crate::telemetry::Limit, Option<u64>, u64)| Limit {
        name: limit.as_str().to_owned(),
        used,
        max,
    };
    metrics.limits().into_iter().map(limit).collect()
}

fn refusals(metrics: &Metrics) -> Vec<Refusal> {
    let mut all = metrics.refusals();
    all.sort_by_key(|refusal| std::cmp::Reverse(refusal.last));
    let refusal = |refusal: crate::telemetry::RefusalSeen| Refusal {
        listener: refusal.listener,
        reason: refusal.reason.as_str().to_owned(),
        total: refusal.total,
        last: unix(refusal.last),
    };
    all.into_iter().map(refusal).collect()
}

fn certificates(generation: &Generation, config: &Config) -> Vec<Certificate> {
    // One name may be served by several certificates; the first to end is the one to know of.
    let mut ends: BTreeMap<(String, String), i64> = BTreeMap::new();
    for listener in &config.listeners {
        let door = generation.doors.get(&listener.name).map(|(door, _)| door);
        for (name, not_after) in door.into_iter().flat_map(|door| door.certificates()) {
            let end = ends.entry((listener.name.clone(), name)).or_insert(not_after);
            *end = (*end).min(not_after);
        }
    }
    let certificate = |((listener, name), not_after): ((String, String), i64)| Certificate {
        listener,
        name,
        not_after: not_after as f64,
    };
    let mut all: Vec<_> = ends.into_iter().map(certificate).collect();
    all.sort_by(|a, b| a.not_after.total_cmp(&b.not_after));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_added_up_to_whole_bytes_and_those_of_nobody_are_plainly_nothing() {
        assert_eq!(sum([0.4, 0.3, 7.0].into_iter()), 8.0);
        assert!(sum(std::iter::empty()).is_sign_positive());
    }
}
