//! Bodies on their way: intact, bounded in memory, without a total time-out.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fallgate::node::NodeOptions;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, eventually, noise,
    peer::{Peer, keep, pause, read_head, read_request, say},
    uuid,
    wire::{end, get, put, start, start_body},
};

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

pub(crate) async fn begin(wire: &mut Wire, host: SocketAddr, operation: &str) -> String {
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, operation, TOKEN.as_bytes(), &["/f"]))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    id
}

/// One real node that holds the file `f`, over a connection that persists.
pub(crate) async fn one_node(file: &[u8], top: &str) -> (Sandbox, SocketAddr, Wire) {
    let plan = Plan::new().node(NodeOptions::default()).listener("persistent_connection: force");
    let sandbox = plan.top(top).start().await;
    std::fs::write(sandbox.dir.path().join("n1/f"), file).unwrap();
    let host = sandbox.address("plain").await;
    let wire = Wire::plain(host).await;
    (sandbox, host, wire)
}

/// A scripted node behind the gateway.
pub(crate) async fn behind(peer: &Peer, top: &str) -> (Sandbox, SocketAddr, Wire) {
    let plan = Plan::new().peer(peer.address).listener("persistent_connection: force");
    let sandbox = plan.upstream("health_check: {interval: 1h}").top(top).start().await;
    let host = sandbox.address("plain").await;
    let wire = Wire::plain(host).await;
    (sandbox, host, wire)
}

/// The count once it grows no more: nothing moved for a while, after something did.
async fn at_rest(count: &AtomicU64) -> u64 {
    let mut last = 0;
    loop {
        pause(Duration::from_millis(500)).await;
        let now = count.load(Ordering::Relaxed);
        if now == last && now > 0 {
            return now;
        }
        last = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_go_up_and_come_down_intact_in_pieces_of_any_size() {
    let file = noise(64 << 20, 7);
    let (sandbox, host, mut wire) = one_node(&file, "").await;
    let id = begin(&mut wire, host, "put").await;
    let request = put(host, &id, "up", &file);
    let (mut rest, mut step) = (&request[..], 1usize);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(step.min(rest.len()));
        wire.send(piece).await;
        step = (step * 31 + 17) % 150_001 + 1;
        rest = tail;
    }
    assert_eq!(wire.head().await.status, 201);
    assert!(std::fs::read(sandbox.dir.path().join("n1/up/up")).unwrap() == file);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    let id = begin(&mut wire, host, "get").await;
    let reply = wire.ask(&get(host, &id, "f", "")).await;
    assert_eq!(reply.field("content-length"), Some("67108864"));
    assert_eq!(reply.field("transfer-encoding"), None);
    assert!(wire.body(64 << 20).await == file);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    let records = sandbox.records(2).await;
    assert_eq!(
        (&records[0]["bytes_uploaded"], &records[1]["bytes_downloaded"]),
        (&(64 << 20).into(), &(64 << 20).into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_reading_stops_the_client_and_nothing_piles_up_between_them() {
    let silent = Peer::start(|mut stream| async move {
        if read_head(&mut stream).await.0.starts_with(b"POST") {
            say(&mut stream, OK).await;
        }
        keep(stream).await;
    })
    .await;
    let (sandbox, host, mut wire) = behind(&silent, "").await;
    let id = begin(&mut wire, host, "put").await;
    let body = vec![0; 96 << 20];
    let request = put(host, &id, "a", &body);
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let sender = tokio::spawn(async move {
        for piece in request.chunks(64 * 1024) {
            wire.send(piece).await;
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let last = at_rest(&sent).await;
    assert!(last < 24 << 20, "{last} bytes were taken");
    assert!(sandbox.metrics().await.sum("bytes_total", &[]) < (16 << 20) as f64);
    sender.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_the_node() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let peer = Peer::start(move |mut stream| {
        let count = count.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                if head.starts_with(b"POST") {
                    say(&mut stream, OK).await;
                    continue;
                }
                say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100663296\r\n\r\n").await;
                for _ in 0..1536 {
                    say(&mut stream, &[0; 65536]).await;
                    count.fetch_add(65536, Ordering::Relaxed);
                }
            }
        }
    })
    .await;
    let (_sandbox, host, mut wire) = behind(&peer, "").await;
    let id = begin(&mut wire, host, "get").await;
    assert_eq!(wire.ask(&get(host, &id, "f", "")).await.status, 200);
    let last = at_rest(&sent).await;
    assert!(last < 24 << 20, "{last} bytes were taken from the node");
    assert!(wire.body(96 << 20).await.iter().all(|b| *b == 0), "and all of it comes once the client reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_but_steady_body_outlives_body_idle_many_times_over() {
    let (_sandbox, host, mut wire) = one_node(b"x", "timeouts: {body_idle: 400ms}").await;
    let id = begin(&mut wire, host, "put").await;
    let request = put(host, &id, "a", &[7; 12]);
    let (head, body) = request.split_at(request.len() - 12);
    wire.send(head).await;
    for byte in body {
        pause(Duration::from_millis(120)).await;
        wire.send(&[*byte]).await;
    }
    assert_eq!(wire.head().await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_body_that_stops_is_broken_off_after_body_idle() {
    let (sandbox, host, mut wire) = one_node(b"x", "timeouts: {body_idle: 300ms}").await;
    let id = begin(&mut wire, host, "put").await;
    let request = put(host, &id, "a", &noise(100_000, 1));
    wire.send(&request[..60_000]).await;
    timeout(Duration::from_secs(8), wire.rest()).await.expect("closed");
    drop(wire);
    let records = sandbox.records(1).await;
    assert_eq!((&records[0]["outcome"], &records[0]["reason"]), (&"lost".into(), &"stalled".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_in_a_body_is_broken_off_after_body_idle() {
    let (sandbox, host, mut wire) = one_node(&noise(500_000, 1), "timeouts: {body_idle: 300ms}").await;
    sandbox.nodes[0].set_faults(vec!["get=stall@1000".parse().unwrap()]);
    let id = begin(&mut wire, host, "get").await;
    assert_eq!(wire.ask(&get(host, &id, "f", "")).await.status, 200);
    let rest = timeout(Duration::from_secs(8), wire.rest()).await.expect("closed");
    assert_eq!(rest.len(), 1000);
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &[("reason", "stalled")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_or_does_not_read_a_put_is_a_504_on_a_connection_in_step() {
    for (fault, size) in [("put=stall@10", 10), ("put=stall@1000", 40 << 20)] {
        let (sandbox, host, mut wire) = one_node(b"x", "timeouts: {body_idle: 400ms}").await;
        sandbox.nodes[0].set_faults(vec![fault.parse().unwrap()]);
        let id = begin(&mut wire, host, "put").await;
        let reply = wire.ask(&put(host, &id, "a", &vec![1; size])).await;
        assert_eq!((reply.status, reply.word()), (504, "stalled"), "{fault}");
        sandbox.nodes[0].set_faults(Vec::new());
        assert_eq!(wire.ask(&put(host, &id, "b", b"x")).await.status, 201, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_a_download_frees_the_node() {
    let closed = Arc::new(AtomicU64::new(0));
    let count = closed.clone();
    let peer = Peer::start(move |mut stream| {
        let count = count.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                if head.starts_with(b"GET") {
                    say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").await;
                    assert_eq!(stream.read(&mut [0; 10]).await.unwrap_or(0), 0);
                    count.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                say(&mut stream, OK).await;
            }
        }
    })
    .await;
    let (_sandbox, host, mut wire) = behind(&peer, "").await;
    let id = begin(&mut wire, host, "get").await;
    assert_eq!(wire.ask(&get(host, &id, "f", "")).await.status, 200);
    drop(wire);
    eventually("the node is let go", || (closed.load(Ordering::Relaxed) == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_more_is_let_go_after_body_idle_and_so_is_the_node() {
    let (sandbox, host, mut wire) = one_node(&noise(32 << 20, 1), "timeouts: {body_idle: 300ms}").await;
    let id = begin(&mut wire, host, "get").await;
    assert_eq!(wire.ask(&get(host, &id, "f", "")).await.status, 200);
    let records = sandbox.records(1).await;
    assert_eq!((&records[0]["outcome"], &records[0]["reason"]), (&"lost".into(), &"stalled".into()));
    drop(wire);
}
