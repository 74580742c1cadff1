//! Flows that come and go: what they took is given back.

use std::net::SocketAddr;

use tokio::{net::UdpSocket, task::JoinSet};

use crate::support::{
    eventually,
    nominal::{Peer, ask, client, config},
    process::Process,
};

const CYCLES: usize = 5;
/// Senders at a time; each has a share of the flows.
const SHARES: usize = 20;
/// What the gateway may still grow by once all memory was used before, in bytes.
const GROWTH: u64 = 2 * 1024 * 1024;

/// Flows of a cycle; a long run, with FALLGATE_LONG set, has more.
fn flows() -> usize {
    if std::env::var_os("FALLGATE_LONG").is_some() { 10_000 } else { 2000 }
}

async fn share(sockets: Vec<UdpSocket>) -> Vec<UdpSocket> {
    for socket in &sockets {
        assert_eq!(ask(socket, b"x").await.unwrap(), b"ax");
    }
    sockets
}

async fn sockets(to: SocketAddr) -> Vec<Vec<UdpSocket>> {
    let mut all = Vec::new();
    for last in 0..SHARES {
        let mut sockets = Vec::new();
        for _ in 0..flows() / SHARES {
            sockets.push(client(&format!("127.0.2.{last}"), to).await);
        }
        all.push(sockets);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_that_come_and_go_give_back_descriptors_and_memory() {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let needed = flows() as u64 + 500;
    assert!(files >= needed, "this test needs {needed} open files and may have {files}: raise the hard limit");
    let node = Peer::start("a").await;
    let top = "limits: {max_udp_flows: 20000, max_udp_flows_per_client: 20000}";
    let text =
        config(&[(node.tcp.port(), node.udp.port())], "127.0.0.1:0", ", gate: off, flow_idle: 300ms, workers: 2", top);
    let gateway = Process::start(&text).await;
    let mut all = sockets(gateway.address("data").await).await;
    assert!(ask(&all[0][0], b"x").await.is_some());
    gateway.until("udp_flows_active", &[], 0.0).await;
    let base = gateway.descriptors();
    let mut memory = Vec::new();
    for cycle in 1..=CYCLES {
        all = JoinSet::from_iter(all.into_iter().map(share)).join_all().await;
        gateway.until("udp_flows_active", &[], 0.0).await;
        let opened = gateway.metrics().await.sum("udp_flows_total", &[]);
        assert!(opened >= (1 + cycle * flows()) as f64, "{opened} flows after {cycle} cycles");
        eventually("its descriptors", || (gateway.descriptors() <= base).then_some(())).await;
        memory.push(gateway.memory());
    }
    eprintln!("memory after each cycle, in KiB: {:?}", memory.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>());
    assert!(memory[CYCLES - 1] <= memory[1] + GROWTH, "{memory:?}");
}
