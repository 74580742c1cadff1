//! Gateways as processes of their own, in front of nodes of this one, with one Redis.

use std::net::SocketAddr;

use fallgate::node::{Node, NodeOptions};
use serde_json::Value;

use super::Balancer;
use crate::support::{
    ADMIN_TOKEN, Metrics, TOKEN, Wire, eventually, get as ask_for, loopback,
    process::Process,
    redis::Redis,
    secrets, uuid,
    wire::{Reply, end, put, start, start_body},
};

/// What a cluster is made of.
pub(crate) struct Plan {
    pub(crate) gateways: usize,
    pub(crate) nodes: usize,
    pub(crate) node: NodeOptions,
    /// More keys, in flow form, each after a comma.
    pub(crate) listener: &'static str,
    pub(crate) upstream: &'static str,
    pub(crate) state: &'static str,
    /// Top-level lines.
    pub(crate) top: &'static str,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { gateways: 3, nodes: 2, node: NodeOptions::default(), listener: "", upstream: "", state: "", top: "" }
    }
}

pub(crate) struct Cluster {
    pub(crate) gateways: Vec<Process>,
    pub(crate) redis: Redis,
    pub(crate) nodes: Vec<Node>,
    pub(crate) hosts: Vec<SocketAddr>,
    pub(crate) balancer: Balancer,
    pub(crate) files: tempfile::TempDir,
    config: String,
}

/// A Redis, where there is one on this machine; else its test is skipped.
pub(crate) async fn redis_of() -> Option<Redis> {
    if Redis::is_here() { Some(Redis::start().await) } else { None }
}

impl Cluster {
    pub(crate) async fn plain() -> Option<Cluster> {
        Cluster::start(&Plan::default()).await
    }

    pub(crate) async fn start(plan: &Plan) -> Option<Cluster> {
        Some(Cluster::on(redis_of().await?, plan).await)
    }

    /// With a Redis that is not there yet.
    pub(crate) async fn late(redis: Redis) -> Cluster {
        Cluster::made(redis, &Plan::default()).await
    }

    pub(crate) async fn on(redis: Redis, plan: &Plan) -> Cluster {
        let cluster = Cluster::made(redis, plan).await;
        cluster.agree(plan.gateways).await;
        cluster
    }

    async fn made(redis: Redis, plan: &Plan) -> Cluster {
        let files = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for i in 1..=plan.nodes {
            let root = files.path().join(format!("n{i}"));
            std::fs::create_dir_all(&root).unwrap();
            nodes.push(Node::start(loopback(0), NodeOptions { root, ..plan.node.clone() }).await.unwrap());
        }
        let node = |(i, node): (usize, &Node)| {
            format!("{{name: n{}, host: 127.0.0.1, ports: {{http: {}}}}}", i + 1, node.address().port())
        };
        let named: Vec<_> = nodes.iter().enumerate().map(node).collect();
        let config = format!(
            "version: 1\nlisteners:\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u{}}}\nupstreams:\n  - {{name: u, nodes: [{}]{}}}\nstate: {{redis: '{}'{}}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0', token_file: token}}\n{}\n",
            plan.listener,
            named.join(", "),
            plan.upstream,
            redis.url(),
            plan.state,
            plan.top
        );
        let (mut gateways, mut hosts) = (Vec::new(), Vec::new());
        for _ in 0..plan.gateways {
            let token = |dir: &std::path::Path| std::fs::write(dir.join("token"), ADMIN_TOKEN).unwrap();
            let gateway = Process::with(&config, token).await;
            hosts.push(gateway.address("plain").await);
            gateways.push(gateway);
        }
        let balancer = Balancer::start(hosts.clone()).await;
        Cluster { gateways, redis, nodes, hosts, balancer, files, config }
    }

    /// Waits until each knows of so many.
    pub(crate) async fn agree(&self, many: usize) {
        for gateway in self.gateways.iter().filter(|gateway| !gateway.alive().is_empty()) {
            gateway.until("replicas", &[], many as f64).await;
        }
    }

    /// Waits until all can use the Redis, or none can.
    pub(crate) async fn state(&self, up: bool) {
        for gateway in self.gateways.iter().filter(|gateway| !gateway.alive().is_empty()) {
            gateway.until("shared_state_up", &[], f64::from(u8::from(up))).await;
        }
    }

    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// A client whose requests go round all gateways.
    pub(crate) async fn begin(&self) -> Client {
        let client = Client { hosts: self.hosts.clone(), id: uuid(), turn: 0.into() };
        let reply = client.start().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        client
    }

    /// The sum over all of them.
    pub(crate) async fn sum(&self, family: &str) -> f64 {
        let mut sum = 0.0;
        for gateway in &self.gateways {
            sum += gateway.metrics().await.sum(family, &[]);
        }
        sum
    }

    pub(crate) async fn metrics(&self, i: usize) -> Metrics {
        self.gateways[i].metrics().await
    }

    /// The records of all of them, once there are at least `n`.
    pub(crate) async fn records(&self, n: usize) -> Vec<Value> {
        eventually("access records", || {
            let text =
                |gateway: &Process| std::fs::read_to_string(gateway.dir().join("access.log")).unwrap_or_default();
            let text: String = self.gateways.iter().map(text).collect();
            let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= n).then_some(lines)
        })
        .await
    }

    /// The transfers that one of them shows.
    pub(crate) async fn shown(&self, i: usize) -> Vec<Value> {
        let (status, body) = ask_for(self.gateways[i].admin(), "/api/v1/sessions").await;
        assert_eq!(status, 200, "{body}");
        let value: Value = serde_json::from_str(&body).unwrap();
        value["sessions"].as_array().unwrap_or_else(|| panic!("{value}")).clone()
    }

    /// The node that has had requests of this session; all of them must have been its own.
    pub(crate) fn node_of(&self, id: &str) -> usize {
        let had = |node: &Node| node.log().iter().any(|seen| seen.session == id);
        let all: Vec<_> = self.nodes.iter().enumerate().filter(|(_, node)| had(node)).map(|(i, _)| i).collect();
        assert_eq!(all.len(), 1, "it was on {all:?}");
        all[0]
    }
}

/// A client that makes a connection for each request, each to the next gateway.
pub(crate) struct Client {
    pub(crate) hosts: Vec<SocketAddr>,
    pub(crate) id: String,
    pub(crate) turn: std::sync::atomic::AtomicUsize,
}

impl Client {
    pub(crate) fn new(hosts: &[SocketAddr]) -> Client {
        Client { hosts: hosts.to_vec(), id: uuid(), turn: 0.into() }
    }

    fn next(&self) -> SocketAddr {
        self.hosts[self.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % self.hosts.len()]
    }

    pub(crate) async fn start(&self) -> Reply {
        let host = self.next();
        Wire::plain(host).await.ask(&start(host, &self.id, &start_body(&self.id, "put", TOKEN.as_bytes(), &[]))).await
    }

    pub(crate) async fn put(&self, name: &str, body: &[u8]) -> Reply {
        let host = self.next();
        Wire::plain(host).await.ask(&put(host, &self.id, name, body)).await
    }

    pub(crate) async fn end(&self) -> Reply {
        let host = self.next();
        Wire::plain(host).await.ask(&end(host, &self.id, "DONE")).await
    }
}

/// Whether a command goes well with a config of this state, and what it says.
pub(crate) fn tried(command: &str, state: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fallgate.yaml");
    let config = format!(
        "version: 1\nlisteners:\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}\nupstreams:\n  - {{name: u, nodes: [{{name: n, host: 127.0.0.1, ports: {{http: 1}}}}]}}\nstate: {state}\nadmin: {{address: off}}\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let said = program.args([command, "--config"]).arg(&file).output().unwrap();
    secrets::none_in("stdout", &said.stdout);
    secrets::none_in("stderr", &said.stderr);
    (said.status.success(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
}
