//! The gateway under load: a process that is reloaded, upgraded, and killed.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::{nodes::Place, ports::Ports, schedule::Kind, work::LISTENERS};
use crate::support::{Metrics, certificate, get, process::Process};

/// Nothing that is done to it takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this build of the gateway can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abilities {
    /// It hands over to another process on SIGUSR2.
    pub(crate) upgrade: bool,
    /// It can keep what it knows in a file (`state`).
    pub(crate) state: bool,
}

impl Abilities {
    pub(crate) fn find() -> Abilities {
        let said = |words: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_fallgate")).args(words).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let schema: serde_json::Value = serde_json::from_str(&said(&["schema"])).unwrap();
        Abilities {
            upgrade: said(&["run", "--help"]).contains("SIGUSR2"),
            state: schema["properties"].get("state").is_some(),
        }
    }

    /// The faults that it is up to.
    pub(crate) fn kinds(self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| *kind != Kind::Upgrade || self.upgrade).collect()
    }
}

/// Its ports, which stay the same.
pub(crate) struct Doors {
    pub(crate) fallback: [u16; 4],
    pub(crate) control: u16,
    pub(crate) data: u16,
    pub(crate) egress: u16,
    extra: u16,
    admin: u16,
}

impl Doors {
    pub(crate) fn choose(ports: &mut Ports) -> Doors {
        Doors {
            fallback: [(); 4].map(|()| ports.next()),
            control: ports.next(),
            data: ports.next(),
            egress: ports.next(),
            extra: ports.next(),
            admin: ports.next(),
        }
    }

    /// The config before these nodes. `way` 0 is the plain one; each other changes what may change under load.
    pub(crate) fn config(&self, nodes: &[Place], abilities: Abilities, way: u64) -> String {
        let is = |n: u64| way % 8 == n;
        let nodes: Vec<_> = nodes.iter().enumerate().map(|(i, node)| {
            let Place { name, http, tcp, udp, .. } = node;
            let weight = if is(1) && i == 0 { 3 } else { 1 };
            let drain = if is(2) && i == 2 { "on" } else { "off" };
            format!("{{name: {name}, host: 127.0.0.1, ports: {{http: {http}, tcp: {tcp}, udp: {udp}}}, weight: {weight}, drain: {drain}}}")
        }).collect();
        let mut listeners = String::new();
        for ((name, is_tls, persistence), port) in LISTENERS.iter().zip(self.fallback) {
            let (protocol, tls) =
                if *is_tls { ("https", ", tls: {cert_file: tls.crt, key_file: tls.key}") } else { ("http", "") };
            listeners += &format!(
                "  - {{name: {name}, protocol: {protocol}, address: '127.0.0.1:{port}', upstream: u, persistent_connection: {persistence}{tls}}}\n"
            );
        }
        let Doors { control, data, egress, extra, admin, .. } = self;
        if is(3) {
            listeners += &format!("  - {{name: extra, protocol: http, address: '127.0.0.1:{extra}', upstream: u}}\n");
        }
        let flow_idle = if is(4) { "12s" } else { "10s" };
        let cap = if is(5) { "400Mbit/s" } else { "off" };
        let balance = if is(6) { "round_robin" } else { "least_sessions" };
        let state = if abilities.state { "state: {file: state}\n" } else { "" };
        format!(
            "version: 1
listeners:
{listeners}  - {{name: control, protocol: tcp, address: '127.0.0.1:{control}', upstream: u}}
  - {{name: data, protocol: udp, address: '127.0.0.1:{data}', upstream: u, gate_grace: 5s, flow_idle: {flow_idle}}}
  - {{name: egress, protocol: forward_proxy, address: '127.0.0.1:{egress}', policy: p}}
upstreams:
  - {{name: u, balance: {balance}, health_check: {{interval: 1s, timeout: 2s}}, nodes: [{}]}}
policies:
  - {{name: p, allow: [{{hosts: [127.0.0.0/8]}}], allow_private_addresses: [127.0.0.0/8]}}
limits: {{max_connections_per_client: off, max_sessions_per_client: off, session_starts_per_client: off, requests_per_client: off}}
bandwidth: {{per_session: {{upload: {cap}, download: {cap}}}}}
timeouts: {{session_idle: 40s, tunnel_idle: 40s}}
access_log: {{path: access.log}}
admin: {{address: '127.0.0.1:{admin}'}}
{state}",
            nodes.join(", ")
        )
    }
}

/// Starts it with a certificate beside its config.
pub(crate) async fn start(config: &str) -> Process {
    let process = Process::with(config, |dir| certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256)).await;
    ready(&process).await;
    process
}

/// Waits until it takes new sessions.
pub(crate) async fn ready(process: &Process) {
    let begin = Instant::now();
    while get(process.admin(), "/readyz").await.0 != 200 {
        assert!(begin.elapsed() < PATIENCE, "the gateway is not ready: {}", process.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Has it read another config, and waits until that is in force. Every other time there is a new certificate too.
pub(crate) async fn reload(process: &Process, config: &str, way: u64) {
    if way >> 8 & 1 == 1 {
        certificate(process.dir(), "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    }
    let generation = |metrics: &Metrics| metrics.sum("config_generation", &[]);
    let before = generation(&process.metrics().await);
    process.configure(config);
    let begin = Instant::now();
    loop {
        let metrics = process.metrics().await;
        if generation(&metrics) > before && metrics.sum("config_last_reload_success", &[]) == 1.0 {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "the config was not taken: {}", process.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Has it hand over to a new process, and waits until that serves. The old one goes on with what it has.
pub(crate) async fn upgrade(process: &mut Process) {
    process.upgrade().await;
    ready(process).await;
}
