//! What goes with the protocol of a listener: its keys, the ports of the nodes behind it, the gate of its data.

use serde_json::Value;

use super::super::error::Problem;
use super::super::shape::item_path;
use super::super::units::format_size;
use super::super::{Config, Gate, ListenerConfig, NodePort, PortsConfig, Protocol, Scheme, UpstreamConfig};

const FALLBACK: &[Protocol] = &[Protocol::Https, Protocol::Http];
const STREAMS: &[Protocol] = &[Protocol::Https, Protocol::Http, Protocol::Tcp, Protocol::ForwardProxy];

/// Keys of a listener and the protocols that they go with; a key that is not here goes with all.
const KEYS: &[(&str, &[Protocol])] = &[
    ("upstream", &[Protocol::Https, Protocol::Http, Protocol::Tcp, Protocol::Udp]),
    ("policy", &[Protocol::ForwardProxy]),
    ("tls", &[Protocol::Https, Protocol::Http, Protocol::ForwardProxy]),
    ("admission", &[Protocol::Https, Protocol::Http]),
    ("persistent_connection", &[Protocol::Https, Protocol::Http]),
    ("node_target", &[Protocol::Https, Protocol::Http]),
    ("guard", &[Protocol::Https, Protocol::Http]),
    ("slow_node_notice", &[Protocol::Https, Protocol::Http]),
    ("trusted_proxies", &[Protocol::Https, Protocol::Http, Protocol::Tcp, Protocol::ForwardProxy]),
    ("proxy_protocol", &[Protocol::Https, Protocol::Http, Protocol::Tcp, Protocol::ForwardProxy]),
    ("banner_timeout", &[Protocol::Tcp]),
    ("idle", &[Protocol::Tcp]),
    ("send_proxy_protocol", &[Protocol::Tcp]),
    ("gate", &[Protocol::Udp]),
    ("gate_grace", &[Protocol::Udp]),
    ("flow_idle", &[Protocol::Udp]),
    ("workers", &[Protocol::Udp]),
    ("receive_buffer", &[Protocol::Udp]),
    ("limits.max_connections", STREAMS),
    ("limits.max_connections_per_client", STREAMS),
    ("limits.max_sessions", FALLBACK),
    ("limits.max_sessions_per_client", FALLBACK),
    ("limits.max_sessions_per_user", FALLBACK),
    ("limits.session_starts_per_client", FALLBACK),
    ("limits.requests_per_client", FALLBACK),
    ("limits.when_full", FALLBACK),
    ("limits.max_wait", FALLBACK),
    ("limits.max_waiting", FALLBACK),
    ("limits.max_udp_flows", &[Protocol::Udp]),
    ("limits.max_udp_flows_per_client", &[Protocol::Udp]),
    ("limits.max_tunnels", &[Protocol::ForwardProxy]),
    ("limits.max_tunnels_per_client", &[Protocol::ForwardProxy]),
    ("limits.bandwidth.per_node", &[Protocol::Https, Protocol::Http, Protocol::Tcp, Protocol::Udp]),
];

/// The smallest and the largest buffer of a socket, in bytes: one datagram, and what an `int` of the kernel holds.
const RECEIVE_BUFFER: std::ops::RangeInclusive<u64> = 64 * 1024..=1024 * 1024 * 1024;

/// A key that does not go with the protocol would do nothing. One that says the default does no harm.
pub(super) fn keys(listener: &ListenerConfig, path: &str, problems: &mut Vec<Problem>) {
    let bare = ListenerConfig::new(&listener.name, listener.protocol, listener.address, listener.leads_to());
    let (Ok(said), Ok(bare)) = (serde_json::to_value(listener), serde_json::to_value(bare)) else { return };
    for (key, protocols) in KEYS.iter().filter(|(_, protocols)| !protocols.contains(&listener.protocol)) {
        if at(&said, key) != at(&bare, key) {
            let words: Vec<_> = protocols.iter().map(|protocol| protocol.as_str()).collect();
            let message = format!("this key does not go with protocol {}", listener.protocol.as_str());
            problems.push(
                Problem::new(format!("{path}.{key}"), message)
                    .hint(format!("it goes with {}; leave it out here", words.join(", "))),
            );
        }
    }
}

/// The value of a key, which may be one of an inner mapping.
fn at<'a>(tree: &'a Value, key: &str) -> &'a Value {
    key.split('.').try_fold(tree, |tree, key| tree.get(key)).unwrap_or(&Value::Null)
}

/// What concerns a listener of data alone.
pub(super) fn udp(config: &Config, listener: &ListenerConfig, path: &str, problems: &mut Vec<Problem>) {
    if listener.protocol != Protocol::Udp {
        if listener.address.ports() > 1 {
            problems.push(
                Problem::new(format!("{path}.address"), "only protocol udp takes a range of ports")
                    .hint("write one port".to_owned()),
            );
        }
        return;
    }
    if !RECEIVE_BUFFER.contains(&listener.receive_buffer) {
        let (least, most) = (format_size(*RECEIVE_BUFFER.start()), format_size(*RECEIVE_BUFFER.end()));
        problems.push(
            Problem::new(format!("{path}.receive_buffer"), "no socket has such a buffer")
                .hint(format!("from {least} to {most}; 4MiB is the default")),
        );
    }
    let opens = |other: &&ListenerConfig| other.protocol == Protocol::Tcp && other.upstream == listener.upstream;
    if listener.gate == Gate::ControlConnection && !config.listeners.iter().any(|other| opens(&other)) {
        problems.push(
            Problem::new(
                format!("{path}.gate"),
                format!("no tcp listener leads to {}: nobody can open it", listener.leads_to()),
            )
            .hint("add a listener with protocol: tcp and the same upstream, or write gate: off".to_owned()),
        );
    }
}

/// Every node needs the ports that the listeners of its upstream lead to; `path` is the place of the upstream.
pub(super) fn ports(config: &Config, upstream: &UpstreamConfig, path: &str, problems: &mut Vec<Problem>) {
    let mut needed = Vec::new();
    for listener in config.listeners.iter().filter(|listener| listener.upstream.as_ref() == Some(&upstream.name)) {
        let (port, range) = match listener.protocol {
            Protocol::Https | Protocol::Http => (upstream.scheme.port(), 1),
            Protocol::Tcp => (NodePort::Tcp, 1),
            Protocol::Udp => (NodePort::Udp, listener.address.ports()),
            Protocol::ForwardProxy => continue,
        };
        match needed.iter_mut().find(|(known, _)| *known == port) {
            Some((_, most)) => *most = range.max(*most),
            None => needed.push((port, range)),
        }
    }
    let names: Vec<_> = upstream.nodes.iter().map(|node| Some(node.name.clone())).collect();
    let list = format!("{path}.nodes");
    let place = |index| item_path(&list, &names, index);
    let nodes = upstream.nodes.iter().enumerate().map(|(index, node)| (place(index), &node.ports, None));
    let found = upstream
        .discovery
        .iter()
        .map(|discovery| (format!("{path}.discovery"), &discovery.ports, discovery.told_port(upstream.scheme)));
    for (place, ports, told) in nodes.chain(found) {
        for (port, range) in needed.iter().filter(|(port, _)| told != Some(*port)) {
            let place = format!("{place}.ports.{}", port.as_str());
            match ports.port(*port) {
                None => problems.push(missing(*port, upstream.scheme, ports, place)),
                Some(first) if u32::from(first) + u32::from(*range) > 0x1_0000 => problems.push(
                    Problem::new(place, format!("a range of {range} ports cannot begin at {first}"))
                        .hint(format!("{} at most", 0x1_0000 - u32::from(*range))),
                ),
                Some(_) => {}
            }
        }
    }
}

fn missing(port: NodePort, scheme: Scheme, ports: &PortsConfig, place: String) -> Problem {
    let word = port.as_str();
    let (message, give) = match port {
        NodePort::Http => (format!("scheme {word} of the upstream needs this port"), "give it, such as 8080"),
        NodePort::Https => (format!("scheme {word} of the upstream needs this port"), "give it, such as 8443"),
        NodePort::Tcp | NodePort::Udp => {
            (format!("a listener with protocol {word} needs this port"), "give it, such as 33001")
        }
    };
    let other = match scheme {
        Scheme::Http => Scheme::Https,
        Scheme::Https => Scheme::Http,
    };
    let hint = match (port == scheme.port()).then(|| ports.port(other.port())).flatten() {
        None => give.to_owned(),
        Some(_) => format!("{give}, or write scheme: {} in the upstream", other.port().as_str()),
    };
    Problem::new(place, message).hint(hint)
}
