//! What runs out, and what goes on all the same: descriptors, the disk, whoever reads the logs, the name server.

mod descriptors;
mod logs;
mod memory;
mod names;

use std::net::SocketAddr;

use fallgate::node::{Node, NodeOptions};

use crate::support::{
    TOKEN, Wire, get, loopback,
    process::Process,
    uuid,
    wire::{end, put, start, start_body},
};

async fn node(options: NodeOptions) -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::start(loopback(0), NodeOptions { root: dir.path().into(), ..options }).await.unwrap(), dir)
}

/// One listener and one node at this place, with lines of top-level keys; `health_check` in flow form.
/// Requests do not wait for a node: what comes of the first try is seen at once.
fn config(node: (&str, u16), health_check: &str, top: &str) -> String {
    let (host, port) = node;
    format!(
        "version: 1\nlisteners: [{{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}]\nupstreams: [{{name: u, node_grace: 0s, health_check: {{{health_check}}}, nodes: [{{name: n1, host: {host}, ports: {{http: {port}}}}}]}}]\nadmin: {{address: '127.0.0.1:0'}}\n{top}\n"
    )
}

/// Waits until `/readyz` says this.
async fn readiness(admin: SocketAddr, wanted: (u16, &str)) {
    let begun = std::time::Instant::now();
    loop {
        let said = get(admin, "/readyz").await;
        if (said.0, said.1.as_str()) == wanted {
            return;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{said:?} and never {wanted:?}");
    }
}

/// A whole session.
async fn session(host: SocketAddr) {
    let id = uuid();
    let begin = start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]));
    assert_eq!(Wire::plain(host).await.ask(&begin).await.status, 200);
    assert_eq!(Wire::plain(host).await.ask(&put(host, &id, "f", b"content")).await.status, 201);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
}

async fn count(process: &Process, family: &str) -> f64 {
    process.metrics().await.sum(family, &[])
}
