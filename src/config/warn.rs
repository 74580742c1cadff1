//! What is allowed and still likely to be a mistake: said by `check` and at the start, and no reason to refuse.

use std::time::Duration;

use super::error::Problem;
use super::shape::item_path;
use super::units::format_duration;
use super::{Config, Gate, HostPattern, ListenerConfig, Protocol, ProxyProtocol, RuleConfig, TlsVersion, WhenFull};

/// How long a client waits for an answer without a sign of life.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every warning, in the order of the listeners and then of the policies.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let names: Vec<_> = config.listeners.iter().map(|l| Some(l.name.clone())).collect();
    let mut warnings = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let path = item_path("listeners", &names, index);
        if listener.send_proxy_protocol {
            warnings.push(
                Problem::new(format!("{path}.send_proxy_protocol"), "OpenSSH does not understand the PROXY protocol")
                    .hint("on only for nodes whose SSH server or front takes it".to_owned()),
            );
        }
        let is_too_new = listener.tls.as_ref().is_some_and(|tls| tls.min_version == TlsVersion::V1_3);
        if listener.protocol == Protocol::Https && is_too_new {
            warnings.push(
                Problem::new(format!("{path}.tls.min_version"), "ascp 3.9 speaks no TLS 1.3")
                    .hint("leave it at \"1.2\", which lets newer clients have 1.3".to_owned()),
            );
        }
        let trusts = !listener.trusted_proxies.is_empty() && listener.proxy_protocol == ProxyProtocol::Off;
        if listener.protocol == Protocol::Tcp && trusts {
            warnings.push(
                Problem::new(format!("{path}.trusted_proxies"), "nothing but the PROXY header names a client here")
                    .hint("write proxy_protocol: accept, or leave trusted_proxies out".to_owned()),
            );
        }
        if let Some(longest) = silent_wait(config, listener) {
            let wait = format_duration(longest);
            warnings.push(
                Problem::new(
                    format!("{path}.slow_node_notice"),
                    format!("a client that hears nothing gives up after 20s, and may have to wait {wait} for room"),
                )
                .hint("leave slow_node_notice at 8s, or give limits: { max_wait: 15s }".to_owned()),
            );
        }
        if let Some(control) = config.listeners.iter().find(|control| is_fronted(control, listener)) {
            warnings.push(
                Problem::new(
                    format!("{path}.gate"),
                    format!("{} hears from a front who its clients are, and datagrams have no such front", control.name),
                )
                .hint("datagrams must come from the address that the PROXY header names, or the gate stays closed; then write gate: off".to_owned()),
            );
        }
    }
    policies(config, &mut warnings);
    warnings
}

fn policies(config: &Config, warnings: &mut Vec<Problem>) {
    let names: Vec<_> = config.policies.iter().map(|p| Some(p.name.clone())).collect();
    for (index, policy) in config.policies.iter().enumerate() {
        let path = item_path("policies", &names, index);
        if policy.auth.users_file.is_some() {
            warnings.push(
                Problem::new(
                    format!("{path}.auth.users_file"),
                    "ascp logs in only where its environment has ASPERA_SCP_PROXY_AUTH_USER and ASPERA_SCP_PROXY_AUTH_PASSWORD",
                )
                .hint("where that cannot be seen to, let its hosts in by auth.allow_from, in a policy without users_file".to_owned()),
            );
        }
        let anyone = policy.auth.users_file.is_none() && policy.auth.allow_from.is_empty();
        let anywhere = |rule: &RuleConfig| rule.clients.is_empty() && rule.hosts.contains(&HostPattern::Any);
        if let Some(at) = policy.allow.iter().position(|rule| anyone && anywhere(rule)) {
            warnings.push(
                Problem::new(format!("{path}.allow[{at}]"), "anyone may connect to any host through this gateway")
                    .hint("say who may in auth.allow_from, or name the hosts".to_owned()),
            );
        }
    }
}

/// How long a client may wait for room without hearing of it, if that is longer than it has patience.
fn silent_wait(config: &Config, listener: &ListenerConfig) -> Option<Duration> {
    let (own, all) = (&listener.limits, &config.limits);
    let waits = own.when_full.unwrap_or(all.when_full) == WhenFull::Wait;
    let longest = own.max_wait.unwrap_or(all.max_wait);
    let silent = listener.protocol.is_fallback() && listener.slow_node_notice.is_none();
    (waits && silent && longest >= PATIENCE).then_some(longest)
}

/// Whether control connections that open the gate of `data` come through a front.
fn is_fronted(control: &ListenerConfig, data: &ListenerConfig) -> bool {
    let gated = data.protocol == Protocol::Udp && data.gate == Gate::ControlConnection;
    let opens = control.protocol == Protocol::Tcp && control.upstream == data.upstream;
    gated && opens && control.proxy_protocol == ProxyProtocol::Accept
}
