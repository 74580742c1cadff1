//! The nominal path: control connections stay where they are, flows go on in the new process.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use crate::support::{
    nominal::{Peer, ask, client, config, control, hear},
    peer::pause,
    process::Process,
};

const IP: &str = "127.0.0.1";
/// Threads of the listener of data, and so its sockets.
const WORKERS: usize = 2;

/// A gateway in front of two nodes, `a` and `b`.
struct Nominal {
    gateway: Process,
    nodes: [Peer; 2],
    control: SocketAddr,
    data: SocketAddr,
}

impl Nominal {
    async fn start(keys: &str) -> Nominal {
        let nodes = [Peer::start("a").await, Peer::start("b").await];
        let ports = nodes.each_ref().map(|node| (node.tcp.port(), node.udp.port()));
        let gateway = Process::start(&config(&ports, "127.0.0.1:0", &format!(", workers: {WORKERS}{keys}"), "")).await;
        let (control, data) = (gateway.address("control").await, gateway.address("data").await);
        Nominal { gateway, nodes, control, data }
    }

    /// The sockets at the address of data, in all processes.
    fn sockets(&self) -> usize {
        let port = format!(":{:04X} 00000000:0000", self.data.port());
        let all = std::fs::read_to_string("/proc/net/udp").unwrap();
        all.lines().filter(|line| line.contains(&port)).count()
    }

    /// Who the nodes have heard from.
    fn heard_from(&self) -> usize {
        self.nodes.iter().map(|node| node.seen.lock().unwrap().len()).sum()
    }
}

/// What the node of this name answers.
fn answer(node: &str, text: &str) -> Vec<u8> {
    format!("{node}{text}").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_goes_on_with_the_same_port_at_its_node_and_its_record_has_all_of_it() {
    let place = Nominal::start(", gate_grace: 1s").await;
    let (held, node) = control(IP, place.control).await.unwrap();
    let socket = client(IP, place.data).await;
    assert_eq!(ask(&socket, b"one").await.unwrap(), answer(&node, "one"));
    let sockets = place.sockets();
    assert_eq!(sockets, WORKERS);
    let old = place.gateway.first();
    let new = place.gateway.upgrade().await;
    assert_eq!(ask(&socket, b"two").await.unwrap(), answer(&node, "two"));
    assert_eq!((place.heard_from(), place.sockets()), (1, sockets));
    // The control connection holds the old process, and the gate of the new one.
    assert_eq!(place.gateway.alive(), [old, new]);
    for _ in 0..3 {
        let (_again, same) = control(IP, place.control).await.unwrap();
        assert_eq!(same, node, "a client keeps to its node");
        let other = client(IP, place.data).await;
        assert_eq!(ask(&other, b"x").await.unwrap(), answer(&node, "x"));
    }
    place.gateway.until("udp_flows_active", &[], 4.0).await;
    drop(held);
    place.gateway.only(&[new]).await;
    place.gateway.until("udp_flows_active", &[], 0.0).await;
    let late = client(IP, place.data).await;
    assert_eq!(ask(&late, b"late").await, None, "the gate has closed");
    let records = place.gateway.records(8).await;
    let flows: Vec<_> = records.iter().filter(|record| record["listener"] == "data").collect();
    let first = flows.iter().find(|record| record["bytes_uploaded"] == 6).unwrap_or_else(|| panic!("{flows:#?}"));
    assert_eq!((&first["bytes_downloaded"], flows.len()), (&8.into(), 4), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_stays_open_for_data_as_long_as_a_control_connection_of_the_old_process_lives() {
    let place = Nominal::start(", gate_grace: 1s, flow_idle: 1s").await;
    let (held, node) = control(IP, place.control).await.unwrap();
    place.gateway.upgrade().await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let socket = client(IP, place.data).await;
        assert_eq!(ask(&socket, b"x").await.unwrap(), answer(&node, "x"));
        // A client has no more flows than some thousand.
        pause(Duration::from_millis(50)).await;
    }
    drop(held);
    let closed = async { while ask(&client(IP, place.data).await, b"x").await.is_some() {} };
    timeout(Duration::from_secs(10), closed).await.expect("the gate closes");
    place.gateway.until("udp_flows_active", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_datagram_is_lost_while_processes_take_over() {
    let place = Nominal::start(", gate: off").await;
    let mut flows = JoinSet::new();
    for last in 1..=20 {
        let socket = client(&format!("127.0.3.{last}"), place.data).await;
        flows.spawn(echoes(socket));
    }
    for _ in 0..3 {
        place.gateway.upgrade().await;
    }
    let lost: usize = flows.join_all().await.into_iter().sum();
    assert_eq!((lost, place.heard_from()), (0, 20));
    assert_eq!(place.sockets(), WORKERS);
    let newest = place.gateway.newest();
    place.gateway.only(&[newest]).await;
    assert_eq!(place.gateway.metrics().await.sum("udp_flows_active", &[]), 20.0);
}

/// Sends numbers for some seconds, each once the one before has come back; gives how many did not.
async fn echoes(socket: UdpSocket) -> usize {
    let (begun, mut lost, mut number) = (std::time::Instant::now(), 0, 0u32);
    while begun.elapsed() < Duration::from_secs(4) {
        number += 1;
        let text = number.to_string();
        socket.send(text.as_bytes()).await.unwrap();
        // A standstill lasts less than that.
        match hear(&socket, Duration::from_secs(2)).await {
            Some(heard) => assert!(heard.ends_with(text.as_bytes()), "{heard:?}"),
            None => lost += 1,
        }
    }
    lost
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reaches_its_client_first_after_an_upgrade() {
    let place = Nominal::start("").await;
    let (_held, node) = control(IP, place.control).await.unwrap();
    let socket = client(IP, place.data).await;
    assert!(ask(&socket, b"x").await.is_some());
    let from = *place.nodes.iter().find_map(|node| node.seen.lock().unwrap().iter().next().copied()).as_ref().unwrap();
    let at = place.nodes.iter().position(|peer| !peer.seen.lock().unwrap().is_empty()).unwrap();
    assert_eq!(at, usize::from(node == "b"));
    place.gateway.upgrade().await;
    place.nodes[at].udp_socket.send_to(b"news", from).await.unwrap();
    assert_eq!(hear(&socket, Duration::from_secs(5)).await.unwrap(), b"news");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_connection_that_begins_while_the_other_process_is_asked_is_known_to_the_new_one() {
    let place = Nominal::start(", gate_grace: 1s").await;
    // Connections come all the time; each holds the gate for data, in whatever process it is.
    let mut held = Vec::new();
    let before = place.gateway.first();
    place.gateway.signal("USR2");
    let mut last = 0;
    while place.gateway.newest() == before || last < 10 {
        let ip = format!("127.0.4.{}", held.len() % 200 + 1);
        held.push((control(&ip, place.control).await.unwrap(), ip));
        last += usize::from(place.gateway.newest() != before);
    }
    for ((_, node), ip) in held.iter().rev().take(40) {
        assert_eq!(ask(&client(ip, place.data).await, b"x").await.unwrap(), answer(node, "x"), "{ip}");
    }
    let newest = place.gateway.newest();
    held.clear();
    place.gateway.only(&[newest]).await;
    place.gateway.until("node_sessions", &[], 0.0).await;
}
