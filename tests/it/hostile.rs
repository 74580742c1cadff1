//! Clients that mean harm, or are broken: all of them are bounded, and others are served meanwhile.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use fallgate::node::NodeOptions;

use crate::support::{
    self, Plan, Sandbox, TOKEN, Wire, eventually, noise,
    peer::pause,
    uuid,
    wire::{end, head, put, start, start_body},
};

async fn one_node(top: &str) -> (Sandbox, SocketAddr) {
    let plan = Plan::new().node(NodeOptions::default()).listener("persistent_connection: force");
    let sandbox = plan.top(top).start().await;
    let host = sandbox.address("plain").await;
    (sandbox, host)
}

async fn connect(sandbox: &Sandbox, listener: &str) -> (SocketAddr, Wire) {
    let host = sandbox.address(listener).await;
    let wire = if listener == "tls" { Wire::tls(host, crate::support::tls()).await } else { Wire::plain(host).await };
    (host, wire)
}

async fn until(sandbox: &Sandbox, family: &str, labels: &[(&str, &str)], value: f64) {
    support::until(|| sandbox.metrics(), (family, labels), value, Duration::from_secs(15)).await;
}

/// A real session goes through, on a listener that others press.
async fn works(sandbox: &Sandbox, listener: &str) {
    let (host, mut wire) = connect(sandbox, listener).await;
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(wire.ask(&put(host, &id, "a", &noise(100_000, 1))).await.status, 201);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_measure_are_a_431_that_is_heard() {
    let (sandbox, host) = one_node("").await;
    let id = uuid();
    let fields = |n: usize| (0..n).map(|i| format!("X-{i}: v\r\n")).collect::<String>();
    let mut n = 0.0;
    for listener in ["plain", "tls"] {
        for request in [
            head("GET", host, &id, "file/a", &format!("X-Long: {}\r\n", "v".repeat(1 << 20))),
            head("GET", host, &id, &format!("file/{}", "n".repeat(1 << 20)), ""),
            head("GET", host, &id, "file/a", &format!("{}: v\r\n", "N".repeat(1 << 20))),
            vec![b'G'; 1 << 20],
            head("GET", host, &id, "file/a", &fields(10_000)),
            head("GET", host, &id, "file/a", &fields(101)),
        ] {
            let (_, mut wire) = connect(&sandbox, listener).await;
            wire.try_send(&request).await;
            let reply = wire.head().await;
            let start = request[..20].escape_ascii();
            assert_eq!((reply.status, reply.word()), (431, "head_too_large"), "{listener} {start}");
            assert_eq!(wire.rest().await, b"", "{listener} {start}");
            n += 1.0;
            assert_eq!(sandbox.metrics().await.sum("refusals_total", &[("reason", "head_too_large")]), n);
        }
        works(&sandbox, listener).await;
    }
    until(&sandbox, "connections_active", &[], 0.0).await;
    assert_eq!(sandbox.all_seen().len(), 6, "only what works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_single_bytes_has_request_head_and_no_more() {
    let (sandbox, host) = one_node("timeouts: {request_head: 600ms}").await;
    for listener in ["plain", "tls"] {
        let (_, mut wire) = connect(&sandbox, listener).await;
        let request = head("GET", host, &uuid(), "file/a", "");
        let begin = Instant::now();
        for byte in &request {
            if begin.elapsed() > Duration::from_millis(700) || !wire.try_send(&[*byte]).await {
                break;
            }
            pause(Duration::from_millis(20)).await;
        }
        let reply = wire.head().await;
        assert_eq!((reply.status, reply.word()), (408, "head_timeout"), "{listener}");
        assert_eq!(wire.rest().await, b"");
        // Lingering included.
        assert!(begin.elapsed() < Duration::from_secs(3), "{listener}: {:?}", begin.elapsed());
    }
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &[("reason", "head_timeout")]), 2.0);
    until(&sandbox, "connections_active", &[], 0.0).await;
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_body_that_stops_is_let_go_after_body_idle() {
    let (sandbox, _) = one_node("timeouts: {body_idle: 400ms}").await;
    for (n, listener) in ["plain", "tls"].into_iter().enumerate() {
        let (host, mut wire) = connect(&sandbox, listener).await;
        let id = uuid();
        let request = start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]));
        let begin = Instant::now();
        wire.send(&request[..request.len() - 10]).await;
        let reply = wire.head().await;
        assert_eq!((reply.status, reply.word()), (504, "stalled"), "{listener}");
        assert_eq!(wire.rest().await, b"");
        assert!(begin.elapsed() < Duration::from_secs(4), "{listener}: {:?}", begin.elapsed());
        assert_eq!(sandbox.metrics().await.sum("refusals_total", &[("reason", "stalled")]), n as f64 + 1.0);
    }
    until(&sandbox, "connections_active", &[], 0.0).await;
    assert_eq!((sandbox.gateway.sessions(), sandbox.all_seen().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_tls_and_inside_of_it_is_refused() {
    let (sandbox, _) = one_node("timeouts: {tls_handshake: 500ms}").await;
    let host = sandbox.address("tls").await;
    let mut junk: Vec<Vec<u8>> = (0..20).map(|i| noise(50 + 1000 * i, i as u64 + 1)).collect();
    junk.extend([b"\x16\x03\x01\xff\xff".to_vec(), [&b"\x16\x03\x01\x02\0"[..], &[1; 512]].concat(), vec![0; 40_000]]);
    let n = junk.len() as f64;
    for bytes in junk {
        let begin = Instant::now();
        let mut wire = Wire::plain(host).await;
        wire.try_send(&bytes).await;
        wire.rest().await;
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    }
    let mut both = 0.0;
    eventually("all are counted", || {
        let scrape = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(sandbox.metrics()));
        both = ["tls_handshake", "tls_timeout"].iter().map(|r| scrape.sum("refusals_total", &[("reason", r)])).sum();
        (both == n).then_some(())
    })
    .await;
    let (_, mut wire) = connect(&sandbox, "tls").await;
    wire.try_send(&noise(5000, 99)).await;
    let reply = wire.head().await;
    assert_eq!(reply.word(), "bad_head", "{reply:?}");
    works(&sandbox, "tls").await;
    drop(wire);
    until(&sandbox, "connections_active", &[], 0.0).await;
}
