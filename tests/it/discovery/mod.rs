//! Nodes from the DNS: they come, drain and go while transfers run, and what cannot be looked up stays.

mod answers;
mod changes;
mod processes;
mod services;

use std::net::{Ipv4Addr, SocketAddr};

use fallgate::node::{Node, NodeOptions};
use serde_json::Value;

use crate::support::{
    TOKEN, Wire, eventually, get as ask_for,
    knot::Knot,
    process::Process,
    uuid,
    wire::{Reply, end, put, start, start_body},
};

/// A gateway as a process, a name server, and nodes at 127.0.0.2 and further, all on one port.
struct Place {
    gateway: Process,
    knot: Knot,
    nodes: Vec<Node>,
    host: SocketAddr,
    files: tempfile::TempDir,
}

/// Nodes on one port at as many addresses, from 127.0.0.2 on.
async fn nodes(count: u8, files: &std::path::Path) -> Vec<Node> {
    'ports: loop {
        let mut nodes: Vec<Node> = Vec::new();
        for last in 2..2 + count {
            let root = files.join(format!("n{last}"));
            std::fs::create_dir_all(&root).unwrap();
            let port = nodes.first().map_or(0, |node| node.address().port());
            let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
            match Node::start(address, NodeOptions { root, ..NodeOptions::default() }).await {
                Ok(node) => nodes.push(node),
                Err(_) => continue 'ports,
            }
        }
        return nodes;
    }
}

/// The config of a gateway whose nodes a name server tells; more keys of `discovery` and of the upstream in flow form,
/// each after a comma, and lines of top-level keys.
fn config(server: SocketAddr, discovery: &str, upstream: &str, top: &str) -> String {
    format!(
        "version: 1\nlisteners:\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}\nupstreams:\n  - {{name: u, health_check: {{interval: 500ms}}, discovery: {{interval: 1s, {discovery}}}{upstream}}}\nresolver: {{servers: ['{server}'], timeout: 1s}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n{top}\n"
    )
}

impl Place {
    /// Two nodes, behind the name `nodes.test` that has these records; none where there is no name server.
    async fn start(records: &str, discovery: &str, top: &str) -> Option<Place> {
        Place::with(2, records, |port| format!("dns: nodes.test, ports: {{http: {port}}}{discovery}"), "", top).await
    }

    async fn with(
        count: u8,
        records: &str,
        discovery: impl FnOnce(u16) -> String,
        upstream: &str,
        top: &str,
    ) -> Option<Place> {
        let files = tempfile::tempdir().unwrap();
        let nodes = nodes(count, files.path()).await;
        let port = nodes[0].address().port();
        let knot = Knot::start(&records.replace("PORT", &port.to_string())).await?;
        let gateway = Process::start(&config(knot.address(), &discovery(port), upstream, top)).await;
        let host = gateway.address("plain").await;
        Some(Place { gateway, knot, nodes, host, files })
    }

    fn port(&self) -> u16 {
        self.nodes[0].address().port()
    }

    /// The names of the nodes that the admin door shows, a `-` behind those to which nothing new goes.
    async fn shown(&self) -> Vec<String> {
        let (status, body) = ask_for(self.gateway.admin(), "/api/v1/nodes").await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let name = |node: &Value| {
            let drains = if node["drains"].as_bool().unwrap() { "-" } else { "" };
            format!("{}{drains}", node["name"].as_str().unwrap())
        };
        body["nodes"].as_array().unwrap().iter().map(name).collect()
    }

    /// Waits until the admin door shows these nodes.
    async fn until(&self, nodes: &[&str]) {
        let begin = std::time::Instant::now();
        loop {
            let shown = self.shown().await;
            if shown == nodes {
                return;
            }
            assert!(begin.elapsed().as_secs() < 20, "{shown:?} and never {nodes:?}");
        }
    }

    /// Waits until the gateway says this of its readiness.
    async fn until_ready(&self, status: u16, text: &str) {
        let begin = std::time::Instant::now();
        loop {
            let said = ask_for(self.gateway.admin(), "/readyz").await;
            if said == (status, text.to_owned()) {
                return;
            }
            assert!(begin.elapsed().as_secs() < 20, "{said:?} and never {text}");
        }
    }

    /// Waits until the log has this.
    async fn until_logged(&self, what: &str) {
        eventually(what, || self.gateway.log().contains(what).then_some(())).await;
    }

    async fn begin(&self) -> (String, Reply) {
        let id = uuid();
        let body = start_body(&id, "put", TOKEN.as_bytes(), &[]);
        let reply = Wire::plain(self.host).await.ask(&start(self.host, &id, &body)).await;
        (id, reply)
    }

    /// A session, with the number of its node from 0.
    async fn session(&self) -> (String, usize) {
        let (id, reply) = self.begin().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let at = self.nodes.iter().position(|node| node.log().iter().any(|seen| seen.session == id));
        (id, at.expect("a node has it"))
    }

    async fn put(&self, id: &str, name: &str) -> u16 {
        Wire::plain(self.host).await.ask(&put(self.host, id, name, b"body")).await.status
    }

    async fn end(&self, id: &str) -> u16 {
        Wire::plain(self.host).await.ask(&end(self.host, id, "DONE")).await.status
    }
}
