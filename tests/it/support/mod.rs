//! The sandbox: a gateway with nodes in this process, on free ports, gone when it drops.

pub(crate) mod ascp;
pub(crate) mod browser;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod dns;
mod eventually;
pub(crate) mod knot;
pub(crate) mod meter;
pub(crate) mod netns;
pub(crate) mod nominal;
pub(crate) mod peer;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod quic;
pub(crate) mod redis;
mod scrape;
pub(crate) mod secrets;
pub(crate) mod supervisor;
pub(crate) mod sweep;
pub(crate) mod wire;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fallgate::{
    config::Config,
    gateway::Gateway,
    node::{
        Node, NodeOptions,
        client::{Client, insecure_tls},
    },
};

pub(crate) use eventually::eventually;
pub(crate) use scrape::{Metrics, get, until};
pub(crate) use sweep::Watch;
pub(crate) use wire::{Wire, uuid};

/// A token of the right shape.
pub(crate) const TOKEN: &str = "ATM3_ACsGh7NRzGA2-ANT6j6mT3O4UYw48JKSstgxg2y8PunjPYAAEc-5aMrqwWI9XCbMaE2Kxk_3MTA";

/// The token in the file `token` of a sandbox, for admin doors that go by it.
pub(crate) const ADMIN_TOKEN: &str = "adm1n-token-of-the-sandbox";

/// What a sandbox is made of, before it starts.
pub(crate) struct Plan {
    nodes: Vec<NodeOptions>,
    peers: Vec<SocketAddr>,
    ports: Vec<String>,
    listeners: String,
    listener: String,
    upstream: String,
    upstreams: String,
    admin: String,
    top: String,
}

/// A running gateway with its nodes.
pub(crate) struct Sandbox {
    watch: Watch,
    pub(crate) gateway: Gateway,
    pub(crate) nodes: Vec<Node>,
    pub(crate) dir: tempfile::TempDir,
    plan: Plan,
}

impl Plan {
    /// Two nodes, an https listener `tls` and an http listener `plain`; defaults for everything.
    pub(crate) fn new() -> Plan {
        Plan {
            nodes: Vec::new(),
            peers: Vec::new(),
            ports: Vec::new(),
            listeners: String::new(),
            listener: String::new(),
            upstream: String::new(),
            upstreams: String::new(),
            admin: String::new(),
            top: String::new(),
        }
    }

    /// Adds a node; without any there are two. An empty root becomes a folder of its own.
    pub(crate) fn node(mut self, options: NodeOptions) -> Plan {
        self.nodes.push(options);
        self
    }

    /// Adds the address of a node that the sandbox does not run; those come after its own.
    pub(crate) fn peer(mut self, address: SocketAddr) -> Plan {
        self.peers.push(address);
        self
    }

    /// More ports for the next node that has none yet, in flow form: `tcp: 22, udp: 33001`.
    pub(crate) fn ports(mut self, keys: &str) -> Plan {
        self.ports.push(format!(", {keys}"));
        self
    }

    /// Adds a listener beside `tls` and `plain`, in flow form: `{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}`.
    pub(crate) fn listeners(mut self, listener: &str) -> Plan {
        self.listeners += &format!("  - {listener}\n");
        self
    }

    /// Keys for both listeners, in flow form: `persistent_connection: auto, admission: {token: off}`.
    pub(crate) fn listener(mut self, keys: &str) -> Plan {
        self.listener = format!(", {keys}");
        self
    }

    /// Keys for the upstream, in flow form.
    pub(crate) fn upstream(mut self, keys: &str) -> Plan {
        self.upstream = format!(", {keys}");
        self
    }

    /// Adds an upstream, in flow form.
    pub(crate) fn upstreams(mut self, upstream: &str) -> Plan {
        self.upstreams += &format!("  - {upstream}\n");
        self
    }

    /// Keys for the admin door, in flow form; there is a file `token`.
    pub(crate) fn admin(mut self, keys: &str) -> Plan {
        self.admin = format!(", {keys}");
        self
    }

    /// Lines of top-level keys.
    pub(crate) fn top(mut self, lines: &str) -> Plan {
        self.top = lines.to_owned();
        self
    }

    pub(crate) async fn start(mut self) -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        if self.nodes.is_empty() && self.peers.is_empty() {
            let nodes = if self.ports.is_empty() { 2 } else { self.ports.len() };
            self.nodes = vec![NodeOptions::default(); nodes];
        }
        let mut nodes = Vec::new();
        for (i, options) in self.nodes.iter().enumerate() {
            let mut options = options.clone();
            if options.root == Path::new(".") {
                options.root = dir.path().join(format!("n{}", i + 1));
                std::fs::create_dir_all(&options.root).unwrap();
            }
            nodes.push(Node::start(loopback(0), options).await.unwrap());
        }
        certificate(dir.path(), "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let config = self.config(dir.path(), &addresses);
        std::fs::write(dir.path().join("token"), format!("{ADMIN_TOKEN}\n")).unwrap();
        std::fs::write(dir.path().join("fallgate.yaml"), self.yaml(&addresses)).unwrap();
        let (gateway, watch) = sweep::gateway(config, dir.path()).await;
        Sandbox { watch, gateway, nodes, dir, plan: self }
    }

    /// The config text for nodes at these addresses.
    fn yaml(&self, nodes: &[SocketAddr]) -> String {
        let node = |(i, a): (usize, &SocketAddr)| {
            let more = self.ports.get(i).map_or("", String::as_str);
            format!("{{name: n{}, host: {}, ports: {{http: {}{more}}}}}", i + 1, a.ip(), a.port())
        };
        let nodes = nodes.iter().chain(&self.peers).enumerate().map(node).collect::<Vec<_>>().join(", ");
        format!(
            "version: 1\nlisteners:\n  - {{name: tls, protocol: https, address: '127.0.0.1:0', upstream: u, tls: {{cert_file: tls.crt, key_file: tls.key}}{0}}}\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u{0}}}\n{3}upstreams:\n  - {{name: u, nodes: [{nodes}]{1}}}\n{5}access_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'{4}}}\n{2}\n",
            self.listener, self.upstream, self.top, self.listeners, self.admin, self.upstreams
        )
    }

    fn config(&self, dir: &Path, nodes: &[SocketAddr]) -> Config {
        let text = self.yaml(nodes);
        Config::from_yaml(&text, dir).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }
}

impl Sandbox {
    /// The address of the listener `tls` or `plain`.
    pub(crate) async fn address(&self, listener: &str) -> SocketAddr {
        let all = self.gateway.addresses().await;
        all.into_iter().find(|(name, _)| name == listener).unwrap().1
    }

    /// A client of the listener with the token that passes.
    pub(crate) async fn client(&self, listener: &str) -> Client {
        let address = self.address(listener).await;
        let tls = (listener == "tls").then(|| insecure_tls().unwrap());
        Client { tls, token: TOKEN.to_owned(), ..Client::new(address) }
    }

    /// What the gateway exports now.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::scrape(self.gateway.admin_address().unwrap()).await
    }

    /// Waits until the metrics say so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.metrics().await) {
            assert!(begin.elapsed() < Duration::from_secs(20), "never came: {what}");
        }
    }

    /// The config as it would be with other keys; for a reload. Listeners have port 0, as before.
    pub(crate) fn config(&self, change: impl FnOnce(String) -> String) -> Config {
        let addresses: Vec<_> = self.nodes.iter().map(Node::address).collect();
        let text = change(self.plan.yaml(&addresses));
        Config::from_yaml(&text, self.dir.path()).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    /// The access log's lines so far, once there are at least `n`.
    pub(crate) async fn records(&self, n: usize) -> Vec<serde_json::Value> {
        let path = self.dir.path().join("access.log");
        eventually("access records", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
            (lines.len() >= n).then_some(lines)
        })
        .await
    }

    /// All requests that any node received.
    pub(crate) fn all_seen(&self) -> Vec<fallgate::node::Seen> {
        self.nodes.iter().flat_map(Node::log).collect()
    }

    /// What node number `i` (from 1) received.
    pub(crate) fn seen(&self, i: usize) -> Vec<fallgate::node::Seen> {
        self.nodes[i - 1].log()
    }
}

/// Has node number `i` (from 1) close, each connection behind the answer to its request.
pub(crate) async fn away(sandbox: &mut Sandbox, i: usize) {
    let (node, begin) = (&mut sandbox.nodes[i - 1], Instant::now());
    // A process that another test is just starting may still hold a copy of the node's socket.
    while let Err(error) = node.go_away().await {
        assert!(begin.elapsed() < Duration::from_secs(20), "the port of the node: {error}");
    }
}

/// Has node number `i` (from 1) listen again.
pub(crate) fn back(sandbox: &mut Sandbox, i: usize) {
    sandbox.nodes[i - 1].come_back().unwrap();
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Makes NAME.crt and NAME.key for `localhost`, self-signed.
pub(crate) fn certificate(dir: &Path, name: &str, algorithm: &'static rcgen::SignatureAlgorithm) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(dir.join(format!("{name}.crt")), cert.pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// Bytes that do not repeat, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

/// A TLS client config that verifies nothing, as the real client.
pub(crate) fn tls() -> Arc<rustls::ClientConfig> {
    insecure_tls().unwrap()
}
