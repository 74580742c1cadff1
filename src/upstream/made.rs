//! What the DNS says of a node, and the node that is made of it.

use std::{cmp::Ordering, collections::HashSet, net::IpAddr, sync::Arc};

use super::node::Node;
use crate::{
    config::{DiscoveryConfig, NodePort, UpstreamConfig, host::is_name},
    net::dns::{Resolver, Service},
    telemetry::Metrics,
};

/// Nodes that an upstream may have from the DNS; of more the last ones in their order are left out.
pub(super) const MAX_NODES: usize = 256;
/// The greatest weight of a node.
const MAX_WEIGHT: u32 = 100;

/// What the DNS says of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// An address, or the target of an SRV record; the name of the node as well.
    pub(super) host: String,
    /// The port that an SRV record tells.
    pub(super) port: Option<u16>,
    /// 0 where no SRV record tells it.
    pub(super) priority: u16,
    /// From 1 to 100; 1 where no SRV record tells it.
    pub(super) weight: u32,
}

impl Found {
    /// One at an address.
    pub(super) fn at(ip: IpAddr) -> Found {
        Found { host: ip.to_string(), port: None, priority: 0, weight: 1 }
    }
}

/// Where a node comes from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) found: Found,
    pub(super) resolver: Arc<Resolver>,
}

/// Makes the nodes of one upstream.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) upstream: UpstreamConfig,
    pub(super) discovery: DiscoveryConfig,
    pub(super) checked: Vec<NodePort>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) metrics: Arc<Metrics>,
}

impl Maker {
    /// The node of which this was found, with health and sessions of the one before if that is at the same place.
    pub(super) fn node(&self, found: Found, before: Option<&Node>) -> Node {
        let scheme = self.upstream.scheme;
        let config = self.discovery.node(&found.host, scheme, found.port, found.weight);
        let before = before.filter(|node| node.is_at(scheme, &config));
        let origin = Origin { found, resolver: self.resolver.clone() };
        Node::at((&self.upstream, &self.checked), &config, Some(origin), before, &self.metrics)
    }
}

/// Whether a node can be at this address.
pub(super) fn can_be(ip: &IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

/// A node at each address where one can be, in their order.
pub(super) fn of_addresses(addresses: &[IpAddr]) -> Vec<Found> {
    let mut found: Vec<_> = addresses.iter().filter(|ip| can_be(ip)).copied().map(Found::at).collect();
    found.sort_by(in_order);
    found.dedup();
    found.truncate(MAX_NODES);
    found
}

/// A node at each target that is the name of a host, or an address where a node can be, in their order; of several records of one the first by priority, weight and port counts. Weights
/// above 100 are brought down all together, so that the greatest is 100; none is below 1. What they have in common is taken
/// out, for nodes take turns of as many sessions as their weight.
pub(super) fn of_services(mut services: Vec<Service>) -> Vec<Found> {
    services.sort_by_key(|service| (service.priority, std::cmp::Reverse(service.weight), service.port));
    let mut hosts = HashSet::new();
    let is_host = |host: &str| host.parse().map_or_else(|_| is_name(host), |ip| can_be(&ip));
    services.retain(|service| is_host(&service.host) && hosts.insert(service.host.clone()));
    let greatest = services.iter().map(|service| u32::from(service.weight)).max().unwrap_or_default();
    let scaled = |weight: u16| (u32::from(weight) * MAX_WEIGHT / greatest.max(MAX_WEIGHT)).max(1);
    let common = services.iter().map(|service| scaled(service.weight)).reduce(common_divisor).unwrap_or(1);
    let found = services.into_iter().map(|service| Found {
        port: Some(service.port),
        priority: service.priority,
        weight: scaled(service.weight) / common,
        host: service.host,
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by(in_order);
    found.truncate(MAX_NODES);
    found
}

/// The greatest number that divides both; neither is 0.
fn common_divisor(a: u32, b: u32) -> u32 {
    match a.checked_rem(b) {
        Some(rest) if rest > 0 => common_divisor(b, rest),
        _ => b,
    }
}

/// Addresses by their numbers, names by the alphabet.
pub(super) fn in_order(a: &Found, b: &Found) -> Ordering {
    let key = |found: &Found| found.host.parse::<IpAddr>().ok();
    key(a).cmp(&key(b)).then_with(|| a.host.cmp(&b.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(host: &str, port: u16, priority: u16, weight: u16) -> Service {
        Service { host: host.to_owned(), port, priority, weight }
    }

    fn hosts(found: &[Found]) -> Vec<&str> {
        found.iter().map(|found| found.host.as_str()).collect()
    }

    #[test]
    fn a_node_is_at_each_address_once_whatever_their_order() {
        let text =
            ["10.0.0.10", "2001:db8::1", "10.0.0.9", "10.0.0.10", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255"];
        let all: Vec<IpAddr> = text.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(hosts(&of_addresses(&all)), ["10.0.0.9", "10.0.0.10", "2001:db8::1"]);
        let other: Vec<_> = all.into_iter().rev().collect();
        assert_eq!(hosts(&of_addresses(&other)), ["10.0.0.9", "10.0.0.10", "2001:db8::1"]);
    }

    #[test]
    fn an_answer_of_thousands_makes_no_more_nodes_than_there_may_be() {
        let all: Vec<_> = (0..4000_u32).rev().map(|n| IpAddr::V4((0x0a00_0001 + n).into())).collect();
        let found = of_addresses(&all);
        assert_eq!((found.len(), found[0].host.as_str()), (MAX_NODES, "10.0.0.1"));
    }

    #[test]
    fn a_target_that_is_neither_a_name_nor_an_address_of_a_host_is_no_node() {
        let all =
            ["0.0.0.0", "224.0.0.1", "0\\.0\\.0\\.0", "a\\012b", "a/b", "127.1", "a.test", "192.0.2.1", "_a.test"];
        let all = all.iter().map(|host| service(host, 1, 0, 1)).collect();
        assert_eq!(hosts(&of_services(all)), ["_a.test", "a.test", "192.0.2.1"]);
    }

    #[test]
    fn weights_keep_their_proportion_and_are_never_out_of_range() {
        let of = |weights: &[u16]| -> Vec<u32> {
            let all = weights.iter().enumerate().map(|(i, weight)| service(&format!("n{i}"), 1, 0, *weight));
            of_services(all.collect()).iter().map(|found| found.weight).collect()
        };
        assert_eq!(of(&[0, 0]), [1, 1]);
        assert_eq!(of(&[33, 100, 1]), [33, 100, 1]);
        assert_eq!(of(&[65535, 32768, 1]), [100, 50, 1]);
        assert_eq!((of(&[33, 33, 33]), of(&[60, 20])), (vec![1, 1, 1], vec![3, 1]));
    }

    #[test]
    fn of_several_records_of_one_target_the_one_that_would_be_asked_first_counts() {
        let all = vec![service("a", 3, 1, 9), service("b", 1, 0, 1), service("a", 2, 0, 5), service("a", 1, 0, 4)];
        let found = of_services(all);
        assert_eq!(hosts(&found), ["a", "b"]);
        assert_eq!((found[0].port, found[0].priority, found[0].weight), (Some(2), 0, 5));
        assert_eq!(common_divisor(12, 18), 6);
    }
}
