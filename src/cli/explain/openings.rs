//! What the firewalls around a gateway must let through, read off its configuration: an opening for each listener, each
//! kind of port of its nodes, and whatever else the gateway connects to or is asked at.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use serde::Serialize;

use super::reach::{Kind, leading, reach, told};
use crate::config::{Config, HostPattern, ListenerConfig, PolicyConfig, PolicyMode, Protocol};

/// Which of the two firewalls an opening is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wall {
    /// The one between the internet and the gateway.
    Outer,
    /// The one between the gateway and the networks inside.
    Inner,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// The other side connects to the gateway.
    In,
    /// The gateway connects to the other side.
    Out,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The other side of an opening. Without networks and unknowns it is anyone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Peer {
    /// What it is called in the port table.
    pub(super) label: String,
    pub(super) networks: BTreeSet<IpNet>,
    /// Whose addresses the configuration does not say: names, or a description.
    pub(super) unknown: BTreeSet<String>,
}

impl Peer {
    fn new(label: &str) -> Peer {
        Peer { label: label.to_owned(), ..Peer::default() }
    }

    fn unknown(mut self, what: &str) -> Peer {
        self.unknown.insert(what.to_owned());
        self
    }

    /// Adds an address, or a name whose address is not known here.
    fn host(&mut self, host: &str) {
        match host.parse::<IpAddr>() {
            Ok(ip) => drop(self.networks.insert(ip.to_canonical().into())),
            Err(_) => drop(self.unknown.insert(host.to_owned())),
        }
    }

    pub(super) fn is_anyone(&self) -> bool {
        self.networks.is_empty() && self.unknown.is_empty()
    }

    /// The label, and who it is.
    pub(super) fn text(&self) -> String {
        let who: Vec<_> = self.networks.iter().map(text_of).chain(self.unknown.iter().cloned()).collect();
        if who.is_empty() { self.label.clone() } else { format!("{} ({})", self.label, who.join(", ")) }
    }
}

/// A network, or one address without the length of its prefix.
pub(super) fn text_of(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// One thing that must get through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) wall: Wall,
    pub(super) way: Way,
    pub(super) peer: Peer,
    pub(super) transport: Transport,
    /// Ports and ranges of ports, in order; none for any.
    pub(super) ports: Vec<String>,
    /// The listener, or the upstream and what of it; the comment of its rule.
    pub(super) name: String,
    pub(super) why: &'static str,
    /// Of data: how long a flow may be without a datagram.
    pub(super) data: Option<Duration>,
    /// Whether it is there over IPv4, and over IPv6.
    pub(super) families: [bool; 2],
}

/// Whether an address is of this host alone.
pub(super) fn is_local(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether a host is this one, by an address or by the name that every host has for itself.
fn is_own(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(is_local)
}

fn is_name(host: &str) -> bool {
    host.parse::<IpAddr>().is_err() && !is_own(host)
}

fn families(ip: IpAddr) -> [bool; 2] {
    match ip.to_canonical() {
        IpAddr::V4(_) => [true, false],
        IpAddr::V6(_) => [ip.is_unspecified(), true],
    }
}

/// All openings: first those of the outer firewall, clients before what the gateway connects to.
pub(super) fn openings(config: &Config) -> Vec<Opening> {
    let mut all = Vec::new();
    all.extend(config.listeners.iter().filter_map(|listener| door(config, listener)));
    all.extend(nodes(config));
    let named: BTreeSet<_> = config.listeners.iter().filter_map(|l| l.policy.as_deref()).collect();
    let policies = || config.policies.iter().filter(|policy| named.contains(policy.name.as_str()));
    all.extend(policies().flat_map(targets));
    let discovers = config.upstreams.iter().any(|upstream| upstream.discovery.is_some());
    all.extend(names(config, discovers || policies().any(resolves)));
    all.extend(shared(config));
    all.extend(collector(config));
    all.extend(config.admin.address.and_then(admin));
    all.sort_by_key(|opening| (opening.wall, opening.way));
    all
}

/// Clients come in here. A listener on a loopback address needs no opening, and of a port that the system chooses nobody
/// can be told.
fn door(config: &Config, listener: &ListenerConfig) -> Option<Opening> {
    let first = listener.address.first();
    if is_local(first.ip()) || listener.address.is_any_port() {
        return None;
    }
    let (why, transport) = match listener.protocol {
        Protocol::Https => ("fallback over TLS", Transport::Tcp),
        Protocol::Http => ("fallback in the clear", Transport::Tcp),
        Protocol::Tcp => ("control, which is SSH", Transport::Tcp),
        Protocol::Udp => ("data", Transport::Udp),
        Protocol::ForwardProxy => ("forward proxy", Transport::Tcp),
    };
    let is_forward = listener.protocol == Protocol::ForwardProxy;
    let mut peer = Peer::new(if is_forward { "clients inside" } else { "clients" });
    if let Some(policy) = config.policies.iter().find(|policy| Some(&policy.name) == listener.policy.as_ref()) {
        peer.networks.extend(&policy.auth.allow_from);
    }
    Some(Opening {
        wall: if is_forward { Wall::Inner } else { Wall::Outer },
        way: Way::In,
        peer,
        transport,
        ports: vec![ports(first.port(), listener.address.ports())],
        name: listener.name.clone(),
        why,
        data: (listener.protocol == Protocol::Udp).then_some(listener.flow_idle),
        families: families(first.ip()),
    })
}

/// A port, or a range of so many.
pub(super) fn ports(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        _ => format!("{first}-{}", first.saturating_add(count - 1)),
    }
}

/// The nodes of each upstream, an opening for those that have the same port for the same thing; any port where only SRV
/// records tell it. Those on this host need none.
fn nodes(config: &Config) -> Vec<Opening> {
    let mut all: Vec<Opening> = Vec::new();
    for upstream in &config.upstreams {
        let ends = reach(config, upstream).into_iter().filter(|end| !is_own(&end.host));
        let ends = ends.map(|end| (end.host, end.kind, vec![ports(end.port, end.count)]));
        let told = told(config, upstream).zip(upstream.discovery.as_ref());
        for (host, kind, ports) in ends.chain(told.map(|((kind, _), found)| (found.dns.clone(), kind, Vec::new()))) {
            let name = format!("{} {}", upstream.name, kind.as_str());
            let same = all.iter_mut().find(|opening| opening.name == name && opening.ports == ports);
            if let Some(opening) = same {
                opening.peer.host(&host);
                continue;
            }
            let mut peer = Peer::new(&format!("nodes of {}", upstream.name));
            peer.host(&host);
            let (transport, why) = match kind {
                Kind::Fallback => (Transport::Tcp, "fallback, and its health checks"),
                Kind::Control => (Transport::Tcp, "control, and its health checks"),
                Kind::Data => (Transport::Udp, "data"),
            };
            let idle = config.listeners.iter().filter(|l| l.protocol == Protocol::Udp).map(|l| l.flow_idle).max();
            all.push(Opening {
                wall: Wall::Inner,
                way: Way::Out,
                peer,
                transport,
                ports,
                name,
                why,
                data: idle.filter(|_| kind == Kind::Data),
                families: [true; 2],
            });
        }
    }
    all
}

/// What a forward proxy connects to.
fn targets(policy: &PolicyConfig) -> Vec<Opening> {
    let to = |wall, peer, ports| Opening {
        wall,
        way: Way::Out,
        peer,
        transport: Transport::Tcp,
        ports,
        name: format!("policy {}", policy.name),
        why: "what a forward proxy may reach",
        data: None,
        families: [true; 2],
    };
    let mut all = Vec::new();
    if let Some(parent) = &policy.parent {
        let mut peer = Peer::new("the parent proxy");
        peer.host(parent.host());
        if !is_own(parent.host()) {
            all.push(to(Wall::Outer, peer, vec![parent.port().to_string()]));
        }
        if policy.no_parent.is_empty() {
            return all;
        }
    }
    if policy.mode == PolicyMode::Report {
        all.push(to(Wall::Outer, Peer::new("targets"), Vec::new()));
    } else {
        for rule in &policy.allow {
            let mut peer = Peer::new("targets");
            let networks = rule.hosts.iter().map(|host| match host {
                HostPattern::Network(network) => Some(*network),
                _ => None,
            });
            // A name is ruled on by the gateway alone: a firewall knows addresses.
            peer.networks = networks.collect::<Option<_>>().unwrap_or_default();
            let is_named = peer.is_anyone();
            let is_inside =
                |network: &IpNet| policy.allow_private_addresses.iter().any(|inside| inside.contains(network));
            peer.networks.retain(|network| !is_inside(network));
            if peer.is_anyone() && !is_named {
                continue;
            }
            all.push(to(Wall::Outer, peer, rule.ports.iter().map(ToString::to_string).collect()));
        }
    }
    let inside: BTreeSet<_> =
        policy.allow_private_addresses.iter().filter(|network| !is_local(network.addr())).copied().collect();
    if !inside.is_empty() {
        let any = policy.mode == PolicyMode::Report || policy.allow.iter().any(|rule| rule.ports.is_empty());
        let ports: BTreeSet<_> = policy.allow.iter().flat_map(|rule| &rule.ports).map(ToString::to_string).collect();
        let peer = Peer { networks: inside, ..Peer::new("private targets") };
        all.push(to(Wall::Inner, peer, if any { Vec::new() } else { ports.into_iter().collect() }));
    }
    all
}

/// Whether a forward proxy looks names up: a parent does it instead for all that goes to it.
fn resolves(policy: &PolicyConfig) -> bool {
    policy.parent.as_ref().is_none_or(|parent| !policy.no_parent.is_empty() || is_name(parent.host()))
}

/// Name servers, where a name is to be found: of a node, of a parent, of a Redis, of a collector, or, by the resolver, of
/// what a forward proxy is asked for and of nodes that are discovered.
fn names(config: &Config, is_resolving: bool) -> Vec<Opening> {
    let mut led = config.upstreams.iter().filter(|upstream| leading(config, upstream).next().is_some());
    let named = led.any(|upstream| upstream.nodes.iter().any(|node| is_name(&node.host)))
        || config.state.redis().is_some_and(|redis| redis.redis.iter().any(|url| is_name(url.host())))
        || collects(config).is_some_and(|(host, _)| is_name(&host));
    let mut peer = Peer::new("name servers");
    let mut ports = BTreeSet::new();
    if is_resolving {
        let elsewhere = || config.resolver.servers.iter().filter(|server| !is_local(server.ip()));
        peer.networks.extend(elsewhere().map(|server| IpNet::from(server.ip())));
        ports.extend(elsewhere().map(|server| server.port().to_string()));
    }
    if named || (is_resolving && config.resolver.servers.is_empty()) {
        peer = peer.unknown("those of the gateway's host");
        ports.insert("53".to_owned());
    }
    if peer.is_anyone() {
        return Vec::new();
    }
    let opening = |transport| Opening {
        wall: Wall::Inner,
        way: Way::Out,
        peer: peer.clone(),
        transport,
        ports: ports.iter().cloned().collect(),
        name: "names".to_owned(),
        why: "DNS",
        data: None,
        families: [true; 2],
    };
    vec![opening(Transport::Udp), opening(Transport::Tcp)]
}

/// The Redis that replicas share, and the sentinels that tell where it is.
fn shared(config: &Config) -> Vec<Opening> {
    let Some(redis) = config.state.redis() else { return Vec::new() };
    let is_told = redis.sentinel_master.is_some();
    let mut peer = Peer::new(if is_told { "the sentinels" } else { "the Redis" });
    let elsewhere = redis.redis.iter().filter(|url| !is_own(url.host()));
    elsewhere.clone().for_each(|url| peer.host(url.host()));
    let ports: BTreeSet<_> = elsewhere.map(|url| url.port().to_string()).collect();
    if !is_told && redis.redis.len() > 1 {
        peer = peer.unknown("the servers that it names");
    }
    let opening = |peer, ports, name: &str, why| Opening {
        wall: Wall::Inner,
        way: Way::Out,
        peer,
        transport: Transport::Tcp,
        ports,
        name: name.to_owned(),
        why,
        data: None,
        families: [true; 2],
    };
    let is_elsewhere = !ports.is_empty();
    let (name, why) =
        if is_told { ("sentinels", "where the Redis is") } else { ("state", "sessions and pins that replicas share") };
    let mut all = Vec::from_iter(is_elsewhere.then(|| opening(peer, ports.into_iter().collect(), name, why)));
    if is_told {
        // Host and port are known to the sentinels alone.
        let peer = Peer::new("the Redis").unknown("the servers that the sentinels name");
        all.push(opening(peer, Vec::new(), "state", "sessions and pins that replicas share"));
    }
    all
}

/// Host and port of the collector of spans, where it is elsewhere.
fn collects(config: &Config) -> Option<(String, u16)> {
    let uri: http::Uri = config.log.otlp_endpoint.as_ref()?.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    (!is_own(host)).then(|| (host.to_owned(), uri.port_u16().unwrap_or(80)))
}

/// The collector of spans.
fn collector(config: &Config) -> Option<Opening> {
    let (host, port) = collects(config)?;
    let mut peer = Peer::new("the collector of spans");
    peer.host(&host);
    Some(Opening {
        wall: Wall::Inner,
        way: Way::Out,
        peer,
        transport: Transport::Tcp,
        ports: vec![port.to_string()],
        name: "spans".to_owned(),
        why: "spans by OTLP",
        data: None,
        families: [true; 2],
    })
}

/// The operator's own door, from inside only.
fn admin(address: SocketAddr) -> Option<Opening> {
    (!is_local(address.ip()) && address.port() > 0).then(|| Opening {
        wall: Wall::Inner,
        way: Way::In,
        peer: Peer::new("operators").unknown("the hosts of operators and of Prometheus"),
        transport: Transport::Tcp,
        ports: vec![address.port().to_string()],
        name: "admin".to_owned(),
        why: "health, metrics, commands",
        data: None,
        families: families(address.ip()),
    })
}
