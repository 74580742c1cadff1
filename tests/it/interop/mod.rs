//! The real client through the gateway: what its user gets, and reads.

mod bandwidth;
mod crash;
mod egress;
mod fallback;
mod hold;
mod iperf;
mod limits;
mod names;
mod nodes;
mod nominal;
mod openssh;
mod persistence;
mod proxied;
mod quic;
mod refusals;
mod resume;
mod secrets;
mod sshd;
mod transfers;
mod tree;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fallgate::node::{NodeOptions, Seen};

use tokio::net::TcpSocket;

use crate::support::{
    Metrics, Plan, Sandbox,
    ascp::{Ascp, is_here},
    eventually, loopback,
};

const LISTENERS: [&str; 2] = ["tls", "plain"];

/// One node; whoever resumes must meet the same disk again.
fn one_node() -> Plan {
    Plan::new().node(NodeOptions::default())
}

/// Makes a folder of the sandbox.
fn folder(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.dir.path().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Where node number `i` (from 1) keeps its files.
fn root(sandbox: &Sandbox, i: usize) -> PathBuf {
    sandbox.dir.path().join(format!("n{i}"))
}

/// The sessions in a node's log.
fn sessions(seen: &[Seen]) -> BTreeSet<String> {
    seen.iter().map(|s| s.session.clone()).collect()
}

/// A field of a request, by its name in lower case.
fn field(seen: &Seen, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&seen.head).into_owned();
    let is_it = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
    text.lines().find(is_it).map(|line| line[name.len() + 1..].trim().to_owned())
}

/// A file in the sandbox.
fn source(sandbox: &Sandbox, name: &str, content: &[u8]) -> PathBuf {
    let path = folder(sandbox, "source").join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Ends the first node. The socket keeps others from its port, which refuses connections.
async fn kill(sandbox: &mut Sandbox) -> TcpSocket {
    let node = sandbox.nodes.remove(0);
    let port = node.address().port();
    node.close().await;
    // A process that another test is just starting may still hold a copy of the node's socket.
    eventually("the port of the node", || refusing(port).ok()).await
}

/// A port that is taken and refuses connections; 0 takes any.
fn refusing(port: u16) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(loopback(port))?;
    Ok(socket)
}

/// Waits until the metrics say so.
async fn scraped(sandbox: &Sandbox, what: &str, is_so: impl Fn(&Metrics) -> bool) {
    let start = Instant::now();
    while !is_so(&sandbox.metrics().await) {
        assert!(start.elapsed() < Duration::from_secs(20), "never came: {what}");
    }
}

/// Waits until so many health checks have gone well.
async fn checked(sandbox: &Sandbox, times: u32) {
    let good = |m: &Metrics| m.sum("health_checks_total", &[("result", "ok")]) >= f64::from(times);
    scraped(sandbox, "health checks", good).await;
}

/// Where a node has what was sent up.
fn up(sandbox: &Sandbox, i: usize, name: impl AsRef<Path>) -> PathBuf {
    root(sandbox, i).join("up").join(name)
}
