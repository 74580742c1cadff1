//! What is under way while configs come and go.

use std::time::{Duration, Instant};

use fallgate::node::NodeOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::TcpStream,
};

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, loopback, noise,
    nominal::{self, Place, ask, client},
    peer::Peer,
    uuid,
    wire::{end, head, start, start_body},
};

const MIB: usize = 1024 * 1024;

/// Configs that change every door, every upstream and what all of them share.
fn other(sandbox: &Sandbox, n: usize) -> fallgate::config::Config {
    sandbox.config(|y| {
        let y = y.replace("name: u,", &format!("name: u, balance: {},", ["hash", "round_robin"][n % 2]));
        format!("{y}timeouts: {{connect: {}s, tunnel_idle: {}m}}\nresolver: {{timeout: {}s}}\n", n + 2, n + 2, n + 1)
    })
}

/// A gateway with a session that has begun to send a file of 8 MiB by this listener.
async fn uploading(sandbox: &Sandbox, listener: &str) -> (Wire, String, Vec<u8>) {
    let host = sandbox.address(listener).await;
    let id = uuid();
    let body = start_body(&id, "put", TOKEN.as_bytes(), &[]);
    assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
    let (mut wire, file) = (Wire::plain(host).await, noise(8 * MIB, 3));
    wire.send(&head("PUT", host, &id, "file/big", &format!("Content-Length: {}\r\n", file.len()))).await;
    wire.send(&file[..MIB]).await;
    (wire, id, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_on_its_way_arrives_whole_through_many_reloads() {
    let sandbox = Plan::new().node(NodeOptions::default()).start().await;
    let host = sandbox.address("plain").await;
    let (mut wire, id, file) = uploading(&sandbox, "plain").await;
    for (n, piece) in file[MIB..].chunks(MIB).enumerate() {
        sandbox.gateway.reload(other(&sandbox, n)).await.unwrap();
        wire.send(piece).await;
    }
    assert_eq!(wire.head().await.status, 201);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    let arrived = std::fs::read(sandbox.dir.path().join("n1/up/big")).unwrap();
    assert!(arrived == file, "{} of {} bytes", arrived.len(), file.len());
    assert_eq!(sandbox.records(1).await[0]["outcome"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_removed_in_the_middle_of_a_file_stays_until_its_session_is_over_and_then_closes() {
    const EXTRA: &str = "{name: extra, protocol: http, address: '127.0.0.1:0', upstream: u}";
    let sandbox = Plan::new().node(NodeOptions::default()).listeners(EXTRA).start().await;
    let host = sandbox.address("extra").await;
    let (mut wire, id, file) = uploading(&sandbox, "extra").await;
    sandbox.gateway.reload(sandbox.config(|y| y.replace(&format!("  - {EXTRA}\n"), ""))).await.unwrap();
    wire.send(&file[MIB..]).await;
    assert_eq!(wire.head().await.status, 201);
    let late = uuid();
    let begins = start(host, &late, &start_body(&late, "put", TOKEN.as_bytes(), &[]));
    assert_eq!(Wire::plain(host).await.ask(&begins).await.word(), "draining");
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    let begin = Instant::now();
    while TcpStream::connect(host).await.is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it is still open");
    }
    assert!(std::fs::read(sandbox.dir.path().join("n1/up/big")).unwrap() == file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_bytes_move_both_ways_loses_none_through_many_reloads() {
    let echo = Peer::start(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await;
    let sandbox = Plan::new()
        .listeners("{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p}")
        .top("policies: [{name: p, allow: [{hosts: ['*']}], allow_private_addresses: [127.0.0.0/8]}]")
        .start()
        .await;
    let mut stream = TcpStream::connect(sandbox.address("egress").await).await.unwrap();
    let target = echo.address;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0);
    }
    assert!(said.starts_with(b"HTTP/1.1 200"), "{}", said.escape_ascii());
    let (sent, (mut read, mut write)) = (noise(16 * MIB, 4), stream.split());
    let mut heard = Vec::new();
    let send = async {
        for (n, piece) in sent.chunks(MIB).enumerate() {
            write.write_all(piece).await.unwrap();
            sandbox.gateway.reload(other(&sandbox, n)).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let (_, all) = tokio::join!(send, read.read_to_end(&mut heard));
    all.unwrap();
    assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_moves_keeps_its_port_towards_the_node_through_many_reloads_and_node_changes() {
    let nodes = [nominal::Peer::start("a").await, nominal::Peer::start("b").await];
    let place = Place::start(&[&nodes[0], &nodes[1]], "", "").await;
    let (mut control, name) = place.control("127.0.0.2").await;
    let home = if name == "a" { &nodes[0] } else { &nodes[1] };
    let socket = client("127.0.0.2", place.address("data").await).await;
    assert!(ask(&socket, b"0").await.is_some());
    for n in 1..=8 {
        // Another balance, other times, and now and then no second node.
        place
            .reload(|text| {
                let balance = ["hash", "least_sessions"][n % 2];
                let text = text.replace("balance: round_robin", &format!("balance: {balance}, slow_start: {n}s"));
                let text =
                    text.replace("protocol: udp,", &format!("protocol: udp, flow_idle: {n}m, gate_grace: {n}s,"));
                let away = if name == "a" { ", {name: n2" } else { "{name: n1" };
                match n % 3 {
                    0 => text.replacen(away, &away.replace('{', "{drain: on, "), 1),
                    _ => text,
                }
            })
            .await;
        let answer = ask(&socket, format!("{n}").as_bytes()).await.expect("an answer");
        assert_eq!(answer, format!("{name}{n}").as_bytes());
    }
    assert_eq!(home.seen.lock().unwrap().len(), 1, "the node sees one source");
    let other = if name == "a" { &nodes[1] } else { &nodes[0] };
    assert!(other.seen.lock().unwrap().is_empty());
    // The control connection is the same, too.
    control.shutdown().await.unwrap();
    assert_eq!(control.read(&mut [0; 8]).await.unwrap(), 0);
    place.until("udp_flows_total", &[], 1.0).await;
    assert_ne!(place.address("data").await, loopback(0));
}
