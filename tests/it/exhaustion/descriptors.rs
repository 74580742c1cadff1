//! Descriptors run out: who is there goes on, who comes waits, and nobody else is blamed.

use std::process::Command;

use fallgate::node::NodeOptions;
use tokio::net::TcpStream;

use super::{config, node, readiness, session};
use crate::support::{
    TOKEN, Wire,
    meter::{Meter, all_reach},
    nominal::{self, Peer, ask, client},
    process::Process,
    uuid,
    wire::{end, get, put, start, start_body},
};

const FILES: usize = 160;

/// The program, with so few descriptors.
fn short_of_files() -> Command {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -n {FILES}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_fallgate")]);
    shell
}

/// How much processor time a process has taken, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let numbers: Vec<u64> = text.rsplit(')').next().unwrap().split(' ').filter_map(|n| n.parse().ok()).collect();
    numbers[10] + numbers[11]
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_sessions_go_on_newcomers_wait_and_no_node_is_blamed() {
    let (node, _dir) = node(NodeOptions { sink: true, ..NodeOptions::default() }).await;
    let text = config(
        ("127.0.0.1", node.address().port()),
        "interval: 50ms, unhealthy_threshold: 1",
        "access_log: {path: access.log}\nbandwidth: {per_session: 8Mbit/s}",
    );
    let process = Process::by(short_of_files(), None, &text).await;
    let (host, admin) = (process.address("plain").await, process.admin());
    readiness(admin, (200, "ok\n")).await;
    // One session moves, one is between two requests, and some who have connected begin one later.
    let (mut moving, id) = (Wire::plain(host).await, uuid());
    let body = start_body(&id, "get", TOKEN.as_bytes(), &["/zeros.1000000000b"]);
    assert_eq!(moving.ask(&start(host, &id, &body)).await.status, 200);
    let mut moving = Wire::plain(host).await;
    assert_eq!(moving.ask(&get(host, &id, "zeros.1000000000b", "")).await.status, 200);
    let meter = Meter::default();
    let counted = meter.clone();
    let download = tokio::spawn(async move { moving.drink(&counted).await });
    let mut early = Vec::new();
    for _ in 0..8 {
        early.push(Wire::plain(host).await);
    }
    let mut idle = Vec::new();
    for _ in 0..FILES {
        idle.push(TcpStream::connect(host).await.unwrap());
    }
    readiness(admin, (503, "open_files\n")).await;

    let (mut waiting, late) = (Wire::plain(host).await, uuid());
    waiting.send(&start(host, &late, &start_body(&late, "put", TOKEN.as_bytes(), &[]))).await;
    let (mut failed, mut tries) = (Vec::new(), 0);
    while failed.len() < 3 {
        assert!(tries < 400, "starts find descriptors all the time");
        tries += 1;
        let (at, id) = (tries % early.len(), uuid());
        let reply = early[at].ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
        // One may find a descriptor that an operator has just given back; it is tried again.
        assert!([(200, ""), (502, "node_unreachable")].contains(&(reply.status, reply.word())), "{}", reply.text);
        if reply.status == 502 {
            failed.push(early.remove(at));
        }
    }
    let (before, begun) = (ticks(process.newest()), std::time::Instant::now());
    let so_far = meter.bytes();
    all_reach(std::slice::from_ref(&meter), so_far + 2_000_000).await;
    let busy = (ticks(process.newest()) - before) as f64 / 100.0 / begun.elapsed().as_secs_f64();
    assert!(busy < 0.6, "it spins: {busy:.2} of a processor");
    let metrics = process.metrics().await;
    assert_eq!((metrics.sum("node_up", &[]), metrics.sum("health_checks_total", &[("result", "failed")])), (1.0, 0.0));
    readiness(admin, (503, "open_files\n")).await;

    drop((early, failed, idle));
    assert_eq!(waiting.head().await.status, 200, "who has waited is served");
    assert_eq!(Wire::plain(host).await.ask(&put(host, &late, "f", b"x")).await.status, 201);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &late, "DONE")).await.status, 200);
    readiness(admin, (200, "ok\n")).await;
    session(host).await;
    let log = crate::support::eventually("the end is told", || {
        let log = process.log();
        log.contains("Connections are accepted again.").then_some(log)
    })
    .await;
    assert!(log.contains(&format!("limit={FILES} needed=")), "{log}");
    assert_eq!(log.matches("Connections cannot be accepted").count(), 1, "{log}");
    download.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_that_find_no_descriptor_are_dropped_and_those_that_run_go_on() {
    let node = Peer::start("a").await;
    let data = ", gate: off, flow_idle: 2s, workers: 1";
    let text = nominal::config(&[(node.tcp.port(), node.udp.port())], "127.0.0.1:0", data, "");
    let process = Process::by(short_of_files(), None, &text).await;
    let to = process.address("data").await;
    let early = client("127.0.0.1", to).await;
    assert_eq!(ask(&early, b"x").await.unwrap(), b"ax");
    let dropped = async || process.metrics().await.sum("udp_datagrams_dropped_total", &[("reason", "open_files")]);
    let mut others = Vec::new();
    while dropped().await == 0.0 {
        assert!(others.len() < 2 * FILES, "it never runs out");
        others.push(client("127.0.0.2", to).await);
        others.iter().for_each(|other| drop(other.try_send(b"x")));
        assert_eq!(ask(&early, b"x").await.unwrap(), b"ax");
    }
    readiness(process.admin(), (503, "open_files\n")).await;
    assert_eq!(ask(&early, b"x").await.unwrap(), b"ax");
    let metrics = process.metrics().await;
    assert_eq!(metrics.sum("udp_datagrams_dropped_total", &[("reason", "node_unreachable")]), 0.0);
    assert_eq!(metrics.sum("node_up", &[("port", "tcp")]), 1.0);
    // They end when they are idle, and there is room again.
    process.until("udp_flows_active", &[], 0.0).await;
    readiness(process.admin(), (200, "ok\n")).await;
    assert_eq!(ask(&client("127.0.0.3", to).await, b"x").await.unwrap(), b"ax");
}
