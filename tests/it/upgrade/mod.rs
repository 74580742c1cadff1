//! A new process takes over from a running one, and nobody who transfers hears of it.

mod chain;
mod command;
mod failing;
mod flows;
mod limits;
mod promise;
mod sessions;
mod tunnels;

use std::net::SocketAddr;

use fallgate::node::{Node, NodeOptions};

use crate::support::{
    TOKEN, Wire, get as ask_for, loopback,
    process::Process,
    uuid,
    wire::{Reply, end, put, start, start_body},
};

/// A gateway as a process with the listener `plain`, in front of nodes of this one.
struct Place {
    gateway: Process,
    nodes: Vec<Node>,
    host: SocketAddr,
    _files: tempfile::TempDir,
}

/// What a place is made of.
#[derive(Default)]
struct Plan {
    nodes: Vec<NodeOptions>,
    /// More keys, in flow form, each after a comma.
    listener: &'static str,
    upstream: &'static str,
    /// Lines of listeners, and of top-level keys.
    listeners: &'static str,
    top: &'static str,
}

/// The config of a place in front of these nodes.
fn config(plan: &Plan, nodes: &[SocketAddr]) -> String {
    let node =
        |(i, a): (usize, &SocketAddr)| format!("{{name: n{}, host: 127.0.0.1, ports: {{http: {}}}}}", i + 1, a.port());
    let nodes: Vec<_> = nodes.iter().enumerate().map(node).collect();
    format!(
        "version: 1\nlisteners:\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u{}}}\n{}upstreams:\n  - {{name: u, nodes: [{}]{}}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n{}\n",
        plan.listener,
        plan.listeners,
        nodes.join(", "),
        plan.upstream,
        plan.top
    )
}

impl Place {
    async fn start(plan: &Plan) -> Place {
        let files = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for (i, options) in plan.nodes.iter().enumerate() {
            let root = files.path().join(format!("n{}", i + 1));
            std::fs::create_dir_all(&root).unwrap();
            nodes.push(Node::start(loopback(0), NodeOptions { root, ..options.clone() }).await.unwrap());
        }
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let gateway = Process::start(&config(plan, &addresses)).await;
        let host = gateway.address("plain").await;
        Place { gateway, nodes, host, _files: files }
    }

    /// One node, and defaults.
    async fn plain() -> Place {
        Place::start(&Plan { nodes: vec![NodeOptions::default()], ..Plan::default() }).await
    }

    /// The requests that the nodes have had of a session, in their order.
    fn seen(&self, id: &str) -> Vec<String> {
        let all = self.nodes.iter().flat_map(Node::log);
        all.filter(|seen| seen.session == id).map(|seen| seen.operation).collect()
    }

    /// Waits until bytes of some body have come.
    async fn has_moved(&self) {
        while self.gateway.metrics().await.sum("bytes_total", &[]) == 0.0 {}
    }

    /// The transfers that the newest process shows.
    async fn shown(&self) -> Vec<serde_json::Value> {
        let (status, body) = ask_for(self.gateway.admin(), "/api/v1/sessions").await;
        assert_eq!(status, 200, "{body}");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        value["sessions"].as_array().unwrap_or_else(|| panic!("{value}")).clone()
    }
}

/// A client that makes a connection for each request.
struct Client {
    host: SocketAddr,
    id: String,
}

impl Client {
    async fn begin(host: SocketAddr) -> Client {
        let client = Client { host, id: uuid() };
        let reply = client.ask(&client.start()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        client
    }

    fn start(&self) -> Vec<u8> {
        start(self.host, &self.id, &start_body(&self.id, "put", TOKEN.as_bytes(), &[]))
    }

    async fn ask(&self, request: &[u8]) -> Reply {
        Wire::plain(self.host).await.ask(request).await
    }

    async fn put(&self, name: &str, body: &[u8]) -> u16 {
        self.ask(&put(self.host, &self.id, name, body)).await.status
    }

    async fn end(&self) -> u16 {
        self.ask(&end(self.host, &self.id, "DONE")).await.status
    }
}
