//! Signs of life: a client that waits hears 102 in time, until its answer begins and not a moment longer.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, noise,
    peer::{Peer, read_request, say},
    uuid,
    wire::{Reply, end, get, put, start, start_body},
};

const NOTICE: Duration = Duration::from_millis(300);
/// What a busy machine may add to any silence.
const SLACK: Duration = Duration::from_secs(1);
const KEYS: &str = "persistent_connection: force, slow_node_notice: 300ms";

/// A node that answers a request only when it is let.
async fn slow(gate: &Arc<Semaphore>) -> Peer {
    let gate = gate.clone();
    Peer::start(move |mut stream| {
        let gate = gate.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                gate.acquire().await.unwrap().forget();
                say(&mut stream, answer(&head)).await;
            }
        }
    })
    .await
}

fn answer(head: &[u8]) -> &'static [u8] {
    match head.get(..3) {
        Some(b"GET") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        Some(b"PUT") => b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    }
}

fn plan(keys: &str, top: &str) -> Plan {
    Plan::new()
        .listener(keys)
        .top(top)
        .upstream("balance: round_robin, node_grace: 0s, health_check: {interval: 1h, timeout: 1m}")
}

async fn connect(sandbox: &Sandbox, listener: &str) -> (SocketAddr, Wire) {
    let host = sandbox.address(listener).await;
    let wire = if listener == "tls" { Wire::tls(host, crate::support::tls()).await } else { Wire::plain(host).await };
    (host, wire)
}

fn opening(host: SocketAddr, id: &str, operation: &str) -> Vec<u8> {
    start(host, id, &start_body(id, operation, TOKEN.as_bytes(), &["f"]))
}

/// So many notices, each in time.
async fn notices(wire: &mut Wire, n: usize, what: &str) {
    for i in 0..n {
        let begin = Instant::now();
        let reply = wire.head().await;
        assert_eq!((reply.status, reply.text.as_str()), (102, "HTTP/1.1 102 Processing\r\n\r\n"), "{what} {i}");
        let silence = begin.elapsed();
        assert!(silence <= NOTICE.mul_f64(1.25) + SLACK, "{what} {i}: {silence:?}");
    }
}

/// The answer after however many notices, and how many these were.
async fn last(wire: &mut Wire) -> (Reply, usize) {
    let mut n = 0;
    loop {
        let reply = wire.head().await;
        if reply.status != 102 {
            return (reply, n);
        }
        n += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_of_a_slow_node_again_and_again_whatever_it_asked() {
    for listener in ["plain", "tls"] {
        let gate = Arc::new(Semaphore::new(0));
        let peer = slow(&gate).await;
        let sandbox = plan(KEYS, "").peer(peer.address).start().await;
        let (host, mut wire) = connect(&sandbox, listener).await;
        let (up, down) = (uuid(), uuid());
        for (what, request, status, body) in [
            ("start", opening(host, &up, "put"), 200, 0),
            ("put", put(host, &up, "a", &noise(300_000, 1)), 201, 0),
            ("empty put", put(host, &up, "b", b""), 201, 0),
            ("end", end(host, &up, "DONE"), 200, 0),
            ("start", opening(host, &down, "get"), 200, 0),
            ("get", get(host, &down, "f", ""), 200, 5),
        ] {
            let begin = Instant::now();
            wire.send(&request).await;
            notices(&mut wire, 2, what).await;
            assert!(begin.elapsed() >= NOTICE * 2, "{listener} {what}: too early");
            gate.add_permits(1);
            let (reply, more) = last(&mut wire).await;
            assert_eq!(reply.status, status, "{listener} {what}");
            assert!(more <= 1, "{listener} {what}: {more} notices after the answer was let go");
            wire.body(body).await;
            assert!(wire.is_quiet(NOTICE * 2).await, "{listener} {what}: something after the answer");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_102_of_the_node_passes_and_counts_as_a_sign_of_life() {
    let peer = Peer::start(|mut stream| async move {
        while let Some((head, _)) = read_request(&mut stream).await {
            for _ in 0..8 {
                say(&mut stream, b"HTTP/1.1 102 Processing\r\nX-Mine: 1\r\n\r\n").await;
                crate::support::peer::pause(NOTICE / 2).await;
            }
            say(&mut stream, answer(&head)).await;
        }
    })
    .await;
    let sandbox = plan(KEYS, "").peer(peer.address).start().await;
    let (host, mut wire) = connect(&sandbox, "plain").await;
    let id = uuid();
    for request in [opening(host, &id, "put"), put(host, &id, "a", b"x")] {
        wire.send(&request).await;
        for _ in 0..8 {
            let reply = wire.head().await;
            assert_eq!((reply.status, reply.field("x-mine")), (102, Some("1")), "{reply:?}");
        }
        assert!(wire.head().await.status >= 200, "no notice of the gateway's own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_where_it_is_off_and_a_stall_is_a_504_all_the_same() {
    for listener in ["plain", "tls"] {
        let gate = Arc::new(Semaphore::new(1));
        let peer = slow(&gate).await;
        let keys = "persistent_connection: force, slow_node_notice: off";
        let sandbox = plan(keys, "timeouts: {body_idle: 1100ms}").peer(peer.address).start().await;
        let (host, mut wire) = connect(&sandbox, listener).await;
        let id = uuid();
        assert_eq!(wire.ask(&opening(host, &id, "get")).await.status, 200);
        let reply = wire.ask(&get(host, &id, "f", "")).await;
        assert_eq!((reply.status, reply.word()), (504, "stalled"), "{listener}: the first head is the last");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_body_idle_there_are_no_more_notices_but_a_504_on_a_connection_in_step() {
    for listener in ["plain", "tls"] {
        let gate = Arc::new(Semaphore::new(0));
        let peer = slow(&gate).await;
        let sandbox = plan(KEYS, "timeouts: {body_idle: 1100ms}").peer(peer.address).start().await;
        let (host, mut wire) = connect(&sandbox, listener).await;
        let refused = uuid();
        let begin = Instant::now();
        wire.send(&opening(host, &refused, "put")).await;
        let (reply, n) = last(&mut wire).await;
        assert_eq!((reply.status, reply.word(), n), (504, "stalled", 3), "{listener}");
        assert_eq!(reply.field("x-real-mgmt-error"), Some("40"));
        let taken = begin.elapsed();
        assert!(taken >= Duration::from_millis(1100) && taken < Duration::from_millis(1375) + SLACK, "{taken:?}");
        assert_eq!(wire.ask(&end(host, &refused, "ERROR")).await.status, 200);
        for (operation, body) in [("put", 300_000), ("get", 0)] {
            // A node of its own, for the one above still waits to be let.
            let gate = Arc::new(Semaphore::new(1));
            let peer = slow(&gate).await;
            let sandbox = plan(KEYS, "timeouts: {body_idle: 1100ms}").peer(peer.address).start().await;
            let (host, mut wire) = connect(&sandbox, listener).await;
            let id = uuid();
            assert_eq!(wire.ask(&opening(host, &id, operation)).await.status, 200);
            let request = if body > 0 { put(host, &id, "a", &noise(body, 1)) } else { get(host, &id, "f", "") };
            wire.send(&request).await;
            let (reply, n) = last(&mut wire).await;
            assert_eq!((reply.status, reply.word()), (504, "stalled"), "{listener} {operation}");
            assert!((2..=3).contains(&n), "{listener} {operation}: {n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_begun_is_not_interrupted() {
    let gate = Arc::new(Semaphore::new(0));
    let let_go = gate.clone();
    let peer = Peer::start(move |mut stream| {
        let gate = let_go.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                if !head.starts_with(b"GET") {
                    say(&mut stream, answer(&head)).await;
                    continue;
                }
                for piece in ["HTTP/1.1 200 OK\r\nCont", "ent-Length: 10\r\n\r\n", "hello", "world"] {
                    say(&mut stream, piece.as_bytes()).await;
                    gate.acquire().await.unwrap().forget();
                }
            }
        }
    })
    .await;
    let sandbox = plan(KEYS, "").peer(peer.address).start().await;
    for listener in ["plain", "tls"] {
        let (host, mut wire) = connect(&sandbox, listener).await;
        let id = uuid();
        assert_eq!(wire.ask(&opening(host, &id, "get")).await.status, 200);
        wire.send(&get(host, &id, "f", "")).await;
        // Half a head is no answer yet.
        notices(&mut wire, 2, listener).await;
        gate.add_permits(1);
        let (reply, _) = last(&mut wire).await;
        assert_eq!((reply.status, reply.field("content-length")), (200, Some("10")), "{listener}");
        assert!(wire.is_quiet(NOTICE * 3).await, "{listener}: after the head");
        gate.add_permits(1);
        assert_eq!(wire.body(5).await, b"hello", "{listener}");
        assert!(wire.is_quiet(NOTICE * 3).await, "{listener}: in the body");
        gate.add_permits(2);
        assert_eq!(wire.body(5).await, b"world", "{listener}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pauses_in_its_body_finds_its_answer_behind_the_notices() {
    let sandbox = plan(KEYS, "").node(fallgate::node::NodeOptions::default()).start().await;
    for listener in ["plain", "tls"] {
        let (host, mut wire) = connect(&sandbox, listener).await;
        let id = uuid();
        assert_eq!(wire.ask(&opening(host, &id, "put")).await.status, 200);
        let body = noise(200_000, 3);
        let request = put(host, &id, listener, &body);
        wire.send(&request[..100_000]).await;
        notices(&mut wire, 2, listener).await;
        wire.send(&request[100_000..]).await;
        let (reply, _) = last(&mut wire).await;
        assert_eq!(reply.status, 201, "{listener}");
        assert!(std::fs::read(sandbox.dir.path().join("n1/up").join(listener)).unwrap() == body);
        assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    }
}

/// A port whose queue is full: connects to it stay in the making for as long as this is held.
async fn full_queue() -> (SocketAddr, socket2::Socket, Vec<tokio::net::TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    let connect = || tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address));
    while let Ok(Ok(stream)) = connect().await {
        fill.push(stream);
    }
    (address, socket, fill)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_connect_is_bridged_and_so_is_the_way_to_another_node() {
    let (deaf, _socket, _fill) = full_queue().await;
    for listener in ["plain", "tls"] {
        let alone = plan(KEYS, "timeouts: {connect: 2s}").peer(deaf).start().await;
        let (host, mut wire) = connect(&alone, listener).await;
        wire.send(&opening(host, &uuid(), "put")).await;
        notices(&mut wire, 3, "connect").await;
        let (reply, _) = last(&mut wire).await;
        assert_eq!((reply.status, reply.word()), (502, "node_unreachable"), "{listener}");

        // The first node is never reached; the second one is, and takes its time.
        let gate = Arc::new(Semaphore::new(0));
        let peer = slow(&gate).await;
        let both = plan(KEYS, "timeouts: {connect: 2s}").peer(deaf).peer(peer.address).start().await;
        let (host, mut wire) = connect(&both, listener).await;
        let id = uuid();
        wire.send(&opening(host, &id, "put")).await;
        notices(&mut wire, 8, "failover").await;
        gate.add_permits(2);
        assert_eq!(last(&mut wire).await.0.status, 200, "{listener}");
        let reply = wire.ask(&put(host, &id, "a", b"x")).await;
        assert_eq!(reply.status, 201, "{listener}: on the second node, at once");
        assert_eq!(both.metrics().await.sum("node_picks_total", &[("how", "failover")]), 1.0, "{listener}");
    }
}
