//! The promise: whatever is upgraded and reloaded, no transfer fails.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fallgate::node::{Node, NodeOptions};
use quinn::rustls::RootCertStore;
use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{
    ascp::{Ascp, is_here},
    certificate, loopback, noise, nominal,
    peer::pause,
    process::Process,
    quic::{Client, Identity, QuicNode, checksum},
};

const WORKERS: usize = 4;
const UPGRADES: usize = 5;
/// Reloads before each upgrade.
const RELOADS: usize = 4;
/// Silence that a QUIC connection stands.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two of them.
const STEP: Duration = Duration::from_millis(150);

/// Transfers in all; a long run, with FALLGATE_LONG set, has more.
fn transfers() -> usize {
    if std::env::var_os("FALLGATE_LONG").is_some() { 1000 } else { 60 }
}

/// Where transfers go, and how many must still come.
#[derive(Clone)]
struct Task {
    plain: u16,
    tls: u16,
    roots: [PathBuf; 2],
    dir: PathBuf,
    left: Arc<AtomicUsize>,
    disturbed: Arc<AtomicBool>,
}

impl Task {
    /// Transfers one after the other, until all are done and nothing disturbs any more; how many those were.
    async fn work(self, worker: usize) -> usize {
        let mut done = 0;
        loop {
            let more = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if more.is_err() && self.disturbed.load(Ordering::Relaxed) {
                return done;
            }
            let is_put = done % 2 == 0;
            let tls = done % 4 > 1;
            self.transfer(&format!("w{worker}-{done}"), is_put, tls).await;
            done += 1;
        }
    }

    async fn transfer(&self, name: &str, is_put: bool, tls: bool) {
        let port = if tls { self.tls } else { self.plain };
        let content = noise(200_000, name.len() as u64 + u64::from(tls));
        let what = format!("{name}, put {is_put}, tls {tls}");
        if is_put {
            let source = self.dir.join(name);
            std::fs::write(&source, &content).unwrap();
            Ascp::send(port, tls, &[&source]).run().await.must_be_ok(&what);
            let there = self.roots.iter().find_map(|root| std::fs::read(root.join("up").join(name)).ok());
            assert!(there.is_some_and(|there| there == content), "{what}: it is the same");
            return;
        }
        let back = self.dir.join(format!("back-{name}"));
        std::fs::create_dir_all(&back).unwrap();
        Ascp::receive(port, tls, &["there"], &back).run().await.must_be_ok(&what);
        assert!(std::fs::read(back.join("there")).unwrap() == there(), "{what}: it is the same");
    }
}

/// What is downloaded.
fn there() -> Vec<u8> {
    noise(300_000, 11)
}

fn config(nodes: &[Node]) -> String {
    let node = |(i, node): (usize, &Node)| {
        format!("{{name: n{i}, host: 127.0.0.1, ports: {{http: {}}}}}", node.address().port())
    };
    let nodes: Vec<_> = nodes.iter().enumerate().map(node).collect();
    format!(
        "version: 1\nlisteners:\n  - {{name: tls, protocol: https, address: '127.0.0.1:0', upstream: u, tls: {{cert_file: tls.crt, key_file: tls.key}}}}\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}\nupstreams:\n  - {{name: u, nodes: [{}]}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n",
        nodes.join(", ")
    )
}

/// Reloads and upgrades, at least so often, and until `over`; how often it upgraded.
async fn disturb(gateway: &Process, text: &str, disturbed: &AtomicBool, over: impl Fn() -> bool) -> usize {
    let mut upgrades = 0;
    while upgrades < UPGRADES || !over() {
        for n in 0..RELOADS {
            gateway.configure(&format!("{text}bandwidth: {{total: {}Gbit/s}}\n", n + 1));
            pause(STEP).await;
        }
        gateway.upgrade().await;
        upgrades += 1;
        disturbed.store(upgrades >= UPGRADES, Ordering::Relaxed);
    }
    upgrades
}

/// Connects all the time; how often.
async fn knock(at: [SocketAddr; 2], over: Arc<AtomicBool>) -> usize {
    let mut knocks = 0;
    while !over.load(Ordering::Relaxed) {
        drop(TcpStream::connect(at[knocks % 2]).await.unwrap_or_else(|error| panic!("{knocks}: {error}")));
        knocks += 1;
        pause(Duration::from_millis(2)).await;
    }
    knocks
}

async fn node(root: &Path) -> Node {
    std::fs::create_dir_all(root).unwrap();
    std::fs::write(root.join("there"), there()).unwrap();
    Node::start(loopback(0), NodeOptions { root: root.to_owned(), record: false, ..NodeOptions::default() })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transfer_of_the_real_client_fails_and_no_connect_is_refused_while_reloads_and_upgrades_happen() {
    if !is_here() {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let roots = [files.path().join("n1"), files.path().join("n2")];
    let nodes = [node(&roots[0]).await, node(&roots[1]).await];
    let text = config(&nodes);
    let fill = |dir: &Path| certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    let gateway = Process::with(&text, fill).await;
    let (tls, plain) = (gateway.address("tls").await, gateway.address("plain").await);
    let (knocked, disturbed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let knocking = tokio::spawn(knock([tls, plain], knocked.clone()));
    let task = Task {
        plain: plain.port(),
        tls: tls.port(),
        roots,
        dir: files.path().to_owned(),
        left: Arc::new(AtomicUsize::new(transfers())),
        disturbed: disturbed.clone(),
    };
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(task.clone().work(worker));
    }
    let left = task.left.clone();
    let (upgrades, done) =
        tokio::join!(disturb(&gateway, &text, &disturbed, || left.load(Ordering::Relaxed) == 0), workers.join_all());
    let done: usize = done.into_iter().sum();
    knocked.store(true, Ordering::Relaxed);
    let knocks = knocking.await.unwrap();
    eprintln!(
        "{done} transfers, {upgrades} upgrades, {} reloads, {knocks} connects in {:.1?}",
        upgrades * RELOADS,
        begun.elapsed()
    );
    assert!(done >= transfers());
    let newest = gateway.newest();
    gateway.only(&[newest]).await;
    let records = gateway.records(done).await;
    assert_eq!(records.len(), done, "one record each");
    let good = records.iter().filter(|record| record["outcome"] == "done" && record["files"] == 1).count();
    assert_eq!(good, done, "{:?}", records.iter().find(|record| record["files"] != 1 || record["outcome"] != "done"));
    for gauge in ["sessions_active", "node_sessions"] {
        gateway.until(gauge, &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_quic_transfer_is_lost_across_five_upgrades() {
    const SIZE: usize = 256 * 1024;
    let identities = [Identity::new(), Identity::new()];
    let start = |name, identity| QuicNode::start(name, identity, loopback(0), loopback(0), PATIENCE).unwrap();
    let (a, b) = (start("a", &identities[0]), start("b", &identities[1]));
    let nodes = [(a.tcp.port(), a.udp.port()), (b.tcp.port(), b.udp.port())];
    let gateway = Process::start(&nominal::config(&nodes, "127.0.0.1:0", ", workers: 2", "")).await;
    let (control, data) = (gateway.address("control").await, gateway.address("data").await);
    let mut trusted = RootCertStore::empty();
    identities.iter().for_each(|identity| trusted.add(identity.certificate.clone()).unwrap());
    let (expected, over) = (Arc::new(checksum(SIZE, 2)), Arc::new(AtomicBool::new(false)));
    let mut workers = JoinSet::new();
    for worker in 1..=8 {
        let (trusted, expected, over) = (trusted.clone(), expected.clone(), over.clone());
        workers.spawn(async move {
            let mut done = 0;
            while !over.load(Ordering::Relaxed) {
                let ip = format!("127.0.5.{worker}");
                let client = Client { ip: &ip, control, data, trusted: trusted.clone(), patience: PATIENCE };
                let ended = client.transfer(SIZE, &expected).await.unwrap_or_else(|error| panic!("{ip}: {error}"));
                assert_eq!(ended.differs, None, "{ip}");
                done += 1;
            }
            done
        });
    }
    for _ in 0..UPGRADES {
        pause(4 * STEP).await;
        gateway.upgrade().await;
    }
    over.store(true, Ordering::Relaxed);
    let done: usize = workers.join_all().await.into_iter().sum();
    eprintln!("{done} QUIC transfers of {SIZE} bytes each way across {UPGRADES} upgrades");
    assert!(done >= 8 * 2, "{done}");
    let newest = gateway.newest();
    gateway.only(&[newest]).await;
}
