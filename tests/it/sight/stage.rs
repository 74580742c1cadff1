//! A gateway with all five kinds of listener before nodes of which one is down, and traffic through each of its doors.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use fallgate::{
    net::probe,
    node::{NodeOptions, client::Report},
};
use tokio::{
    io::{AsyncWriteExt, copy},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
};

use crate::support::{
    Plan, Sandbox, TOKEN, Wire,
    dns::Dns,
    loopback, noise,
    nominal::{self, ask, client, greeted, ssh},
    peer::{DeadPort, Peer, pause},
    uuid,
    wire::{Reply, end, get, put, start, start_body},
};

/// Caps that uploads of [`UP`] bytes feel, a limit of which two sessions of one user are one too many, and short lives.
const TOP: &str = "\
state: {file: state}
limits: {max_sessions_per_user: 1, session_starts_per_client: off, requests_per_client: off}
bandwidth: {per_session: {upload: 40Mbit/s}}
policies: [{name: p, allow: [{hosts: ['127.0.0.1']}], allow_private_addresses: [127.0.0.0/8]}]";

/// How long a flow lives in which nothing moves.
const FLOW_IDLE: Duration = Duration::from_secs(1);

/// The size of the larger file of an upload, in bytes.
const UP: usize = 1 << 20;

/// The gateway with all that it leads to. Of its nodes n1 does all, n2 has no data port, and n3 is down.
pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    source: PathBuf,
    origin: Peer,
    _n1: nominal::Peer,
    _n2: JoinSet<()>,
    _deaf: UdpSocket,
    _dead: [DeadPort; 2],
    _dns: Dns,
}

impl Stage {
    pub(crate) async fn start() -> Stage {
        let (n1, dead) = (nominal::Peer::start("n1").await, [DeadPort::new(), DeadPort::new()]);
        let control = TcpListener::bind(loopback(0)).await.unwrap();
        let n2_tcp = control.local_addr().unwrap().port();
        let mut n2 = JoinSet::new();
        n2.spawn(ssh("n2", control));
        // Who hears one peer alone refuses all others, and holds the port meanwhile.
        let deaf = UdpSocket::bind(loopback(0)).await.unwrap();
        deaf.connect(loopback(9)).await.unwrap();
        let n2_udp = deaf.local_addr().unwrap().port();
        let dns = Dns::start(|_, _| vec![loopback(0).ip()]).await;
        let sandbox = Plan::new()
            .upstreams("{name: found, discovery: {dns: nodes.test}}")
            .node(NodeOptions::default())
            .node(NodeOptions::default())
            .peer(dead[0].address)
            .ports(&format!("tcp: {}, udp: {}", n1.tcp.port(), n1.udp.port()))
            .ports(&format!("tcp: {n2_tcp}, udp: {n2_udp}"))
            .ports(&format!("tcp: {}, udp: 9", dead[1].address.port()))
            .listeners("{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}")
            .listeners(&format!(
                "{{name: data, protocol: udp, address: '127.0.0.1:0', upstream: u, flow_idle: {}s, workers: 1}}",
                FLOW_IDLE.as_secs()
            ))
            .listeners("{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p}")
            .upstream("balance: round_robin, health_check: {interval: 200ms, unhealthy_threshold: 1}")
            .admin("token_file: token")
            .top(&format!("{TOP}\ndoctor: {{secret_file: token}}\nresolver: {{servers: ['{}']}}", dns.address))
            .start()
            .await;
        let source = sandbox.dir.path().join("tree");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("a"), noise(UP, 1)).unwrap();
        std::fs::write(source.join("b"), noise(1000, 2)).unwrap();
        for node in ["n1", "n2"] {
            std::fs::write(sandbox.dir.path().join(node).join("f"), noise(UP, 3)).unwrap();
            std::fs::write(sandbox.dir.path().join(node).join("g"), noise(1000, 4)).unwrap();
        }
        let origin = Peer::start(async |mut stream: TcpStream| {
            let (mut from, mut to) = stream.split();
            let _ = copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        })
        .await;
        sandbox.until("a node is down", |m| m.sum("node_up", &[("node", "n3"), ("port", "http")]) == 0.0).await;
        sandbox.until("two nodes are up", |m| m.sum("node_up", &[]) == 4.0).await;
        Stage { sandbox, source, origin, _n1: n1, _n2: n2, _deaf: deaf, _dead: dead, _dns: dns }
    }

    /// A tree goes up, and a file comes down.
    pub(crate) async fn transfers(&self, listener: &str, user: &str) -> [Report; 2] {
        let mut client = self.sandbox.client(listener).await;
        client.user = user.to_owned();
        let up = client.upload(std::slice::from_ref(&self.source), "/").await.unwrap();
        let into = tempfile::tempdir().unwrap();
        [up, client.download(&["f".to_owned()], into.path()).await.unwrap()]
    }

    /// A session of this user, whose start is sent and not yet answered.
    pub(crate) async fn session(&self, user: &str) -> Session {
        let host = self.sandbox.address("plain").await;
        let (mut wire, id) = (Wire::plain(host).await, uuid());
        let body = String::from_utf8(start_body(&id, "get", TOKEN.as_bytes(), &["f", "g"])).unwrap();
        wire.send(&start(host, &id, body.replace("xfer", user).as_bytes())).await;
        Session { wire, host, id }
    }

    /// A control connection from this address, with the name of its node.
    pub(crate) async fn control(&self, from: [u8; 4]) -> (TcpStream, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(self.sandbox.address("control").await).await.unwrap();
        let node = greeted(&mut stream).await.unwrap();
        (stream, node)
    }

    /// A control connection to each of the two nodes with one, n1 first.
    pub(crate) async fn controls(&self) -> [(String, TcpStream); 2] {
        let mut last = 2;
        let mut first = self.control([127, 0, 0, last]).await;
        loop {
            last += 1;
            let second = self.control([127, 0, 0, last]).await;
            if second.1 != first.1 {
                let mut both = [first, second].map(|(stream, node)| (node, stream));
                both.sort_by(|a, b| a.0.cmp(&b.0));
                return both;
            }
            first = second;
        }
    }

    /// A datagram from where the control connection comes from, and whether it is answered.
    pub(crate) async fn datagram(&self, control: &TcpStream) -> bool {
        let from = control.local_addr().unwrap().ip().to_string();
        let socket = client(&from, self.sandbox.address("data").await).await;
        ask(&socket, b"data").await.is_some()
    }

    /// A flow from where the control connection comes from that ends only after it was dropped: a word now and then, of
    /// which the first was answered.
    pub(crate) async fn flow(&self, control: &TcpStream) -> JoinSet<()> {
        let from = control.local_addr().unwrap().ip().to_string();
        let socket = client(&from, self.sandbox.address("data").await).await;
        assert_eq!(ask(&socket, b"data").await.as_deref(), Some(&b"n1data"[..]));
        let mut flow = JoinSet::new();
        flow.spawn(async move {
            loop {
                pause(FLOW_IDLE / 10).await;
                let _ = socket.send(b"data").await;
            }
        });
        flow
    }

    /// A datagram from where nobody has a control connection.
    pub(crate) async fn stray_datagram(&self) {
        let socket = client("127.0.0.99", self.sandbox.address("data").await).await;
        socket.send(b"stray").await.unwrap();
        // The probe of a doctor that does not know the secret.
        socket.send(&[probe::MARK.as_slice(), &[0; 80]].concat()).await.unwrap();
    }

    /// A tunnel through the forward proxy that stands, and has carried a word each way.
    pub(crate) async fn tunnel(&self) -> Wire {
        let mut wire = self.connect(self.origin.address).await.1;
        wire.send(b"word").await;
        assert_eq!(wire.body(4).await, b"word");
        wire
    }

    /// What the forward proxy says to a CONNECT.
    pub(crate) async fn connect(&self, target: SocketAddr) -> (Reply, Wire) {
        let mut wire = self.egress().await;
        let reply = wire.ask(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await;
        (reply, wire)
    }

    /// A connection to the forward proxy, from an address that the gateway's own connections do not have: else a port that
    /// both have at once would make it look like the gateway itself.
    async fn egress(&self) -> Wire {
        Wire::from([127, 0, 0, 50], self.sandbox.address("egress").await).await
    }

    /// What a node says to a request in absolute form through the forward proxy.
    pub(crate) async fn absolute(&self) -> Reply {
        let mut wire = self.egress().await;
        let node = self.sandbox.nodes[0].address();
        wire.ask(format!("GET http://{node}/nothing HTTP/1.1\r\nHost: {node}\r\n\r\n").as_bytes()).await
    }

    /// Something that each door refuses: a token, a head without TLS, a target.
    pub(crate) async fn refusals(&self) {
        let host = self.sandbox.address("plain").await;
        let (mut wire, id) = (Wire::plain(host).await, uuid());
        let reply = wire.ask(&start(host, &id, &start_body(&id, "put", b"nonsense", &[]))).await;
        assert_eq!(reply.word(), "token_shape");
        let mut wire = Wire::plain(self.sandbox.address("tls").await).await;
        wire.send(b"GET / HTTP/1.1\r\n\r\n").await;
        wire.rest().await;
        let (reply, _) = self.connect(SocketAddr::from(([10, 0, 0, 1], 22))).await;
        assert_eq!(reply.word(), "policy_denied");
    }
}

/// A session byte by byte, on one connection.
pub(crate) struct Session {
    wire: Wire,
    host: SocketAddr,
    id: String,
}

impl Session {
    /// The final answer to what was asked last, whatever comes before.
    pub(crate) async fn answer(&mut self) -> u16 {
        loop {
            match self.wire.head().await.status {
                102 => {}
                status => return status,
            }
        }
    }

    pub(crate) async fn put(&mut self, name: &str, body: &[u8]) -> u16 {
        self.wire.send(&put(self.host, &self.id, name, body)).await;
        self.answer().await
    }

    /// Fetches a file whole.
    pub(crate) async fn get(&mut self, name: &str) -> u16 {
        let reply = self.wire.ask(&get(self.host, &self.id, name, "")).await;
        let length = reply.field("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        self.wire.body(length).await;
        reply.status
    }

    pub(crate) async fn end(mut self) -> u16 {
        self.wire.ask(&end(self.host, &self.id, "DONE")).await.status
    }
}
