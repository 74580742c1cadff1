//! A range of ports: each leads to the node's port that stands as far from the first.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::support::{
    loopback,
    nominal::{Place, SOON, ssh},
};

const PORTS: u16 = 6;

/// Sockets at so many ports in a row, below those that the system gives to others.
async fn row(begin: u16) -> (u16, Vec<UdpSocket>) {
    let mine = begin + (std::process::id() % 500) as u16 * 10;
    for first in (mine..mine + 4000).step_by(PORTS.into()) {
        let mut sockets = Vec::new();
        for port in first..first + PORTS {
            sockets.extend(UdpSocket::bind(loopback(port)).await);
        }
        if sockets.len() == usize::from(PORTS) {
            return (first, sockets);
        }
    }
    panic!("no {PORTS} free ports in a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_port_of_a_range_leads_to_its_own_port_of_the_node_and_back() {
    let tcp = TcpListener::bind(loopback(0)).await.unwrap();
    let (first, sockets) = row(10_000).await;
    let nodes = [(tcp.local_addr().unwrap().port(), first)];
    let mut tasks = JoinSet::new();
    tasks.spawn(ssh("a", tcp));
    let seen = Arc::<Mutex<HashMap<u16, HashSet<SocketAddr>>>>::default();
    for socket in sockets {
        let seen = seen.clone();
        tasks.spawn(async move {
            let port = socket.local_addr().unwrap().port();
            let mut bytes = [0; 100];
            while let Ok((n, client)) = socket.recv_from(&mut bytes).await {
                seen.lock().unwrap().entry(port).or_default().insert(client);
                let nth = (port - first).to_string();
                let _ = socket.send_to(&[nth.as_bytes(), &bytes[..n]].concat(), client).await;
            }
        });
    }
    let (low, free) = row(20_000).await;
    drop(free);
    let range = format!("127.0.0.1:{low}-{}", low + PORTS - 1);
    let place = Place::before(&nodes, &range, ", workers: 2", "").await;
    let (_control, _) = place.control("127.0.0.2").await;
    let client = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    for round in 0..3 {
        for nth in (0..PORTS).rev() {
            client.send_to(b"-x", loopback(low + nth)).await.unwrap();
            let mut answer = [0; 100];
            let (n, from) = timeout(SOON, client.recv_from(&mut answer)).await.unwrap().unwrap();
            assert_eq!((&answer[..n], from), (format!("{nth}-x").as_bytes(), loopback(low + nth)), "round {round}");
        }
    }
    let metrics = place.metrics().await;
    assert_eq!(metrics.sum("udp_flows_total", &[]), f64::from(PORTS), "a flow for each port");
    let seen = seen.lock().unwrap();
    assert!(seen.len() == usize::from(PORTS) && seen.values().all(|sources| sources.len() == 1), "{seen:?}");
    let sources: HashSet<_> = seen.values().flatten().collect();
    assert_eq!(sources.len(), usize::from(PORTS), "each from a port of its own");
}
