//! What the gateway itself adds to a request is counted, and nothing of what others take.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fallgate::node::{Node, NodeOptions};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{io::copy_bidirectional, net::TcpStream};
use tokio_rustls::TlsAcceptor;

use super::stage::Stage;
use crate::support::{
    Metrics, Plan, Sandbox, TOKEN, Wire, certificate, loopback,
    peer::{Peer, pause},
    uuid,
    wire::{end, put, start, start_body},
};

/// How long the slow ones take.
const SLOW: Duration = Duration::from_millis(400);

/// The seconds added to all requests of the listener, once so many were counted: a head may reach its client a moment
/// before it is counted.
async fn added(sandbox: &Sandbox, listener: &str, requests: u32) -> f64 {
    let (labels, requests) = ([("listener", listener)], f64::from(requests));
    let count = |m: &Metrics| m.sum("added_latency_seconds_count", &labels);
    sandbox.until("they are counted", |m| count(m) >= requests).await;
    let metrics = sandbox.metrics().await;
    assert_eq!(count(&metrics), requests, "{listener}");
    metrics.sum("added_latency_seconds_sum", &labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_that_was_carried_is_counted_once_over_both_listeners() {
    let plan = Plan::new().node(NodeOptions { persistent: Some("1".into()), ..NodeOptions::default() });
    let sandbox = plan.start().await;
    for listener in ["tls", "plain"] {
        let mut session = sandbox.client(listener).await.session();
        assert_eq!(session.start_put(&["a", "b"]).await.unwrap().status, 200);
        assert_eq!(session.put(b"a", &[7; 300_000], Some(b"b")).await.unwrap().status, 201);
        assert_eq!(session.put(b"b", b"", None).await.unwrap().status, 201);
        assert_eq!(session.end("DONE", 0).await.unwrap().status, 200);
        let sum = added(&sandbox, listener, 4).await;
        // It is a thousandth of that, but for what this host's processors are busy with beside it.
        assert!(sum > 0.0 && sum < 4.0 * 0.1, "{listener}: {sum} s");
    }
}

/// A session whose client takes its time before each head, within it and within its body.
async fn slow_client(sandbox: &Sandbox) {
    let (host, id) = (sandbox.address("plain").await, uuid());
    let mut wire = Wire::plain(host).await;
    let requests = [
        (start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &["b"])), 200),
        (put(host, &id, "b", &[7; 1000]), 201),
        (end(host, &id, "DONE"), 200),
    ];
    for (request, status) in requests {
        for part in request.chunks(request.len() / 3 + 1) {
            pause(SLOW).await;
            wire.send(part).await;
        }
        loop {
            match wire.head().await.status {
                102 => {}
                answered => break assert_eq!(answered, status),
            }
        }
        wire = Wire::plain(host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_and_a_slow_client_do_not_show() {
    let faults = ["start=delay:0.4", "put=delay:0.4", "get=102:0.4", "end=delay:0.4"].map(|f| f.parse().unwrap());
    let node = NodeOptions { faults: faults.to_vec(), ..NodeOptions::default() };
    let sandbox = Plan::new().node(node).top("bandwidth: {per_session: {upload: 2Mbit/s}}").start().await;
    std::fs::write(sandbox.dir.path().join("n1/f"), [1; 1000]).unwrap();
    let mut session = sandbox.client("plain").await.session();
    assert_eq!(session.start_put(&["a"]).await.unwrap().status, 200);
    // Of which the first burst passes, and the rest waits for the cap.
    assert_eq!(session.put(b"a", &[7; 300_000], None).await.unwrap().status, 201);
    assert_eq!(session.end("DONE", 0).await.unwrap().status, 200);
    let mut session = sandbox.client("plain").await.session();
    assert_eq!(session.start_get(&["f"]).await.unwrap().status, 200);
    assert_eq!(session.get(b"f", 0).await.unwrap().0.status, 200);
    assert_eq!(session.end("DONE", 0).await.unwrap().status, 200);
    slow_client(&sandbox).await;
    let sum = added(&sandbox, "plain", 9).await;
    assert!(sum > 0.0 && sum < 0.4, "{sum} s, and each request took as long at its node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_room_does_not_show_and_a_refusal_is_not_counted() {
    let stage = Stage::start().await;
    let (mut first, begin) = (stage.session("ann").await, Instant::now());
    assert_eq!(first.answer().await, 200);
    let mut second = stage.session("ann").await;
    stage.sandbox.until("one waits", |m| m.sum("waiting", &[]) == 1.0).await;
    let mut requests = 1;
    while begin.elapsed() < SLOW {
        assert_eq!(first.get("g").await, 200);
        requests += 1;
    }
    let before = added(&stage.sandbox, "plain", requests).await;
    assert_eq!((first.end().await, second.answer().await), (200, 200));
    stage.refusals().await;
    // An end and a start.
    let after = added(&stage.sandbox, "plain", requests + 2).await;
    assert!(after - before < 0.3, "{before} {after}");
    assert_eq!(second.end().await, 200);
}

/// What a node speaks TLS with.
fn acceptor(dir: &std::path::Path) -> TlsAcceptor {
    certificate(dir, "node", &rcgen::PKCS_ECDSA_P256_SHA256);
    let chain = vec![CertificateDer::from_pem_file(dir.join("node.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(dir.join("node.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handshake_with_a_node_and_a_wait_for_the_place_to_connect_do_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let (root, tls) = (dir.path().to_owned(), Some(acceptor(dir.path())));
    let node = Node::start(loopback(0), NodeOptions { root, tls, ..NodeOptions::default() }).await.unwrap();
    let behind = node.address();
    let slow = Peer::start(move |mut stream| async move {
        pause(SLOW).await;
        if let Ok(mut node) = TcpStream::connect(behind).await {
            let _ = copy_bidirectional(&mut stream, &mut node).await;
        }
    })
    .await;
    let sandbox = Plan::new().peer(slow.address).upstream("health_check: {interval: 1h}").start().await;
    let change = |text: String| {
        let text = text.replace("name: u, nodes", "name: u, scheme: https, tls: {verify: off}, nodes");
        text.replace("ports: {http:", "max_pending: 1, ports: {https:")
    };
    sandbox.gateway.reload(sandbox.config(change)).await.unwrap();
    let begin = Instant::now();
    let start = async || {
        let mut session = sandbox.client("plain").await.session();
        assert_eq!(session.start_put(&["a"]).await.unwrap().status, 200);
    };
    tokio::join!(start(), start());
    assert!(begin.elapsed() >= 2 * SLOW, "one after the other");
    let sum = added(&sandbox, "plain", 2).await;
    assert!(sum > 0.0 && sum < SLOW.as_secs_f64(), "{sum} s");
}
