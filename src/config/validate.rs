//! What no schema can say: names that must be unique, names that must exist, keys that go together.

mod discovery;
mod limits;
mod policy;
mod protocol;

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::shape::item_path;
use super::suggest::did_you_mean;
use super::units::format_duration;
use super::{
    ClientAuth, Config, ListenerConfig, Protocol, ProxyProtocol, RedisUrl, Scheme, StateConfig, TlsConfig, TokenLevel,
};

/// The longest silence towards a client; its patience is 20s, and half of that is for the way.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Every problem of a configuration whose shape is right.
pub(super) fn validate(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let names: Vec<_> = config.listeners.iter().map(|l| Some(l.name.clone())).collect();
    let paths: Vec<_> = (0..names.len()).map(|i| item_path("listeners", &names, i)).collect();
    unique("listeners", "name", config.listeners.iter().map(|l| Some(&l.name)), &mut problems);
    addresses(config, &paths, &mut problems);
    for (listener, path) in config.listeners.iter().zip(&paths) {
        self::listener(config, listener, path, &mut problems);
    }
    upstreams(config, &mut problems);
    policy::policies(config, &mut problems);
    limits::global(config, &mut problems);
    state(config, &mut problems);
    if config.log.otlp_endpoint.is_some() && !cfg!(feature = "otlp") {
        problems.push(
            Problem::new("log.otlp_endpoint", "this build sends no spans")
                .hint("build with --features otlp, or write otlp_endpoint: null".to_owned()),
        );
    }
    problems
}

/// A file that is written anew all the time is nothing else; a list of URLs is of one kind.
fn state(config: &Config, problems: &mut Vec<Problem>) {
    if let StateConfig::Unclear(why) = config.state {
        problems
            .push(Problem::new("state", why.to_string()).hint("give file, or redis and what goes with it".to_owned()));
    }
    if let Some(redis) = config.state.redis() {
        let kind = |url: &RedisUrl| {
            (url.is_tls(), url.user().map(str::to_owned), url.password().map(str::to_owned), url.database())
        };
        if redis.redis.iter().any(|url| redis.redis.first().is_some_and(|first| kind(url) != kind(first))) {
            problems.push(
                Problem::new("state.redis", "these differ in more than host and port")
                    .hint("all nodes of a cluster, and all sentinels, are spoken to in the same way".to_owned()),
            );
        }
        let numbered = redis.redis.iter().any(|url| url.database() > 0);
        if redis.redis.len() > 1 && redis.sentinel_master.is_none() && numbered {
            problems.push(
                Problem::new("state.redis", "a cluster has no numbered databases")
                    .hint("leave the number out; for sentinels give sentinel_master".to_owned()),
            );
        }
    }
    let StateConfig::File(file) = &config.state else { return };
    let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let certificates = tls.flat_map(|tls| tls.certificates()).flat_map(|pair| [pair.cert_file, pair.key_file]);
    let users = config.policies.iter().filter_map(|policy| policy.auth.users_file.clone());
    let log = std::iter::once(PathBuf::from(&config.access_log.path));
    if certificates
        .chain(users)
        .chain(log)
        .chain(config.admin.token_file.clone())
        .chain(config.doctor.secret_file.clone())
        .any(|other| other == *file)
    {
        problems.push(
            Problem::new("state.file", format!("{} is named as another file too", file.display()))
                .hint("give the state a file of its own".to_owned()),
        );
    }
}

/// What the admin door goes by in metrics and on its page.
const ADMIN: &str = "admin";

fn listener(config: &Config, listener: &ListenerConfig, path: &str, problems: &mut Vec<Problem>) {
    if listener.name == ADMIN {
        problems.push(
            Problem::new(format!("{path}.name"), "metrics have this name for the admin door")
                .hint("give the listener another name".to_owned()),
        );
    }
    leads_to(config, listener, path, problems);
    let place = format!("{path}.tls");
    match (listener.protocol, &listener.tls) {
        (Protocol::Https, None) => problems.push(
            Problem::new(place, "protocol https needs a certificate")
                .hint("write tls: { cert_file: tls.crt, key_file: tls.key }".to_owned()),
        ),
        (Protocol::Http, Some(_)) => problems.push(
            Problem::new(place, "protocol http has no TLS").hint("write protocol: https, or leave tls out".to_owned()),
        ),
        (Protocol::Https | Protocol::ForwardProxy, Some(tls)) => self::tls(tls, &place, problems),
        _ => {}
    }
    protocol::keys(listener, path, problems);
    protocol::udp(config, listener, path, problems);
    limits::listener(config, listener, path, problems);
    let admission = &listener.admission;
    if !admission.access_keys.is_empty() && admission.token != TokenLevel::Decode {
        problems.push(
            Problem::new(format!("{path}.admission.access_keys"), "access keys are only seen in a decoded token")
                .hint("write token: decode, or leave access_keys out".to_owned()),
        );
    }
    if let Some(notice) = listener.slow_node_notice.filter(|notice| *notice > MAX_SILENCE) {
        let (notice, most) = (format_duration(notice), format_duration(MAX_SILENCE));
        problems.push(
            Problem::new(format!("{path}.slow_node_notice"), format!("{notice} comes too late for a client"))
                .hint(format!("its patience is 20s; write at most {most}, or off")),
        );
    }
    if listener.proxy_protocol == ProxyProtocol::Accept && listener.trusted_proxies.is_empty() {
        problems.push(
            Problem::new(format!("{path}.proxy_protocol"), "no proxy is trusted to say who the client is")
                .hint("give trusted_proxies: [\"10.0.0.0/8\"], or write proxy_protocol: off".to_owned()),
        );
    }
}

/// The upstream or policy that a listener must name is there.
fn leads_to(config: &Config, listener: &ListenerConfig, path: &str, problems: &mut Vec<Problem>) {
    let (key, given, known): (_, _, Vec<&str>) = match listener.protocol {
        Protocol::ForwardProxy => {
            ("policy", &listener.policy, config.policies.iter().map(|p| p.name.as_str()).collect())
        }
        _ => ("upstream", &listener.upstream, config.upstreams.iter().map(|u| u.name.as_str()).collect()),
    };
    let place = format!("{path}.{key}");
    let choice = match known.as_slice() {
        [] if key == "policy" => "there is none yet: add policies".to_owned(),
        [] => "there is none yet: add upstreams".to_owned(),
        _ => format!("known: {}", known.join(", ")),
    };
    match given {
        None => problems
            .push(Problem::new(place, format!("protocol {} needs this key", listener.protocol.as_str())).hint(choice)),
        Some(name) if !known.contains(&name.as_str()) => {
            let hint = did_you_mean(name, known.iter().copied()).unwrap_or(choice);
            problems.push(Problem::new(place, format!("no {key} named {name:?}")).hint(hint));
        }
        Some(_) => {}
    }
}

fn tls(tls: &TlsConfig, path: &str, problems: &mut Vec<Problem>) {
    let single = "cert_file and key_file, or certificates: [{ cert_file, key_file }, ...]".to_owned();
    match (&tls.cert_file, &tls.key_file, tls.certificates.as_slice()) {
        (None, None, []) => {
            problems.push(Problem::new(path, "there is no certificate").hint(format!("give {single}")));
        }
        (Some(_), Some(_), []) | (None, None, _) => {}
        (Some(_), None, []) => {
            problems.push(Problem::new(format!("{path}.key_file"), "cert_file needs its key_file"));
        }
        (None, Some(_), []) => {
            problems.push(Problem::new(format!("{path}.cert_file"), "key_file needs its cert_file"));
        }
        (_, _, [_, ..]) => {
            problems.push(Problem::new(path, "certificates are given in two ways").hint(format!("keep one: {single}")))
        }
    }
    let place = format!("{path}.client_ca_file");
    match (tls.client_auth, &tls.client_ca_file) {
        (ClientAuth::Require, None) => problems.push(
            Problem::new(place, "client_auth: require needs the authorities to accept")
                .hint("give client_ca_file, or write client_auth: request".to_owned()),
        ),
        (ClientAuth::Off | ClientAuth::Request, Some(_)) => problems.push(
            Problem::new(place, "without client_auth: require no certificate is verified")
                .hint("write client_auth: require, or leave client_ca_file out".to_owned()),
        ),
        _ => {}
    }
}

fn upstreams(config: &Config, problems: &mut Vec<Problem>) {
    unique("upstreams", "name", config.upstreams.iter().map(|u| Some(&u.name)), problems);
    let names: Vec<_> = config.upstreams.iter().map(|u| Some(u.name.clone())).collect();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let place = item_path("upstreams", &names, index);
        let path = format!("{place}.nodes");
        unique(&path, "name", upstream.nodes.iter().map(|node| Some(&node.name)), problems);
        self::discovery::discovery(upstream, &place, problems);
        protocol::ports(config, upstream, &place, problems);
        if upstream.scheme == Scheme::Http && upstream.tls.is_some() {
            problems.push(
                Problem::new(format!("{place}.tls"), "scheme http has no TLS")
                    .hint("write scheme: https, or leave tls out".to_owned()),
            );
        }
    }
}

/// Port 0 is a different port each time, and so never the same address; TCP and UDP ports are apart.
fn addresses(config: &Config, paths: &[String], problems: &mut Vec<Problem>) {
    let is_udp = |listener: &ListenerConfig| listener.protocol == Protocol::Udp;
    for (index, listener) in config.listeners.iter().enumerate() {
        let clash = config
            .listeners
            .iter()
            .take(index)
            .position(|earlier| is_udp(earlier) == is_udp(listener) && earlier.address.overlaps(listener.address));
        if let Some(first) = clash {
            let earlier = config.listeners.get(first).map(|l| l.address);
            let message = match earlier == Some(listener.address) {
                true => format!("{} is already the address of listeners[{first}]", listener.address),
                false => format!("{} has a port in common with listeners[{first}]", listener.address),
            };
            problems.push(Problem::new(format!("listeners[{index}].address"), message));
        }
    }
    let Some(admin) = config.admin.address.filter(|address| address.port() != 0) else {
        return;
    };
    let clashes = |l: &ListenerConfig| !is_udp(l) && l.address.overlaps(admin.into());
    if let Some((_, path)) = config.listeners.iter().zip(paths).find(|(listener, _)| clashes(listener)) {
        problems.push(
            Problem::new("admin.address", format!("{admin} is already the address of {path}"))
                .hint("the admin door needs an address of its own, or off".to_owned()),
        );
    }
}

/// One problem for each item whose `key` an earlier item of the list has already.
fn unique<'a, T: Display + Eq + Hash + 'a>(
    list: &str,
    key: &str,
    items: impl Iterator<Item = Option<&'a T>>,
    problems: &mut Vec<Problem>,
) {
    let mut seen: HashMap<&T, usize> = HashMap::new();
    for (index, item) in items.enumerate() {
        let Some(item) = item else { continue };
        match seen.get(item) {
            Some(first) => problems.push(Problem::new(
                format!("{list}[{index}].{key}"),
                format!("{item} is already the {key} of {list}[{first}]"),
            )),
            None => {
                seen.insert(item, index);
            }
        }
    }
}
