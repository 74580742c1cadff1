//! The relay between real hosts: network namespaces with links of 1,500 bytes, which break and come back.

use std::{
    io::IoSliceMut,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::{
    io::Interest,
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{
    netns::Host,
    noise,
    nominal::{Peer, SOON, ask, burst, greeted, hear, ssh},
    process::Process,
};

const CONTROL: u16 = 33_001;
const DATA: u16 = 33_001;
/// A listener of data whose gate is off.
const OPEN: u16 = 33_002;

/// Two clients and two nodes, each with a link of its own to the gateway between them.
struct Net {
    clients: [Arc<Host>; 2],
    nodes: [Arc<Host>; 2],
    gateway: Arc<Host>,
    ipv6: bool,
}

impl Net {
    fn new(ipv6: bool) -> Option<Net> {
        let gateway = Host::new()?;
        let [one, two, three, four] = [Host::new()?, Host::new()?, Host::new()?, Host::new()?];
        let net = Net { clients: [one, two], nodes: [three, four], gateway, ipv6 };
        for (kind, hosts) in [("client", &net.clients), ("node", &net.nodes)] {
            for (i, host) in hosts.iter().enumerate() {
                let (v4, v6) = (net.network(kind, i, false), net.network(kind, i, true));
                net.gateway.link(&format!("{kind}{i}"), host, &v4, &v6);
            }
        }
        Some(net)
    }

    fn network(&self, kind: &str, i: usize, ipv6: bool) -> String {
        let kind = if kind == "client" { 1 } else { 2 };
        if ipv6 { format!("fd00:{kind}:{i}") } else { format!("10.{kind}.{i}") }
    }

    fn at(&self, kind: &str, i: usize, last: u8, port: u16) -> SocketAddr {
        let network = self.network(kind, i, self.ipv6);
        let ip = if self.ipv6 { format!("{network}::{last}") } else { format!("{network}.{last}") };
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    /// Where the gateway listens for a client.
    fn gate(&self, client: usize, port: u16) -> SocketAddr {
        self.at("client", client, 1, port)
    }

    /// Where a node is.
    fn node(&self, node: usize) -> SocketAddr {
        self.at("node", node, 2, CONTROL)
    }

    /// A node that echoes.
    fn peer(&self, node: usize, name: &'static str) -> Peer {
        let (host, at) = (&self.nodes[node], self.node(node));
        Peer::over(name, host.listen(at), host.udp(at))
    }

    /// A client's socket for data.
    fn data(&self, client: usize) -> UdpSocket {
        self.clients[client].udp(self.at("client", client, 2, 0))
    }

    /// A client's socket for data that speaks with one listener.
    async fn flow(&self, client: usize, port: u16) -> UdpSocket {
        let socket = self.data(client);
        // Connecting asks the routes of the thread's own host.
        self.clients[client].open(|| socket2::SockRef::from(&socket).connect(&self.gate(client, port).into())).unwrap();
        socket
    }

    /// A control connection, and the name of the node that it met.
    async fn control(&self, client: usize) -> (TcpStream, String) {
        let mut stream = self.clients[client].connect(self.gate(client, CONTROL)).unwrap();
        let node = greeted(&mut stream).await.unwrap();
        (stream, node)
    }

    async fn gateway(&self) -> Process {
        let nodes = [self.node(0).ip(), self.node(1).ip()];
        Process::on(
            &self.gateway,
            &format!(
                "version: 1\nlisteners:\n  - {{name: control, protocol: tcp, address: '[::]:{CONTROL}', upstream: u, banner_timeout: 1s}}\n  - {{name: data, protocol: udp, address: '[::]:{DATA}', upstream: u}}\n  - {{name: open, protocol: udp, address: '[::]:{OPEN}', upstream: u, gate: off}}\nupstreams:\n  - {{name: u, balance: round_robin, health_check: {{interval: 200ms, timeout: 400ms, unhealthy_threshold: 2}}, nodes: [{{name: a, host: '{}', ports: {{tcp: {CONTROL}, udp: {CONTROL}}}}}, {{name: b, host: '{}', ports: {{tcp: {CONTROL}, udp: {CONTROL}}}}}]}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n",
                nodes[0], nodes[1]
            ),
        )
        .await
    }
}

/// A flow that asks again and again, each time once the answer is here, and counts what never came.
struct Asking {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(u32, u32)>,
}

impl Asking {
    fn start(socket: UdpSocket) -> Asking {
        let stop = Arc::new(AtomicBool::new(false));
        let over = stop.clone();
        let task = tokio::spawn(async move {
            let (mut asked, mut lost) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                asked += 1;
                lost += u32::from(ask(&socket, &noise(1400, u64::from(asked))).await.is_none());
            }
            (asked, lost)
        });
        Asking { stop, task }
    }

    /// How often it asked, and how often in vain.
    async fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Asks until one of the questions is answered, and gives the name of the node that did.
async fn insist(socket: &UdpSocket) -> String {
    let begin = std::time::Instant::now();
    for n in 0.. {
        assert!(begin.elapsed() < 4 * SOON, "no answer");
        let question = format!("-{n}");
        // An ICMP error may stand before the send.
        let _ = socket.send(question.as_bytes()).await;
        // What had waited for a link may come first.
        while let Some(answer) = hear(socket, Duration::from_millis(100)).await {
            if let Some(name) = String::from_utf8(answer).unwrap().strip_suffix(&question) {
                return name.to_owned();
            }
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_datagrams_cross_links_of_1500_bytes_whole_both_ways() {
    for ipv6 in [false, true] {
        let Some(net) = Net::new(ipv6) else { return };
        let _nodes = [net.peer(0, "a"), net.peer(1, "b")];
        let _gateway = net.gateway().await;
        let (_control, node) = net.control(0).await;
        let socket = net.flow(0, DATA).await;
        for size in [1, 1472, 1473, 9000, 60_001, 65_507] {
            let bytes = noise(size, 3);
            for _ in 0..5 {
                let answer = ask(&socket, &bytes).await.unwrap_or_else(|| panic!("{size} bytes"));
                let named = if size > 60_000 { bytes.clone() } else { [node.as_bytes(), &bytes].concat() };
                assert!(answer == named, "{size} bytes");
            }
        }
    }
}

/// The next datagram with its marks.
async fn marked(socket: &UdpSocket, state: &UdpSocketState) -> RecvMeta {
    let mut bytes = [0; 2000];
    let mut meta = [RecvMeta::default()];
    let receive = socket.async_io(Interest::READABLE, || {
        state.recv(UdpSockRef::from(socket), &mut [IoSliceMut::new(&mut bytes)], &mut meta)
    });
    timeout(SOON, receive).await.unwrap().unwrap();
    meta[0]
}

fn mark(socket: &UdpSocket, state: &UdpSocketState, destination: SocketAddr, ecn: EcnCodepoint) {
    let transmit = Transmit { destination, ecn: Some(ecn), contents: b"marked", segment_size: None, src_ip: None };
    state.try_send(UdpSockRef::from(socket), &transmit).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn congestion_marks_stay_from_end_to_end() {
    for ipv6 in [false, true] {
        let Some(net) = Net::new(ipv6) else { return };
        let mut control_ports = tokio::task::JoinSet::new();
        for (i, name) in ["a", "b"].into_iter().enumerate() {
            control_ports.spawn(ssh(name, net.nodes[i].listen(net.node(i))));
        }
        let nodes = [net.nodes[0].udp(net.node(0)), net.nodes[1].udp(net.node(1))];
        let _gateway = net.gateway().await;
        let (_control, name) = net.control(0).await;
        let node = &nodes[usize::from(name == "b")];
        let client = net.data(0);
        let [here, there] = [&client, node].map(|s| UdpSocketState::new(UdpSockRef::from(s)).unwrap());
        for (up, down) in [
            (EcnCodepoint::Ect0, EcnCodepoint::Ce),
            (EcnCodepoint::Ect1, EcnCodepoint::Ect0),
            (EcnCodepoint::Ce, EcnCodepoint::Ect1),
        ] {
            mark(&client, &here, net.gate(0, DATA), up);
            let seen = marked(node, &there).await;
            assert_eq!((seen.len, seen.ecn), (6, Some(up)), "up, ipv6: {ipv6}");
            mark(node, &there, seen.addr, down);
            assert_eq!(marked(&client, &here).await.ecn, Some(down), "down, ipv6: {ipv6}");
        }
        client.send_to(b"plain", net.gate(0, DATA)).await.unwrap();
        assert_eq!(marked(node, &there).await.ecn, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_process_dies_gets_no_new_flows_and_others_lose_nothing() {
    dies(|_, node| drop(node.take())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_link_dies_gets_no_new_flows_and_others_lose_nothing() {
    dies(|net, _| net.nodes[0].ip("link set eth0 down")).await;
}

async fn dies(kill: impl FnOnce(&Net, &mut Option<Peer>)) {
    let Some(net) = Net::new(false) else { return };
    let (mut a, _b) = (Some(net.peer(0, "a")), net.peer(1, "b"));
    let gateway = net.gateway().await;
    let mut controls = [net.control(0).await, net.control(1).await];
    // Who is on which node is chance; the client of the one that dies is the victim.
    let (victim, other) = if controls[0].1 == "a" { (0, 1) } else { (1, 0) };
    assert_ne!(controls[0].1, controls[1].1);
    let old = net.flow(victim, DATA).await;
    assert_eq!(insist(&old).await, "a");
    let asking = [Asking::start(net.flow(other, DATA).await), Asking::start(net.flow(other, DATA).await)];

    kill(&net, &mut a);
    gateway.until("node_up", &[("node", "a")], 0.0).await;
    // The client begins anew, as it does when its transfer breaks off.
    controls[victim] = net.control(victim).await;
    assert_eq!(controls[victim].1, "b");
    for _ in 0..5 {
        let new = net.flow(victim, DATA).await;
        assert_eq!(ask(&new, b"-").await.unwrap(), b"b-");
        let open = net.flow(victim, OPEN).await;
        assert_eq!(ask(&open, b"-").await.unwrap(), b"b-");
    }
    for asking in asking {
        let (asked, lost) = asking.end().await;
        assert!(asked > 10 && lost == 0, "{lost} of {asked} were lost");
    }
    if a.is_some() {
        net.nodes[0].ip("link set eth0 up");
        gateway.until("node_up", &[("node", "a")], 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_goes_on_from_the_same_port_when_a_cable_was_out() {
    let Some(net) = Net::new(false) else { return };
    let peers = [net.peer(0, "a"), net.peer(1, "b")];
    let gateway = net.gateway().await;
    let socket = net.flow(0, OPEN).await;
    let name = insist(&socket).await;
    let node = usize::from(name == "b");
    for (host, cable) in
        [(&net.nodes[node], "eth0"), (&net.gateway, &*format!("node{node}")), (&net.clients[0], "eth0")]
    {
        host.ip(&format!("link set {cable} down"));
        for _ in 0..20 {
            // Without a link some sends fail at once, which is what is meant.
            let _ = socket.send(b"into the dark").await;
        }
        // What had crossed the cable before still comes.
        while hear(&socket, Duration::from_millis(300)).await.is_some() {}
        host.ip(&format!("link set {cable} up"));
        assert_eq!(insist(&socket).await, name);
    }
    assert_eq!(peers[node].seen.lock().unwrap().len(), 1, "one source port");
    assert_eq!(gateway.metrics().await.sum("udp_flows_total", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_listener_answers_from_the_address_that_was_spoken_to() {
    for ipv6 in [false, true] {
        let Some(net) = Net::new(ipv6) else { return };
        let _nodes = [net.peer(0, "a"), net.peer(1, "b")];
        let second = net.at("client", 0, 9, OPEN);
        match ipv6 {
            true => net.gateway.ip(&format!("addr add {}/64 dev client0 nodad", second.ip())),
            false => net.gateway.ip(&format!("addr add {}/24 dev client0", second.ip())),
        }
        let gateway = net.gateway().await;
        let socket = net.data(0);
        for _ in 0..3 {
            for to in [net.gate(0, OPEN), second] {
                socket.send_to(b"x", to).await.unwrap();
                let mut answer = [0; 10];
                let (_, from) = timeout(SOON, socket.recv_from(&mut answer)).await.unwrap().unwrap();
                assert_eq!(from, to);
            }
        }
        assert_eq!(gateway.metrics().await.sum("udp_flows_total", &[]), 2.0, "a flow for each address");
    }
}

async fn whole(socket: &UdpSocket, sent: &[Vec<u8>]) {
    for (i, datagram) in sent.iter().enumerate() {
        let mut bytes = vec![0; 9000];
        let n = timeout(SOON, socket.recv(&mut bytes)).await.unwrap().unwrap();
        assert!(bytes[..n] == datagram[..], "datagram {i}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_came_joined_and_are_longer_than_the_next_link_takes_go_on_one_by_one() {
    let Some(net) = Net::new(false) else { return };
    let mut control_ports = tokio::task::JoinSet::new();
    for (i, name) in ["a", "b"].into_iter().enumerate() {
        control_ports.spawn(ssh(name, net.nodes[i].listen(net.node(i))));
    }
    let nodes = [net.nodes[0].udp(net.node(0)), net.nodes[1].udp(net.node(1))];
    let gateway = net.gateway().await;
    let (_control, name) = net.control(0).await;
    let (node, at) = (&nodes[usize::from(name == "b")], usize::from(name == "b"));
    let client = net.data(0);
    client.send_to(b"first", net.gate(0, DATA)).await.unwrap();
    let mut bytes = [0; 10];
    let (_, flow) = timeout(SOON, node.recv_from(&mut bytes)).await.unwrap().unwrap();
    for (host, gate) in [(&net.clients[0], "client0".to_owned()), (&net.nodes[at], format!("node{at}"))] {
        host.ip("link set eth0 mtu 9000");
        net.gateway.ip(&format!("link set {gate} mtu 9000"));
        for round in 1..=3 {
            match gate.starts_with("client") {
                true => whole(node, &burst(&client, net.gate(0, DATA), 8000, 7)).await,
                false => whole(&client, &burst(node, flow, 8000, 7)).await,
            }
            let direction = if gate.starts_with("client") { "upload" } else { "download" };
            let moved = 7 * round + u32::from(direction == "upload");
            gateway.until("udp_datagrams_total", &[("direction", direction)], moved.into()).await;
        }
        host.ip("link set eth0 mtu 1500");
        net.gateway.ip(&format!("link set {gate} mtu 1500"));
    }
    assert_eq!(gateway.metrics().await.sum("udp_datagrams_dropped_total", &[]), 0.0);
}
