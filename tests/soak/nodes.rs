//! The nodes: what faults do to them, and their return to their own ports.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fallgate::node::{Fault, Node, NodeOptions};
use tokio::sync::Mutex;

use super::{ports::Ports, schedule::Kind};
use crate::support::{
    loopback,
    quic::{Identity, QuicNode},
};

/// A flow of data is given up after this time without a sign of life, on both sides.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// A node that cannot come back in this time never will.
const RETURN: Duration = Duration::from_secs(30);

/// A node with all its ports.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) root: PathBuf,
    pub(crate) http: u16,
    pub(crate) tcp: u16,
    pub(crate) udp: u16,
    pub(crate) identity: Identity,
    persistent: bool,
    state: Mutex<State>,
}

enum State {
    Up(Node, QuicNode),
    /// It still knows its sessions.
    Down(Node),
    Dead,
}

impl Place {
    /// A node with a new folder below `dir`; it comes up.
    pub(crate) async fn start(name: &'static str, dir: &Path, ports: &mut Ports, persistent: bool) -> Place {
        let root = dir.join(name);
        std::fs::create_dir_all(&root).unwrap();
        let place = Place {
            name,
            root,
            http: ports.next(),
            tcp: ports.next(),
            udp: ports.next(),
            identity: Identity::new(),
            persistent,
            state: Mutex::new(State::Dead),
        };
        place.rise().await;
        place
    }

    /// Begins a fault.
    pub(crate) async fn begin(&self, kind: Kind, way: u64) {
        match kind {
            Kind::NodeKill => self.fall(false).await,
            Kind::NodeCut => self.fall(true).await,
            _ => self.misbehave(&faults(kind, way)).await,
        }
    }

    /// Ends it.
    pub(crate) async fn end(&self, kind: Kind) {
        match kind {
            Kind::NodeKill | Kind::NodeCut => self.rise().await,
            _ => self.misbehave(&[]).await,
        }
    }

    /// Goes down with all its connections.
    pub(crate) async fn fall(&self, remembers: bool) {
        let mut state = self.state.lock().await;
        if let State::Up(mut node, quic) = std::mem::replace(&mut *state, State::Dead) {
            drop(quic);
            if remembers {
                loop_until(self.name, async || node.fall().await).await;
                *state = State::Down(node);
            } else {
                node.close().await;
            }
        }
    }

    /// Comes back to its ports.
    pub(crate) async fn rise(&self) {
        let mut state = self.state.lock().await;
        let node = match std::mem::replace(&mut *state, State::Dead) {
            State::Down(mut node) => node.come_back().map(|()| node).unwrap(),
            _ => loop_until(self.name, async || Node::start(loopback(self.http), self.options()).await).await,
        };
        let start = || QuicNode::start(self.name, &self.identity, loopback(self.tcp), loopback(self.udp), SILENCE);
        let quic = loop_until(self.name, async || start()).await;
        *state = State::Up(node, quic);
    }

    fn options(&self) -> NodeOptions {
        NodeOptions {
            root: self.root.clone(),
            persistent: self.persistent.then(|| "1".to_owned()),
            record: false,
            ..NodeOptions::default()
        }
    }

    async fn misbehave(&self, faults: &[String]) {
        if let State::Up(node, _) = &*self.state.lock().await {
            node.set_faults(faults.iter().map(|f| f.parse::<Fault>().unwrap()).collect());
        }
    }
}

/// What a node is told to do wrong.
fn faults(kind: Kind, way: u64) -> Vec<String> {
    let (bytes, tenths) = (way % 200_000, way >> 20);
    match kind {
        Kind::NodeStall => {
            let seconds = 2 + tenths % 6;
            ["put", "get"].map(|verb| format!("{verb}:1=stall@{bytes}:{seconds}")).to_vec()
        }
        Kind::NodeReset if way.is_multiple_of(3) => vec!["start:1=rst@0".to_owned()],
        Kind::NodeReset => ["put", "get"].map(|verb| format!("{verb}:1=rst@{bytes}")).to_vec(),
        // Longer than any client would wait without a word.
        Kind::NodeLatency if way.is_multiple_of(4) => vec!["start:1=delay:25".to_owned(), "get:1=delay:22".to_owned()],
        Kind::NodeLatency => {
            let seconds = (1 + tenths % 12) as f64 / 10.0;
            ["start", "put", "get", "end"].map(|verb| format!("{verb}=delay:{seconds}")).to_vec()
        }
        _ => Vec::new(),
    }
}

/// Tries until it works: what used a port a moment ago may hold it still.
async fn loop_until<T>(name: &str, mut attempt: impl AsyncFnMut() -> io::Result<T>) -> T {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(begin.elapsed() < RETURN, "node {name} does not come back: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
