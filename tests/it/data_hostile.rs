//! Datagrams that mean harm, or are odd: dropped and counted, and a neighbour loses nothing.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::support::{
    dice::Dice,
    loopback,
    nominal::{Peer, Place, SOON, ask, client, config, greeted, ssh},
    process::Process,
};

/// What a flood is meant to be; a busy machine makes less of it.
const PER_SECOND: u64 = 50_000;
const LASTS: Duration = Duration::from_secs(2);
/// Of one client, by default.
const FLOWS_OF_ONE: f64 = 200.0;
/// What the gateway may grow by in a flood, in bytes: buffers that were never filled before, two hundred flows.
const GROWTH: u64 = 24 * 1024 * 1024;

/// A ticking clock that makes up for ticks it missed.
fn ticks(each: Duration) -> tokio::time::Interval {
    let mut ticks = interval(each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

/// Sends datagrams, each from a port of its own, and tells how many.
async fn flood(to: SocketAddr, mut from: impl FnMut() -> IpAddr) -> u64 {
    let (mut ticks, mut sent, begin) = (ticks(Duration::from_millis(2)), 0, Instant::now());
    while begin.elapsed() < LASTS {
        ticks.tick().await;
        for _ in 0..PER_SECOND / 500 {
            let Ok(socket) = std::net::UdpSocket::bind((from(), 0)) else { continue };
            sent += u64::from(socket.send_to(b"flood", to).is_ok());
        }
    }
    eprintln!("{:.0} new ports a second", sent as f64 / begin.elapsed().as_secs_f64());
    sent
}

fn wide(socket: &UdpSocket) {
    socket2::SockRef::from(socket).set_recv_buffer_size(4 << 20).unwrap();
}

/// A flow of 10 Mbit/s; gives how many datagrams it sent, and how many answers never came.
async fn neighbour(ip: &str, to: SocketAddr) -> (u64, usize) {
    let socket = client(ip, to).await;
    wide(&socket);
    let (mut ticks, mut sent, begin) = (ticks(Duration::from_millis(1)), 0u64, Instant::now());
    let (mut answered, mut bytes) = (HashSet::new(), [0; 2000]);
    let mut note = |answer: &[u8]| answered.insert(answer[1..9].to_vec());
    while begin.elapsed() < LASTS {
        tokio::select! {
            _ = ticks.tick() => {
                let mut datagram = [7; 1250];
                datagram[..8].copy_from_slice(&sent.to_le_bytes());
                socket.send(&datagram).await.unwrap();
                sent += 1;
            }
            n = socket.recv(&mut bytes) => drop(note(&bytes[..n.unwrap()])),
        }
    }
    while let Ok(n) = timeout(Duration::from_secs(1), socket.recv(&mut bytes)).await {
        note(&bytes[..n.unwrap()]);
    }
    (sent, sent as usize - answered.len())
}

async fn control(gateway: &Process, ip: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(gateway.address("control").await).await.unwrap();
    greeted(&mut stream).await.unwrap();
    stream
}

/// A neighbour at 10 Mbit/s, and a flood meanwhile.
async fn flooded(from: impl FnMut() -> IpAddr + Send + 'static) -> (Process, u64, Peer) {
    let (tcp, udp) = (TcpListener::bind(loopback(0)).await.unwrap(), UdpSocket::bind(loopback(0)).await.unwrap());
    wide(&udp);
    let node = Peer::over("a", tcp, udp);
    let gateway = Process::start(&config(&[(node.tcp.port(), node.udp.port())], "127.0.0.1:0", "", "")).await;
    let data = gateway.address("data").await;
    let _controls = [control(&gateway, "127.0.0.2").await, control(&gateway, "127.0.0.3").await];
    assert!(ask(&client("127.0.0.2", data).await, b"x").await.is_some());
    let before = gateway.memory();

    let flood = tokio::spawn(flood(data, from));
    let (asked, lost) = neighbour("127.0.0.2", data).await;
    let sent = flood.await.unwrap();
    let grown = gateway.memory().saturating_sub(before);
    eprintln!("the neighbour lost {lost} of {asked}; the gateway grew by {} KiB", grown / 1024);
    assert_eq!(lost, 0, "of {asked}");
    assert!(grown <= GROWTH, "{grown} bytes");
    // Nothing is without account: it was relayed, or dropped for a reason.
    let begin = Instant::now();
    loop {
        let metrics = gateway.metrics().await;
        let relayed = metrics.sum("udp_datagrams_total", &[("direction", "upload")]);
        let dropped = metrics.sum("udp_datagrams_dropped_total", &[]);
        assert_eq!(metrics.sum("udp_datagrams_dropped_total", &[("reason", "receive_full")]), 0.0);
        if relayed + dropped == (1 + asked + sent) as f64 {
            break;
        }
        assert!(begin.elapsed() < SOON, "{relayed} relayed and {dropped} dropped of {}", 1 + asked + sent);
    }
    (gateway, sent, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_ports_of_one_client_takes_its_share_of_flows_and_no_more() {
    let (gateway, sent, _node) = flooded(|| IpAddr::from([127, 0, 0, 3])).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("udp_flows_active", &[]), FLOWS_OF_ONE + 2.0);
    let refused = metrics.sum("udp_datagrams_dropped_total", &[("reason", "too_many_flows_per_client")]);
    // A port that has a flow may come again.
    assert!(refused > 0.9 * sent as f64 - FLOWS_OF_ONE, "{refused} of {sent}");
    assert!(ask(&client("127.0.0.2", gateway.address("data").await).await, b"x").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_many_strangers_opens_nothing() {
    let mut dice = Dice::new(7);
    let stranger = move || IpAddr::from([127, 1 + dice.below(254) as u8, dice.below(256) as u8, dice.below(256) as u8]);
    let (gateway, sent, node) = flooded(stranger).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("udp_flows_total", &[]), 2.0, "the neighbour's");
    assert_eq!(metrics.sum("udp_datagrams_dropped_total", &[("reason", "gate_closed")]), sent as f64);
    assert_eq!(node.seen.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_datagrams_are_counted_and_end_no_flow() {
    let (tcp, udp) = (TcpListener::bind(loopback(0)).await.unwrap(), UdpSocket::bind(loopback(0)).await.unwrap());
    let nodes = [(tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port())];
    let _ssh = tokio::task::JoinSet::from_iter([ssh("a", tcp)]);
    let place = Place::before(&nodes, "127.0.0.1:0", "", "").await;
    let (_control, _) = place.control("127.0.0.2").await;
    let socket = client("127.0.0.2", place.address("data").await).await;
    let mut bytes = [0; 10];
    for datagram in [&b"one"[..], b"", b"", b"two", b""] {
        socket.send(datagram).await.unwrap();
    }
    let (_, flow) = timeout(SOON, udp.recv_from(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(timeout(SOON, udp.recv(&mut bytes)).await.unwrap().unwrap(), 3, "the second that is not empty");
    for datagram in [&b""[..], b"three", b""] {
        udp.send_to(datagram, flow).await.unwrap();
    }
    assert_eq!(timeout(SOON, socket.recv(&mut bytes)).await.unwrap().unwrap(), 5);
    place.until("udp_datagrams_dropped_total", &[("reason", "empty")], 5.0).await;
    assert_eq!(place.metrics().await.sum("udp_flows_active", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_outlives_that_nobody_was_at_the_port_of_its_node() {
    let tcp = TcpListener::bind(loopback(0)).await.unwrap();
    let port = std::net::UdpSocket::bind(loopback(0)).unwrap().local_addr().unwrap().port();
    let place = Place::before(&[(tcp.local_addr().unwrap().port(), port)], "127.0.0.1:0", ", gate: off", "").await;
    let socket = client("127.0.0.2", place.address("data").await).await;
    let mut sent = 0;
    while place.metrics().await.sum("udp_icmp_errors_total", &[]) < 3.0 {
        socket.send(b"x").await.unwrap();
        sent += 1;
        assert!(sent < 1000);
    }
    let node = Peer::over("a", tcp, UdpSocket::bind(loopback(port)).await.unwrap());
    assert_eq!(ask(&socket, b"-").await.unwrap(), b"a-");
    assert_eq!(node.seen.lock().unwrap().len(), 1);
    let metrics = place.metrics().await;
    assert_eq!((metrics.sum("udp_flows_active", &[]), metrics.sum("udp_flows_total", &[])), (1.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_has_no_room_for_is_counted_too() {
    let node = Peer::start("a").await;
    let place = Place::start(&[&node], ", gate: off, workers: 1, receive_buffer: 64KiB", "").await;
    let socket = client("127.0.0.2", place.address("data").await).await.into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    let (mut sent, begin) = (0, Instant::now());
    while place.metrics().await.sum("udp_datagrams_dropped_total", &[("reason", "receive_full")]) == 0.0 {
        assert!(begin.elapsed() < SOON, "nothing was lost of {sent}");
        for _ in 0..2000 {
            socket.send(&[7; 1400]).unwrap();
            sent += 1;
        }
    }
    let begin = Instant::now();
    loop {
        let metrics = place.metrics().await;
        let up = metrics.sum("udp_datagrams_total", &[("direction", "upload")]);
        // Those that came back unread are not among them until the flow ends.
        let all = up + metrics.sum("udp_datagrams_dropped_total", &[]);
        if all == f64::from(sent) {
            return;
        }
        assert!(begin.elapsed() < SOON, "{all} of {sent}");
    }
}
