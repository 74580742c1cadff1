//! The control door against SSH servers that are made up: raw TCP peers that show a banner, or do not.

mod bytes;
mod drain;
mod health;
mod nodes;
mod pins;
mod proxy;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::TcpSocket,
};

use crate::support::{
    Plan, Sandbox, Wire, eventually, loopback,
    peer::{Peer, keep, say},
};

/// The listener under test, with nothing but what it needs.
const CONTROL: &str = "{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}";
/// The nodes are checked once, at the start, and a connection will do.
const ONCE: &str = "health_check: {interval: 1h, banner: off}";
/// What takes longer does not come at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The first line of the SSH server `name`.
fn banner(name: &str) -> Vec<u8> {
    format!("SSH-2.0-{name}\r\n").into()
}

/// An SSH server that shows its banner and sends back what it hears.
struct Ssh {
    peer: Peer,
    /// New connections are closed before the banner.
    sheds: Arc<AtomicBool>,
}

impl Ssh {
    async fn start(name: &str) -> Ssh {
        Ssh::at([127, 0, 0, 1], name).await
    }

    async fn at(ip: [u8; 4], name: &str) -> Ssh {
        let (banner, sheds) = (banner(name), Arc::<AtomicBool>::default());
        let shed = sheds.clone();
        let peer = Peer::at(ip, move |mut stream| {
            let (banner, sheds) = (banner.clone(), shed.load(Ordering::Relaxed));
            async move {
                if sheds {
                    return;
                }
                say(&mut stream, &banner).await;
                let (mut read, mut write) = stream.split();
                let _ = copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            }
        });
        Ssh { peer: peer.await, sheds }
    }

    /// The key of its port.
    fn port(&self) -> String {
        port(self.peer.address)
    }
}

/// A server that accepts and says this, then nothing more.
async fn says(what: &[u8]) -> Peer {
    let what = what.to_owned();
    Peer::start(move |mut stream| {
        let what = what.clone();
        async move {
            say(&mut stream, &what).await;
            keep(stream).await;
        }
    })
    .await
}

/// A server that keeps what it hears, with the first bytes of each connection as they came.
async fn hears(name: &str) -> (Peer, Arc<Mutex<Vec<u8>>>) {
    let (banner, heard) = (banner(name), Arc::<Mutex<Vec<u8>>>::default());
    let into = heard.clone();
    let peer = Peer::start(move |mut stream| {
        let (banner, into) = (banner.clone(), into.clone());
        async move {
            say(&mut stream, &banner).await;
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece).await {
                into.lock().unwrap().extend_from_slice(&piece[..n]);
            }
        }
    });
    (peer.await, heard)
}

/// The key of a control port at this address.
fn port(address: SocketAddr) -> String {
    format!("tcp: {}", address.port())
}

/// A plan with the listener `control` and nodes whose control ports these are, in turn.
fn plan(ports: &[String]) -> Plan {
    ports.iter().fold(Plan::new().listeners(CONTROL), |plan, port| plan.ports(port)).upstream(ONCE)
}

/// Starts it, and waits until every port of `nodes` nodes was checked.
async fn checked(plan: Plan, nodes: u32) -> Sandbox {
    let sandbox = plan.start().await;
    let all = f64::from(2 * nodes);
    sandbox.until("all checks", |m| m.sum("health_checks_total", &[]) >= all).await;
    sandbox
}

/// A connection to the listener `control`.
async fn connect(sandbox: &Sandbox) -> Wire {
    Wire::plain(sandbox.address("control").await).await
}

/// A connection that meets a node, and the node's name.
async fn met(sandbox: &Sandbox, source: [u8; 4]) -> (Wire, String) {
    let mut wire = Wire::from(source, sandbox.address("control").await).await;
    let name = name(&mut wire).await;
    (wire, name)
}

/// The name in the banner that comes next.
async fn name(wire: &mut Wire) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(wire.body(1).await);
    }
    String::from_utf8(line).unwrap().trim_end().strip_prefix("SSH-2.0-").unwrap().to_owned()
}

/// A client that is closed without a word; how long that took.
async fn closed(sandbox: &Sandbox) -> Duration {
    let begin = Instant::now();
    let mut wire = connect(sandbox).await;
    assert_eq!(wire.rest().await, b"", "a client that is refused hears nothing");
    begin.elapsed()
}

/// One refusal under this word, in the metrics and in the only record.
async fn refused(sandbox: &Sandbox, reason: &str) {
    let records = sandbox.records(1).await;
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!((record["kind"].as_str(), record["outcome"].as_str()), (Some("control"), Some("refused")));
    assert_eq!((record["reason"].as_str(), record["node"].as_str()), (Some(reason), None), "{record}");
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("refusals_total", &[("listener", "control")]), 1.0);
    assert_eq!(metrics.sum("refusals_total", &[("listener", "control"), ("reason", reason)]), 1.0);
    assert_eq!(metrics.sum("control_connections_finished_total", &[]), 0.0, "it had met no node");
}

/// Ends a server; its port refuses as long as the socket lives.
async fn stopped(peer: Peer) -> TcpSocket {
    let address = peer.address;
    drop(peer);
    let refusing = || {
        let socket = TcpSocket::new_v4().ok()?;
        socket.set_reuseaddr(true).ok()?;
        socket.bind(loopback(address.port())).ok()?;
        Some(socket)
    };
    eventually("the port is free", refusing).await
}
