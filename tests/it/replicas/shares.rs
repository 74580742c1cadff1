//! Caps on bandwidth over several gateways that share a Redis.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, task::JoinSet};

use super::limits::three;
use crate::{
    streaming::begin,
    support::{
        Wire,
        meter::{MBIT, Meter, near},
        peer::{Peer, read_head, say},
        wire::head,
    },
};

/// The cap on all of them together, in bytes a second.
const CAP: f64 = 10.0 * MBIT;
/// How long it is looked how fast bytes come.
const WINDOW: Duration = Duration::from_secs(3);

/// A node that counts what it gets.
async fn node(got: &Meter) -> Peer {
    let got = got.clone();
    Peer::start(move |stream| serve(stream, got.clone())).await
}

async fn serve(mut stream: TcpStream, got: Meter) {
    loop {
        let (head, body) = read_head(&mut stream).await;
        if head.is_empty() {
            return;
        }
        let length = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = length.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let left = length.unwrap_or(0) - body.len();
        if head.starts_with(b"PUT ") {
            got.add(body.len());
            got.drink(&mut stream, left).await;
        } else {
            Meter::default().drink(&mut stream, left).await;
        }
        say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    }
}

/// Begins an upload that does not end.
async fn upload(host: SocketAddr, tasks: &mut JoinSet<()>) {
    let mut wire = Wire::plain(host).await;
    let id = begin(&mut wire, host, "put").await;
    tasks.spawn(async move {
        wire.send(&head("PUT", host, &id, "file/a", "Content-Length: 536870912\r\nConnection: keep-alive\r\n")).await;
        wire.pour(512 << 20).await;
    });
}

/// Waits until as much comes as may, and looks whether it stays so.
async fn is_met(got: &Meter) {
    let begin = Instant::now();
    while got.rate(WINDOW).await < 0.9 * CAP {
        assert!(begin.elapsed() < Duration::from_secs(30), "the cap is never reached");
    }
    near(got.rate(WINDOW).await, CAP, 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_through_several_gateways_keep_to_a_cap_together_and_leave_nothing_of_it() {
    let cases = ["total", "per_client"].map(|cap| tokio::spawn(keeps_to(cap)));
    for case in cases {
        case.await.unwrap();
    }
}

async fn keeps_to(cap: &str) {
    let (got, mut tasks) = (Meter::default(), JoinSet::new());
    let peer = node(&got).await;
    let top = format!("bandwidth: {{{cap}: 10Mbit/s}}");
    let Some((redis, gateways)) = three(peer.address, "persistent_connection: force", &top).await else { return };
    upload(gateways[0].address("plain").await, &mut tasks).await;
    upload(gateways[1].address("plain").await, &mut tasks).await;
    is_met(&got).await;
    upload(gateways[2].address("plain").await, &mut tasks).await;
    is_met(&got).await;
    // Each keeps its share while the others cannot be asked.
    redis.freeze();
    is_met(&got).await;
    redis.thaw();
    // One is left, and has all of it. What the others had taken in goes on for a while.
    tasks.shutdown().await;
    while got.rate(WINDOW / 10).await > 0.0 {}
    upload(gateways[1].address("plain").await, &mut tasks).await;
    is_met(&got).await;
}
