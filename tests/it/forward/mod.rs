//! The forward proxy door against origins that are made up: raw TCP peers behind names of a name server of our own.

mod absolute;
mod bandwidth;
mod bodies;
mod connect;
mod corpus;
mod drain;
mod edges;
mod hostile;
mod parent;
mod policy;
mod reuse;
mod users;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fallgate::{config::Config, gateway::Gateway};
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, copy},
    net::TcpStream,
};

use crate::support::{
    self, Metrics, Watch, Wire, certificate,
    dns::Dns,
    eventually, loopback,
    peer::{Peer, read_request, say},
    sweep,
    wire::Reply,
};

/// A policy that lets anybody reach whatever is on 127.0.0.0/8 and ::1.
const OPEN: &str = "allow: [{hosts: ['*']}], allow_private_addresses: [127.0.0.0/8, '::1']";
/// What the proxy says to a CONNECT that it takes.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What an egress is made of, before it starts.
struct Setup {
    policy: String,
    listener: String,
    top: String,
    resolver: String,
    dns: Option<Dns>,
    admin: String,
}

/// A running gateway with the one listener `egress`, and its name server.
struct Egress {
    watch: Watch,
    /// None once it drains.
    gateway: Option<Gateway>,
    dns: Dns,
    dir: tempfile::TempDir,
    setup: Arc<Setup>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Setup {
    /// A policy in flow form, without its name.
    fn new(policy: &str) -> Setup {
        Setup {
            policy: policy.to_owned(),
            listener: String::new(),
            top: String::new(),
            resolver: "timeout: 1s".to_owned(),
            dns: None,
            admin: "127.0.0.1:0".to_owned(),
        }
    }

    /// Keys of the listener, in flow form.
    fn listener(mut self, keys: &str) -> Setup {
        self.listener = format!(", {keys}");
        self
    }

    /// Lines of top-level keys.
    fn top(mut self, lines: &str) -> Setup {
        self.top = lines.to_owned();
        self
    }

    /// Another name server than the one for which every name below `test` is at 127.0.0.1.
    fn dns(mut self, dns: Dns) -> Setup {
        self.dns = Some(dns);
        self
    }

    /// Another address of the admin door.
    fn admin(mut self, address: &str) -> Setup {
        self.admin = address.to_owned();
        self
    }

    fn yaml(&self, policy: &str, dns: SocketAddr) -> String {
        format!(
            "version: 1\nlisteners:\n  - {{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p{}}}\npolicies:\n  - {{name: p, {policy}}}\nresolver: {{servers: ['{dns}'], {}}}\naccess_log: {{path: access.log}}\nadmin: {{address: '{}'}}\n{}\n",
            self.listener, self.resolver, self.admin, self.top
        )
    }

    /// Files that are to lie beside the config are made by `fill`.
    async fn start_with(mut self, fill: impl FnOnce(&std::path::Path)) -> Egress {
        let dns = match self.dns.take() {
            Some(dns) => dns,
            None => Dns::start(|name, _| if name.ends_with(".test") { vec![here()] } else { Vec::new() }).await,
        };
        let dir = tempfile::tempdir().unwrap();
        certificate(dir.path(), "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
        fill(dir.path());
        let text = self.yaml(&self.policy, dns.address);
        let config = Config::from_yaml(&text, dir.path()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let (gateway, watch) = sweep::gateway(config, dir.path()).await;
        let (address, admin) = (gateway.addresses().await[0].1, gateway.admin_address().unwrap());
        Egress { watch, gateway: Some(gateway), dns, dir, setup: Arc::new(self), address, admin }
    }

    async fn start(self) -> Egress {
        self.start_with(|_| ()).await
    }
}

impl Egress {
    /// With [`OPEN`] and defaults for everything.
    async fn open() -> Egress {
        Setup::new(OPEN).start().await
    }

    async fn wire(&self) -> Wire {
        Wire::plain(self.address).await
    }

    /// A tunnel to this target that stands.
    async fn tunnel(&self, target: impl ToString) -> Wire {
        let mut wire = self.wire().await;
        establish(&mut wire, target).await;
        wire
    }

    /// What becomes of a request on a connection of its own.
    async fn ask(&self, request: &[u8]) -> Reply {
        self.wire().await.ask(request).await
    }

    async fn metrics(&self) -> Metrics {
        Metrics::scrape(loopback(self.admin.port())).await
    }

    /// Waits until the sum of these series is `value`.
    async fn until(&self, family: &str, labels: &[(&str, &str)], value: f64) {
        support::until(|| self.metrics(), (family, labels), value, Duration::from_secs(20)).await;
    }

    /// Waits until nothing goes on any more.
    async fn is_calm(&self) {
        self.until("tunnels_active", &[], 0.0).await;
        self.until("connections_active", &[("listener", "egress")], 0.0).await;
    }

    /// The access log's lines so far, once there are at least `n`.
    async fn records(&self, n: usize) -> Vec<Value> {
        let path = self.dir.path().join("access.log");
        eventually("access records", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
            (lines.len() >= n).then_some(lines)
        })
        .await
    }

    /// How many records there are now.
    fn lines(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default().lines().count()
    }

    /// The `n`th record, from 1.
    async fn record(&self, n: usize) -> Value {
        self.records(n).await.swap_remove(n - 1)
    }

    /// Puts another policy in place, if it will do.
    async fn reload(&self, policy: &str) -> bool {
        let text = self.setup.yaml(policy, self.dns.address);
        let config = Config::from_yaml(&text, self.dir.path()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        self.gateway.as_ref().unwrap().reload(config).await.is_ok()
    }

    /// The config without top-level keys, for a reload.
    fn without_caps(&self) -> Config {
        let text = self.setup.yaml(&self.setup.policy, self.dns.address).replace(&self.setup.top, "");
        Config::from_yaml(&text, self.dir.path()).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    /// A request of its own that goes nowhere: the word in the answer, `Proxy-Status`, metrics and record `n` is the same.
    async fn refuses(&self, n: usize, request: &[u8], status: u16, word: &str) -> Reply {
        let count = |m: Metrics| m.sum("refusals_total", &[("listener", "egress"), ("reason", word)]);
        let before = count(self.metrics().await);
        let reply = self.ask(request).await;
        let shown = request.escape_ascii();
        says(&reply, status, word);
        assert_eq!(count(self.metrics().await) - before, 1.0, "{shown}");
        let record = self.record(n).await;
        assert_eq!((&record["reason"], &record["status"]), (&word.into(), &status.into()), "{shown} {record}");
        reply
    }
}

/// Whether an answer is the proxy's own, with this status and word, and has no body.
#[track_caller]
fn says(reply: &Reply, status: u16, word: &str) {
    assert_eq!((reply.status, reply.word()), (status, word), "{reply:?}");
    assert_eq!(reply.field("content-length"), Some("0"), "{reply:?}");
    let told = reply.field("proxy-status").unwrap_or_default();
    assert!(told.starts_with("fallgate; error=") && told.ends_with(&format!("details=\"{word}\"")), "{reply:?}");
}

fn here() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A CONNECT with these lines behind its Host.
fn connect_with(target: impl ToString, lines: &str) -> Vec<u8> {
    let target = target.to_string();
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{lines}\r\n").into()
}

fn connect_to(target: impl ToString) -> Vec<u8> {
    connect_with(target, "")
}

/// A request for `/path` at this authority with these lines behind its Host.
fn absolute(method: &str, authority: impl ToString, path: &str, lines: &str) -> Vec<u8> {
    let authority = authority.to_string();
    format!("{method} http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{lines}\r\n").into()
}

fn get_of(authority: impl ToString) -> Vec<u8> {
    absolute("GET", authority, "/a", "")
}

async fn establish(wire: &mut Wire, target: impl ToString) {
    wire.send(&connect_to(target)).await;
    let head = wire.raw_head().await;
    assert_eq!(head, ESTABLISHED, "{}", head.escape_ascii());
}

/// Says something and hears it again.
async fn echoes(wire: &mut Wire) {
    wire.send(b"still there").await;
    assert_eq!(wire.body(11).await, b"still there");
}

/// A server that sends back what it hears, and ends when it has heard all.
async fn echo() -> Peer {
    echo_at([127, 0, 0, 1]).await
}

async fn echo_at(ip: [u8; 4]) -> Peer {
    Peer::at(ip, echoing).await
}

async fn echoing(mut stream: TcpStream) {
    let (mut read, mut write) = stream.split();
    let _ = copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

/// One request as an origin heard it.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    /// On which connection, from 0.
    connection: usize,
    head: String,
    body: Vec<u8>,
}

impl Heard {
    /// The lines of the head.
    fn lines(&self) -> Vec<&str> {
        self.head.trim_end_matches("\r\n").split("\r\n").collect()
    }
}

/// An HTTP server that answers each request, of known length, from a script, and keeps what it hears.
struct Origin {
    peer: Peer,
    heard: Arc<Mutex<Vec<Heard>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// Always says the same, and stays.
    async fn says(answer: &'static str) -> Origin {
        Origin::start(move |_| answer.as_bytes().to_vec()).await
    }

    /// An answer for each request; one that ends with nothing closes the connection.
    async fn start(script: impl Fn(&Heard) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::at([127, 0, 0, 1], script).await
    }

    async fn at(ip: [u8; 4], script: impl Fn(&Heard) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        let (heard, connections) = (Arc::<Mutex<Vec<Heard>>>::default(), Arc::<AtomicUsize>::default());
        let (all, count, script) = (heard.clone(), connections.clone(), Arc::new(script));
        let peer = Peer::at(ip, move |mut stream| {
            let (all, script, connection) = (all.clone(), script.clone(), count.fetch_add(1, Ordering::SeqCst));
            async move {
                while let Some((head, body)) = read_request(&mut stream).await {
                    let heard = Heard { connection, head: latin1(&head), body };
                    let answer = script(&heard);
                    all.lock().unwrap().push(heard);
                    if answer.is_empty() {
                        return;
                    }
                    say(&mut stream, &answer).await;
                }
            }
        });
        Origin { peer: peer.await, heard, connections }
    }

    fn address(&self) -> SocketAddr {
        self.peer.address
    }

    /// All requests that it heard.
    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// The last request that it heard.
    fn last(&self) -> Heard {
        self.heard().pop().expect("a request")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Each byte as the character of its number.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// A listening socket that counts who comes.
struct Counter {
    peer: Peer,
    met: Arc<AtomicUsize>,
}

impl Counter {
    /// At an address of its own and at a port that may be given.
    fn at(ip: Ipv4Addr, port: u16) -> std::io::Result<Counter> {
        let listener = std::net::TcpListener::bind((ip, port))?;
        listener.set_nonblocking(true)?;
        let met = Arc::<AtomicUsize>::default();
        let count = met.clone();
        let peer = Peer::of(tokio::net::TcpListener::from_std(listener)?, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        });
        Ok(Counter { peer, met })
    }

    fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}
