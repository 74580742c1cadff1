//! What a client is told to come to this gateway: keys of a transfer spec, and flags of `ascp`.
//!
//! The keys are those of the public schema of transfer specs (`lib/aspera/transfer/spec.schema.yaml` of
//! <https://github.com/IBM/aspera-cli>), and so is which flag a key becomes: `http_fallback: force` is `-y F`,
//! `http_fallback_port` counts without a cipher and `https_fallback_port` with one. What the flags do is told in
//! `docs/protocol.md`; `ascp -h` of 3.9.0 lists them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{openings::is_local, reach::leading};
use crate::config::{ClientAuth, Config, ListenerConfig, Protocol, TlsVersion, UpstreamConfig};

/// A file of the client's own, in place of which its user puts the real one.
const CERTIFICATE: [&str; 4] = ["-I", "CLIENT.crt", "-Y", "CLIENT.key"];

/// The keys that bring a transfer to an upstream.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) upstream: String,
    pub(super) keys: Map<String, Value>,
    /// What the gateway is called at each of its listeners: a client has one name for all of them.
    pub(super) hosts: BTreeSet<String>,
}

/// One way of calling the client.
#[derive(Debug, Serialize)]
pub(super) struct Call {
    /// The listeners that it comes to.
    pub(super) listeners: Vec<String>,
    pub(super) what: String,
    pub(super) flags: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// The listeners of an upstream that a client can be told, for each protocol the first; those on loopback addresses only
/// where there are no others.
struct Doors<'c> {
    https: Option<&'c ListenerConfig>,
    http: Option<&'c ListenerConfig>,
    control: Option<&'c ListenerConfig>,
    data: Option<&'c ListenerConfig>,
}

/// What the gateway is called.
pub(super) struct Names {
    /// What `--host` says.
    pub(super) said: Option<String>,
    /// What it is called otherwise by who comes to a listener on every address.
    pub(super) other: String,
}

impl Names {
    /// For a client of this listener.
    fn at(&self, listener: &ListenerConfig) -> String {
        let ip = listener.address.first().ip().to_canonical();
        let own = || if ip.is_unspecified() { self.other.clone() } else { ip.to_string() };
        self.said.clone().unwrap_or_else(own)
    }

    /// For everybody.
    pub(super) fn host(&self) -> &str {
        self.said.as_deref().unwrap_or(&self.other)
    }
}

impl<'c> Doors<'c> {
    fn of(config: &'c Config, upstream: &'c UpstreamConfig) -> Doors<'c> {
        let told: Vec<_> = leading(config, upstream).filter(|listener| !listener.address.is_any_port()).collect();
        let is_open = |listener: &&ListenerConfig| !is_local(listener.address.first().ip());
        let is_told = told.iter().any(is_open);
        let first = |protocol| {
            let mut of_it = told.iter().filter(|listener| listener.protocol == protocol);
            of_it.find(|listener| !is_told || is_open(listener)).copied()
        };
        Doors {
            https: first(Protocol::Https),
            http: first(Protocol::Http),
            control: first(Protocol::Tcp),
            data: first(Protocol::Udp),
        }
    }
}

fn port(listener: &ListenerConfig) -> u16 {
    listener.address.first().port()
}

/// The port as it is typed; of one that the system chooses a word in its place.
fn port_text(listener: &ListenerConfig) -> String {
    if listener.address.is_any_port() { "PORT".to_owned() } else { port(listener).to_string() }
}

/// A transfer spec for each upstream that a listener with a known port leads to.
pub(super) fn specs(config: &Config, names: &Names) -> Vec<Spec> {
    let spec = |upstream| {
        let doors = Doors::of(config, upstream);
        let mut keys = Map::new();
        if let Some(control) = doors.control {
            keys.insert("ssh_port".to_owned(), json!(port(control)));
        }
        if let Some(data) = doors.data {
            keys.insert("fasp_port".to_owned(), json!(port(data)));
        }
        let fallbacks = [("https_fallback_port", doors.https), ("http_fallback_port", doors.http)];
        for (key, door) in fallbacks {
            keys.extend(door.map(|door| (key.to_owned(), json!(port(door)))));
        }
        if doors.https.is_some() || doors.http.is_some() {
            let fallback = if doors.control.is_some() { json!(true) } else { json!("force") };
            keys.insert("http_fallback".to_owned(), fallback);
            // The cipher is what tells which of the two ports is meant.
            let cipher = if doors.https.is_some() { "aes-128" } else { "none" };
            keys.insert("cipher".to_owned(), json!(cipher));
        } else if doors.control.is_some() {
            // What makes specs may say yes by itself, and the client would ask at port 80 or 443.
            keys.insert("http_fallback".to_owned(), json!(false));
        }
        let all = [doors.control, doors.https, doors.http, doors.data];
        let first = all.into_iter().flatten().next()?;
        keys.insert("remote_host".to_owned(), json!(names.at(first)));
        let hosts = all.into_iter().flatten().map(|door| names.at(door)).collect();
        Some(Spec { upstream: upstream.name.clone(), keys, hosts })
    };
    config.upstreams.iter().filter_map(spec).collect()
}

/// The calls of each upstream, and then those by way of forward proxies.
pub(super) fn calls(config: &Config, names: &Names) -> Vec<Call> {
    let mut all = Vec::new();
    for upstream in &config.upstreams {
        let doors = Doors::of(config, upstream);
        all.extend(nominal(&doors, names));
        all.extend(leading(config, upstream).filter(|l| l.protocol.is_fallback()).map(|l| fallback(l, names)));
    }
    let proxies = config.listeners.iter().filter(|listener| listener.protocol == Protocol::ForwardProxy);
    all.extend(proxies.map(|listener| by_way_of(config, listener, names)));
    all
}

/// Control and data, and the fallback where there is one.
fn nominal(doors: &Doors<'_>, names: &Names) -> Option<Call> {
    let (control, data) = (doors.control?, doors.data?);
    let mut flags = vec!["-P".to_owned(), port(control).to_string(), "-O".to_owned(), port(data).to_string()];
    let mut listeners = vec![control.name.clone(), data.name.clone()];
    let mut notes = reached(control);
    notes.push("SSH asks for a key (-i FILE) or a password (ASPERA_SCP_PASS) of USER on the node".to_owned());
    if let Some(fallback) = doors.https.or(doors.http) {
        flags.extend(["-y".to_owned(), "1".to_owned(), "-t".to_owned(), port(fallback).to_string()]);
        flags.extend(scheme(fallback));
        listeners.push(fallback.name.clone());
        notes.extend(too_new(fallback));
        notes.push(
            "-y 1 falls back at once where the SSH port is refused, after two minutes where nothing answers, and never where something accepts and stays silent"
                .to_owned(),
        );
    } else {
        flags.extend(["-y".to_owned(), "0".to_owned()]);
    }
    flags.push(format!("--host={}", names.at(control)));
    let what = if listeners.len() > 2 { "control and data, else the fallback" } else { "control and data" };
    Some(Call { listeners, what: what.to_owned(), flags, notes })
}

/// The fallback alone.
fn fallback(listener: &ListenerConfig, names: &Names) -> Call {
    let mut flags = ["-y", "F", "-t"].map(str::to_owned).to_vec();
    flags.push(port_text(listener));
    flags.extend(scheme(listener));
    flags.push(format!("--host={}", names.at(listener)));
    let mut notes = reached(listener);
    if listener.protocol == Protocol::Https {
        notes.push("ascp wants a certificate and a key of the client's own for TLS, whoever asks for them".to_owned());
        if listener.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Require) {
            notes.push("the certificate must be one of the listener's client_ca_file".to_owned());
        }
        notes.extend(too_new(listener));
    }
    let ip = listener.address.first().ip().to_canonical();
    if ip.is_ipv6() && !ip.is_unspecified() {
        notes.push("ascp 3.9 reaches no IPv6 address by its fallback, but through a forward proxy".to_owned());
    }
    let what = if listener.protocol == Protocol::Https {
        "the fallback alone, over TLS"
    } else {
        "the fallback alone, in the clear"
    };
    Call { listeners: vec![listener.name.clone()], what: what.to_owned(), flags, notes }
}

/// What is said of a listener that ascp cannot speak to.
fn too_new(listener: &ListenerConfig) -> Option<String> {
    let is_too_new = listener.tls.as_ref().is_some_and(|tls| tls.min_version == TlsVersion::V1_3);
    is_too_new.then(|| format!("ascp 3.9 speaks no TLS 1.3, and {} nothing older (tls.min_version)", listener.name))
}

/// `-T` for the clear, and else the files without which there is no TLS.
fn scheme(listener: &ListenerConfig) -> Vec<String> {
    match listener.protocol {
        Protocol::Https => CERTIFICATE.map(str::to_owned).to_vec(),
        _ => vec!["-T".to_owned()],
    }
}

/// The fallback to a node elsewhere.
fn by_way_of(config: &Config, listener: &ListenerConfig, names: &Names) -> Call {
    let mut flags = ["-y", "F", "-t", "NODE_PORT", "-x"].map(str::to_owned).to_vec();
    flags.push(format!("{}:{}", proxy_name(config, listener, names), port_text(listener)));
    flags.extend(CERTIFICATE.map(str::to_owned));
    flags.push("--host=NODE".to_owned());
    let mut notes = reached(listener);
    notes.push("-T in place of -I and -Y where the node speaks HTTP in the clear".to_owned());
    notes.push("-x takes a name or an IPv4 address with a port: no URL, no user, no IPv6 address".to_owned());
    if listener.tls.is_some() {
        notes.push(
            "this listener speaks TLS, which ascp does not speak to a proxy: it is for other programs".to_owned(),
        );
    }
    let policy = config.policies.iter().find(|policy| Some(&policy.name) == listener.policy.as_ref());
    if policy.is_some_and(|policy| policy.auth.users_file.is_some()) {
        notes.push("the policy asks for a user: ascp takes it from ASPERA_SCP_PROXY_AUTH_USER and ASPERA_SCP_PROXY_AUTH_PASSWORD in its environment".to_owned());
    }
    Call {
        listeners: vec![listener.name.clone()],
        what: "the fallback to a node elsewhere, through this proxy".to_owned(),
        flags,
        notes,
    }
}

/// What those inside call a proxy: where there are listeners for others as well, `--host` is what those say.
fn proxy_name(config: &Config, listener: &ListenerConfig, names: &Names) -> String {
    let ip = listener.address.first().ip().to_canonical();
    let is_shared = config.listeners.iter().any(|other| other.protocol != Protocol::ForwardProxy);
    if is_shared && ip.is_ipv4() && !ip.is_unspecified() { ip.to_string() } else { names.at(listener) }
}

/// What stands in the way of reaching a listener at all.
fn reached(listener: &ListenerConfig) -> Vec<String> {
    let mut notes = Vec::new();
    if listener.address.is_any_port() {
        notes.push("the system chooses the port at each start: give the listener one that can be told".to_owned());
    }
    if is_local(listener.address.first().ip()) {
        notes.push("it listens on a loopback address: only this host reaches it".to_owned());
    }
    notes
}
