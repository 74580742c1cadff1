//! All that a soak is played on: nodes, the gateway, an origin for the forward proxy, and files.

use std::sync::Arc;

use quinn::rustls::RootCertStore;
use tokio::{io::AsyncReadExt, net::TcpStream, sync::Mutex};

use super::{
    gateway::{self, Abilities, Doors},
    nodes::Place,
    ports::Ports,
    proof::sum,
    schedule::{Fault, Kind},
    trees::Trees,
    work::SETS,
};
use crate::support::{
    noise,
    peer::{Peer, read_head, say},
    process::Process,
};

/// The nodes: name, and whether it offers persistent connections.
pub(crate) const NODES: [(&str, bool); 3] = [("n1", true), ("n2", false), ("n3", true)];

/// It ends when this drops.
pub(crate) struct Stage {
    pub(crate) process: Mutex<Process>,
    pub(crate) nodes: Vec<Place>,
    pub(crate) doors: Doors,
    pub(crate) abilities: Abilities,
    pub(crate) trees: Trees,
    pub(crate) origin: Peer,
    pub(crate) trusted: RootCertStore,
    pub(crate) dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn set(seed: u64) -> Arc<Stage> {
        let dir = tempfile::Builder::new().prefix("fallgate-soak-").tempdir().unwrap();
        let mut ports = Ports::new();
        let mut nodes = Vec::new();
        for (name, persistent) in NODES {
            nodes.push(Place::start(name, dir.path(), &mut ports, persistent).await);
        }
        let trees = Trees::make(dir.path().join("sets"), seed);
        let mut trusted = RootCertStore::empty();
        for node in &nodes {
            trusted.add(node.identity.certificate.clone()).unwrap();
            for (set, (name, ..)) in SETS.iter().enumerate() {
                trees.link(set, &node.root.join("pool").join(name));
            }
        }
        let (doors, abilities) = (Doors::choose(&mut ports), Abilities::find());
        let process = gateway::start(&doors.config(&nodes, abilities, 0)).await;
        let origin = Peer::start(origin).await;
        Arc::new(Stage { process: Mutex::new(process), nodes, doors, abilities, trees, origin, trusted, dir })
    }

    /// Begins a fault; what is done at once is done when this returns.
    pub(crate) async fn begin(&self, fault: &Fault) {
        let mut process = self.process.lock().await;
        match fault.kind {
            Kind::Reload => self.reload(&process, fault.way).await,
            Kind::Upgrade => gateway::upgrade(&mut process).await,
            Kind::GatewayKill => {
                process.crash().await;
                gateway::ready(&process).await;
            }
            kind => self.nodes[fault.node].begin(kind, fault.way).await,
        }
    }

    pub(crate) async fn end(&self, fault: &Fault) {
        self.nodes[fault.node].end(fault.kind).await;
    }

    /// The config of the first generation again.
    pub(crate) async fn restore(&self) {
        self.reload(&*self.process.lock().await, 0).await;
    }

    async fn reload(&self, process: &Process, way: u64) {
        gateway::reload(process, &self.doors.config(&self.nodes, self.abilities, way), way).await;
    }
}

/// What the origin gives for `/SIZE`.
pub(crate) fn given(size: usize) -> Vec<u8> {
    noise(size, size as u64 + 1)
}

/// Gives so many bytes, and says of what it gets which checksum that has. One request for each connection.
async fn origin(mut stream: TcpStream) {
    let (head, mut body) = read_head(&mut stream).await;
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let size = head.split('/').nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let answer = match length {
        Some(length) => {
            while body.len() < length {
                if !matches!(stream.read_buf(&mut body).await, Ok(n) if n > 0) {
                    return;
                }
            }
            sum(&body)
        }
        None => given(size),
    };
    say(&mut stream, format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len()).as_bytes()).await;
    say(&mut stream, &answer).await;
}
