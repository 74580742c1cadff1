//! Where the nodes of an upstream are reached, and for what.

use crate::config::{Config, ListenerConfig, NodePort, Protocol, UpstreamConfig};

/// What a port of a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Fallback,
    Control,
    Data,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Control => "control",
            Self::Data => "data",
        }
    }
}

/// One kind of port of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// Which node of its upstream it is; nodes that are discovered come after all others.
    pub(super) node: usize,
    /// An IP address or a DNS name.
    pub(super) host: String,
    pub(super) kind: Kind,
    /// The port on the node, of a range the first.
    pub(super) port: u16,
    /// How many ports there are; at least 1.
    pub(super) count: u16,
}

/// The listeners that lead to an upstream.
pub(super) fn leading<'c>(
    config: &'c Config,
    upstream: &'c UpstreamConfig,
) -> impl Iterator<Item = &'c ListenerConfig> + 'c {
    config.listeners.iter().filter(|listener| listener.upstream.as_deref() == Some(upstream.name.as_str()))
}

/// What the port of the nodes is for that only SRV records tell, where listeners lead to it.
pub(super) fn told(config: &Config, upstream: &UpstreamConfig) -> Option<(Kind, NodePort)> {
    let port = upstream.discovery.as_ref()?.told_port(upstream.scheme)?;
    let (kind, leads): (_, fn(Protocol) -> bool) = match port {
        NodePort::Http | NodePort::Https => (Kind::Fallback, Protocol::is_fallback),
        NodePort::Tcp => (Kind::Control, |protocol| protocol == Protocol::Tcp),
        NodePort::Udp => (Kind::Data, |protocol| protocol == Protocol::Udp),
    };
    leading(config, upstream).any(|listener| leads(listener.protocol)).then_some((kind, port))
}

/// The ports of an upstream's nodes that its listeners lead to, kind by kind.
pub(super) fn reach(config: &Config, upstream: &UpstreamConfig) -> Vec<End> {
    let mut all = Vec::new();
    let any = |is: fn(Protocol) -> bool| leading(config, upstream).any(|listener| is(listener.protocol));
    let longest = leading(config, upstream).filter(|l| l.protocol == Protocol::Udp).map(|l| l.address.ports()).max();
    for (kind, port, count) in [
        (Kind::Fallback, upstream.scheme.port(), any(Protocol::is_fallback).then_some(1)),
        (Kind::Control, NodePort::Tcp, any(|protocol| protocol == Protocol::Tcp).then_some(1)),
        (Kind::Data, NodePort::Udp, longest),
    ] {
        let Some(count) = count else { continue };
        for (i, node) in upstream.nodes.iter().enumerate() {
            all.extend(node.port(port).map(|port| End { node: i, host: node.host.clone(), kind, port, count }));
        }
        if let Some(discovery) = &upstream.discovery {
            let found = discovery.ports.port(port);
            let node = upstream.nodes.len();
            all.extend(found.map(|port| End { node, host: discovery.dns.clone(), kind, port, count }));
        }
    }
    all
}
