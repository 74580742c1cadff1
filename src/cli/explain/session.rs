//! What an application has to do that makes transfer specs for this gateway, one line each. How the client falls back is
//! told in `docs/protocol.md`.

use std::collections::BTreeSet;

use super::{clients::Spec, reach::leading};
use crate::config::{
    AdmissionConfig, AffinityKey, BindClient, Config, Protocol, TokenKind, TokenLevel, UpstreamConfig, WhenFull,
    units::format_duration,
};

/// The lines that hold for this configuration.
pub(super) fn lines(config: &Config, host: &str, specs: &[Spec]) -> Vec<String> {
    let mut lines = Vec::new();
    let of = |protocol| config.listeners.iter().filter(move |listener| listener.protocol == protocol);
    let fallbacks: Vec<_> = config.listeners.iter().filter(|listener| listener.protocol.is_fallback()).collect();
    let is_nominal = of(Protocol::Tcp).next().is_some();
    if of(Protocol::ForwardProxy).next().is_some() {
        lines.push("by way of the proxy remote_host is the node elsewhere, and http_fallback is \"force\"; no key of a transfer spec names the proxy: ascp is told by -x".to_owned());
    }
    if fallbacks.is_empty() && !is_nominal {
        lines.push(AGAIN.to_owned());
        return lines;
    }
    let hosts: BTreeSet<_> = specs.iter().flat_map(|spec| &spec.hosts).collect();
    let host = match Vec::from_iter(hosts)[..] {
        [] => host,
        [one] => one,
        _ => "as the spec of the upstream says it",
    };
    let ways: Vec<_> = config.upstreams.iter().map(|upstream| Ways::of(config, upstream, specs)).collect();
    let any = |is: fn(&Ways) -> bool| ways.iter().any(is);
    let all = match (any(|ways| ways.control), any(|ways| ways.data), any(|ways| ways.https || ways.http)) {
        (true, true, true) => " for control, data and fallback alike",
        (true, true, false) => " for control and data alike",
        (true, false, true) => " for control and fallback alike",
        _ => "",
    };
    lines.push(format!(
        "remote_host is {host}, the gateway{}{all}; never that of a node",
        if all.is_empty() { "" } else { "," }
    ));
    for spec in specs.iter().filter(|spec| spec.hosts.len() > 1) {
        let (name, hosts) = (&spec.upstream, Vec::from_iter(spec.hosts.iter().map(String::as_str)).join(", "));
        lines.push(format!("to {name} a client comes at several addresses ({hosts}) and has one remote_host: a name that leads to all of them, or listeners on one"));
    }
    for listener in &fallbacks {
        lines.extend(tokens(listener.name.as_str(), &listener.admission));
    }
    if any(|ways| ways.control && (ways.https || ways.http)) {
        lines.push("http_fallback: true falls back by itself where SSH is refused; where a firewall drops it in silence that takes two minutes; where something accepts and stays silent, or the login fails, it never comes: say \"force\" for those who are known to have no way but HTTP".to_owned());
    }
    for (upstream, _) in
        config.upstreams.iter().zip(&ways).filter(|(_, ways)| !ways.control && (ways.https || ways.http))
    {
        let name = &upstream.name;
        lines.push(format!("http_fallback to {name}: \"force\", for there is no other way in; an agent that knows only true and false tries SSH first"));
    }
    for (upstream, _) in config.upstreams.iter().zip(&ways).filter(|(_, ways)| ways.control && !ways.data) {
        let name = &upstream.name;
        lines.push(format!("to {name} there is no listener for data: a client that has logged in by SSH sends it to fasp_port of remote_host all the same, so add one (protocol: udp), or have UDP come to the same node by another way"));
    }
    for (upstream, _) in config.upstreams.iter().zip(&ways).filter(|(_, ways)| ways.data && !ways.control) {
        let name = &upstream.name;
        lines.push(format!("to {name} there is no listener for control: data moves only after SSH has come to the same node by another way, under the same remote_host"));
    }
    let (https, http) = (any(|ways| ways.https), any(|ways| ways.http));
    if https && http {
        lines.push("cipher: none means http_fallback_port, any other https_fallback_port".to_owned());
    } else if https {
        lines.push("a cipher other than none, which would mean the port in the clear that there is not".to_owned());
    } else if http {
        lines.push("cipher: none, for there is no port for the fallback over TLS".to_owned());
    }
    if config.listeners.iter().any(|l| l.admission.bind_client == BindClient::Ip && l.protocol.is_fallback()) {
        lines.push(
            "a session keeps the address that it began with (bind_client: ip): a client does not change networks in it"
                .to_owned(),
        );
    }
    if config.upstreams.iter().any(|upstream| upstream.nodes.len() != 1 && leading(config, upstream).next().is_some()) {
        lines.push("one transfer is one session and meets one node; the next one may meet another, so all nodes of an upstream have the same files".to_owned());
    }
    for upstream in config.upstreams.iter().filter(|upstream| leading(config, upstream).next().is_some()) {
        let same = match upstream.affinity.key {
            AffinityKey::Session => continue,
            AffinityKey::Client => "those of one client address",
            AffinityKey::User => "those of one user",
        };
        let idle = format_duration(upstream.affinity.idle);
        lines.push(format!("sessions to {}: {same} meet the same node, until none came for {idle}", upstream.name));
    }
    let range = of(Protocol::Udp).map(|listener| listener.address.ports()).max().unwrap_or(0);
    if range > 1 {
        lines.push(format!("multi_session: up to {range}, each with a data port of its own from fasp_port on"));
    } else if range == 1 {
        lines.push(
            "multi_session: each of its sessions wants a data port of its own, and there is one: leave it out"
                .to_owned(),
        );
    }
    lines.push(AGAIN.to_owned());
    if !fallbacks.is_empty() {
        lines.push(PART.to_owned());
    }
    if !fallbacks.is_empty() && config.limits.when_full == WhenFull::Wait {
        let wait = format_duration(config.limits.max_wait);
        lines.push(format!("a start may wait up to {wait} for a place: no timeout of the application is shorter"));
    }
    lines
}

const AGAIN: &str = "resume_policy: attrs or more, not none, and the application starts a transfer again that failed: by the fallback the client repeats nothing by itself";
const PART: &str = "by the fallback the same user from the same address then meets the node that has the part, where the transfer ended badly";

/// What a client is told that leads to an upstream.
struct Ways {
    control: bool,
    data: bool,
    https: bool,
    http: bool,
}

impl Ways {
    /// Those of its spec; where no port can be told there is none, and all listeners count.
    fn of(config: &Config, upstream: &UpstreamConfig, specs: &[Spec]) -> Ways {
        let spec = specs.iter().find(|spec| spec.upstream == upstream.name);
        let is = |key, protocol| match spec {
            Some(spec) => spec.keys.contains_key(key),
            None => leading(config, upstream).any(|listener| listener.protocol == protocol),
        };
        Ways {
            control: is("ssh_port", Protocol::Tcp),
            // One whose port cannot be told is one all the same.
            data: leading(config, upstream).any(|listener| listener.protocol == Protocol::Udp),
            https: is("https_fallback_port", Protocol::Https),
            http: is("http_fallback_port", Protocol::Http),
        }
    }
}

/// What the token must be at a listener.
fn tokens(name: &str, admission: &AdmissionConfig) -> Option<String> {
    let word = |kind: &TokenKind| match kind {
        TokenKind::Transfer => "transfer",
        TokenKind::Basic => "Basic",
        TokenKind::Bearer => "Bearer",
    };
    let kinds = admission.kinds.iter().map(word).collect::<Vec<_>>().join(", ");
    let keys = if admission.access_keys.is_empty() { "" } else { ", of one of its access keys" };
    match admission.token {
        TokenLevel::Off => None,
        TokenLevel::Shape => Some(format!("token is required at {name}, and must have the shape of one: {kinds}")),
        TokenLevel::Decode => Some(format!("token is required at {name}, must decode and be in time{keys}: {kinds}")),
    }
}
