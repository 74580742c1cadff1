//! Nodes are configured or discovered, and what SRV records tell is told once.

use super::super::UpstreamConfig;
use super::super::error::Problem;

/// `path` is the place of the upstream.
pub(super) fn discovery(upstream: &UpstreamConfig, path: &str, problems: &mut Vec<Problem>) {
    let Some(discovery) = &upstream.discovery else {
        if upstream.nodes.is_empty() {
            problems.push(
                Problem::new(format!("{path}.nodes"), "the upstream has no nodes, and no way to find any")
                    .hint("give nodes, or discovery: { dns: NAME, ports: { ... } }".to_owned()),
            );
        }
        return;
    };
    let place = format!("{path}.discovery");
    if !upstream.nodes.is_empty() {
        problems.push(
            Problem::new(place.clone(), "the nodes are given already").hint("leave nodes or discovery out".to_owned()),
        );
    }
    if discovery.is_of_address() {
        problems.push(
            Problem::new(format!("{place}.dns"), format!("{} is an address, and no name", discovery.dns))
                .hint("give the node in nodes".to_owned()),
        );
    }
    let Some(port) = discovery.srv_port else { return };
    let place = format!("{place}.srv_port");
    if !discovery.is_srv() {
        problems.push(
            Problem::new(place, "no SRV records are looked up, and nothing else tells a port")
                .hint("write type: srv, or leave srv_port out".to_owned()),
        );
    } else if discovery.ports.port(port).is_some() {
        problems.push(
            Problem::new(place, format!("ports.{} is given already", port.as_str()))
                .hint("leave one of them out".to_owned()),
        );
    }
}
