//! A node that is away for a moment: what it has read nothing of waits for it, and what it may have read is not sent again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use fallgate::node::NodeOptions;
use tokio::task::JoinSet;

use crate::{
    admin::Operator,
    support::{
        Plan, Sandbox, TOKEN, Wire, away, back, noise,
        peer::{DeadPort, Peer, read_head, read_request, say},
        uuid,
        wire::{Reply, end, get, put, start, start_body},
    },
};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);
const KEYS: &str = "persistent_connection: force, slow_node_notice: 300ms";
const LISTENERS: [&str; 2] = ["tls", "plain"];

/// One node, which no check marks up or down.
fn plan(grace: &str) -> Plan {
    let upstream = format!("balance: round_robin, node_grace: {grace}, health_check: {{interval: 1h}}");
    Plan::new().node(NodeOptions::default()).listener(KEYS).upstream(&upstream).admin("token_file: token")
}

/// The sandbox, once the first checks are over.
async fn checked(plan: Plan) -> Sandbox {
    let sandbox = plan.start().await;
    let nodes = sandbox.nodes.len() as f64;
    sandbox.until("the first checks", |m| m.sum("health_checks_total", &[]) >= nodes).await;
    for node in 1..=sandbox.nodes.len() {
        std::fs::write(sandbox.dir.path().join(format!("n{node}/f")), noise(1000, 9)).unwrap();
    }
    sandbox
}

async fn connect(sandbox: &Sandbox, listener: &str) -> (SocketAddr, Wire) {
    let host = sandbox.address(listener).await;
    let wire = if listener == "tls" { Wire::tls(host, crate::support::tls()).await } else { Wire::plain(host).await };
    (host, wire)
}

fn opening(host: SocketAddr, id: &str, operation: &str) -> Vec<u8> {
    start(host, id, &start_body(id, operation, TOKEN.as_bytes(), &["f"]))
}

/// A session, on its connection.
async fn begin(sandbox: &Sandbox, listener: &str, operation: &str) -> (SocketAddr, Wire, String) {
    let ((host, mut wire), id) = (connect(sandbox, listener).await, uuid());
    assert_eq!(wire.ask(&opening(host, &id, operation)).await.status, 200);
    (host, wire, id)
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

async fn waits(sandbox: &Sandbox, result: &str) -> f64 {
    sandbox.metrics().await.sum("node_waits_total", &[("result", result)])
}

/// How often a node has seen this operation of a session.
fn seen(sandbox: &Sandbox, id: &str, operation: &str) -> usize {
    sandbox.all_seen().iter().filter(|s| s.session == id && s.operation == operation).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_each_kind_waits_for_its_node_and_is_sent_once() {
    for node_keeps in [false, true] {
        let options = NodeOptions { persistent: node_keeps.then(|| "1".to_owned()), ..NodeOptions::default() };
        let upstream = "node_grace: 15s, health_check: {interval: 1h}";
        let mut sandbox = checked(Plan::new().node(options).listener(KEYS).upstream(upstream)).await;
        let mut waited = 0.0;
        for listener in LISTENERS {
            let (host, mut wire) = connect(&sandbox, listener).await;
            let (up, down) = (uuid(), uuid());
            for (what, request, status, body) in [
                ("start", opening(host, &up, "put"), 200, 0),
                ("put", put(host, &up, "a", &noise(1000, 1)), 201, 0),
                ("the largest small put", put(host, &up, "b", &noise(64 * 1024, 2)), 201, 0),
                ("empty put", put(host, &up, "c", b""), 201, 0),
                ("end", end(host, &up, "DONE"), 200, 0),
                ("start of a download", opening(host, &down, "get"), 200, 0),
                ("get", get(host, &down, "f", ""), 200, 1000),
            ] {
                away(&mut sandbox, 1).await;
                wire.send(&request).await;
                for i in 0..2 {
                    let begin = Instant::now();
                    assert_eq!(wire.head().await.status, 102, "{listener} {what} {i}");
                    assert!(begin.elapsed() < Duration::from_millis(300) + SLACK, "{listener} {what} {i}");
                }
                back(&mut sandbox, 1);
                let (reply, _) = last(&mut wire).await;
                assert_eq!(reply.status, status, "{listener} {what}: {reply:?}");
                wire.body(body).await;
                waited += 1.0;
                assert_eq!(waits(&sandbox, "returned").await, waited, "{listener} {what}");
            }
            for (name, size, seed) in [("a", 1000, 1), ("b", 64 * 1024, 2), ("c", 0, 0)] {
                let stored = std::fs::read(sandbox.dir.path().join("n1/up").join(name)).unwrap();
                assert!(stored == noise(size, seed), "{listener} {name}");
            }
            assert_eq!([seen(&sandbox, &up, "file"), seen(&sandbox, &down, "file")], [3, 1]);
            assert_eq!(seen(&sandbox, &up, "session_start") + seen(&sandbox, &up, "session_end"), 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_node_grace_the_end_is_clear_and_the_connection_goes_on() {
    let mut sandbox = checked(plan("1s").top("limits: {when_full: refuse}")).await;
    for listener in LISTENERS {
        let (host, mut wire, id) = begin(&sandbox, listener, "put").await;
        away(&mut sandbox, 1).await;
        let other = uuid();
        for (what, request, held) in [
            ("put", put(host, &id, "a", &noise(1000, 1)), 1),
            // The session has waited as long as it may.
            ("a large put", put(host, &id, "b", &noise(3_000_000, 1)), 0),
            ("end", end(host, &id, "ERROR"), 0),
        ] {
            let held = Duration::from_secs(held);
            let begin = Instant::now();
            wire.send(&request).await;
            let (reply, _) = last(&mut wire).await;
            assert_eq!((reply.status, reply.word()), (502, "node_unreachable"), "{listener} {what}");
            let taken = begin.elapsed();
            assert!(taken >= held && taken < held + SLACK, "{listener} {what}: {taken:?}");
        }
        let (_, mut fresh) = connect(&sandbox, listener).await;
        fresh.send(&opening(host, &other, "put")).await;
        let (reply, notices) = last(&mut fresh).await;
        assert!(notices > 0 || reply.word() == "no_node", "{reply:?}");
        assert_eq!(reply.field("x-real-mgmt-error"), Some("39"));
        assert_eq!(fresh.ask(&end(host, &other, "ERROR")).await.status, 200);
        back(&mut sandbox, 1);
        sandbox.gateway.reload(sandbox.config(|y| y.replace("interval: 1h", "interval: 50ms"))).await.unwrap();
        sandbox.until("the node is up", |m| m.sum("node_up", &[]) == 1.0).await;
    }
    assert!(waits(&sandbox, "gave_up").await >= 2.0);
    assert!(crate::support::sweep::logged().contains("n1: Connection refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_0s_nothing_is_held() {
    let mut sandbox = checked(plan("0s")).await;
    let (host, mut wire, id) = begin(&sandbox, "plain", "put").await;
    away(&mut sandbox, 1).await;
    let reply = wire.ask(&put(host, &id, "a", b"x")).await;
    assert_eq!((reply.status, reply.word()), (502, "node_unreachable"), "without a notice");
    assert_eq!(sandbox.metrics().await.sum("node_waits_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_to_wait_is_released_within_ten_seconds() {
    let mut sandbox = checked(plan("1h")).await;
    let quiet = sandbox.config(|y| y.replacen("slow_node_notice: 300ms", "slow_node_notice: off", 1));
    sandbox.gateway.reload(quiet).await.unwrap();
    // A large body, and a listener on which nobody is told to wait.
    let mut held = Vec::new();
    for (listener, size) in [("plain", 64 * 1024 + 1), ("plain", 30_000_000), ("tls", 10)] {
        let (host, wire, id) = begin(&sandbox, listener, "put").await;
        held.push((wire, put(host, &id, "a", &noise(size, 1)), size));
    }
    away(&mut sandbox, 1).await;
    let mut all = JoinSet::new();
    for (mut wire, request, size) in held {
        all.spawn(async move {
            let begin = Instant::now();
            wire.send(&request).await;
            let (reply, _) = last(&mut wire).await;
            assert_eq!((reply.status, reply.word()), (502, "node_unreachable"), "{size}");
            let taken = begin.elapsed();
            assert!(taken > Duration::from_secs(8) && taken < Duration::from_secs(10) + SLACK, "{size}: {taken:?}");
        });
    }
    all.join_all().await;
    assert_eq!(waits(&sandbox, "gave_up").await, 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_taken_in_as_far_as_the_memory_for_them_goes() {
    const FIT: usize = 1024;
    let top = "limits: {max_connections_per_client: off, max_sessions_per_client: off, session_starts_per_client: off}";
    let mut sandbox = checked(plan("1h").top(top)).await;
    let mut held = Vec::new();
    for n in 0..FIT + 20 {
        let (host, wire, id) = begin(&sandbox, "plain", "put").await;
        held.push((wire, put(host, &id, &format!("f{n}"), &noise(64 * 1024, 1))));
    }
    away(&mut sandbox, 1).await;
    let mut all = JoinSet::new();
    for (mut wire, request) in held {
        all.spawn(async move {
            wire.send(&request).await;
            last(&mut wire).await.0.status
        });
    }
    sandbox.until("those for whom there is no room", |m| m.sum("node_waits_total", &[]) == 20.0).await;
    // Starts have memory of their own, and may wait.
    let (host, mut late) = connect(&sandbox, "plain").await;
    assert_eq!(late.ask(&opening(host, &uuid(), "put")).await.status, 102);
    back(&mut sandbox, 1);
    let answers = all.join_all().await;
    assert_eq!([201, 502].map(|status| answers.iter().filter(|answer| **answer == status).count()), [FIT, 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_of_which_the_node_has_read_a_byte_is_never_sent_again() {
    for node_keeps in [false, true] {
        for fault in ["put=fin@1", "put=rst@1", "put=fin@0"] {
            let persistent = node_keeps.then(|| "1".to_owned());
            let faults = vec![fault.parse().unwrap()];
            let plan = Plan::new().node(NodeOptions { persistent, faults, ..NodeOptions::default() });
            let sandbox = checked(plan.listener(KEYS).upstream("health_check: {interval: 1h}")).await;
            let (host, mut wire, id) = begin(&sandbox, "plain", "put").await;
            wire.send(&put(host, &id, "a", &noise(1000, 1))).await;
            let (reply, _) = last(&mut wire).await;
            assert_eq!((reply.status, reply.word()), (502, "node_lost"), "{node_keeps} {fault}");
            assert_eq!(seen(&sandbox, &id, "file"), 1, "{node_keeps} {fault}");
            assert_eq!(sandbox.metrics().await.sum("node_waits_total", &[]), 0.0);
        }
    }
}

/// A node that closes, in place of an answer, behind `says` for as many file requests as `times`, and each session's end;
/// with how many requests of files it has seen.
async fn closing(times: usize, says: &'static [u8]) -> (Peer, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let peer = Peer::start(move |mut stream| {
        let count = counted.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                let is_start = String::from_utf8_lossy(&head).contains("/session_start/");
                if is_start {
                    say(&mut stream, b"HTTP/1.1 200 OK\r\nx-persistent-connection: 1\r\nContent-Length: 0\r\n\r\n")
                        .await;
                } else if count.fetch_add(1, SeqCst) < times {
                    say(&mut stream, says).await;
                    return;
                } else {
                    say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
                }
            }
        }
    })
    .await;
    (peer, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_meets_a_closed_connection_is_sent_once_more_and_nothing_else_is() {
    for (what, times, says, status, sent) in [
        ("get", 1, &b""[..], 200, 2),
        ("get", 2, b"", 502, 2),
        ("get", 1, b"H", 502, 1),
        ("get", 1, b"HTTP/1.1 102 Processing\r\n\r\n", 502, 1),
        ("put", 1, b"", 502, 1),
        ("end", 1, b"", 502, 1),
    ] {
        let (peer, count) = closing(times, says).await;
        let plan = Plan::new().peer(peer.address).listener(KEYS).upstream("health_check: {interval: 1h}");
        let sandbox = plan.start().await;
        let (host, mut wire, id) = begin(&sandbox, "plain", if what == "put" { "put" } else { "get" }).await;
        wire.send(&match what {
            "get" => get(host, &id, "f", ""),
            "put" => put(host, &id, "f", b"x"),
            _ => end(host, &id, "DONE"),
        })
        .await;
        let (reply, _) = last(&mut wire).await;
        assert_eq!(reply.status, status, "{what} {times} {says:?}");
        assert_eq!(reply.word(), if status == 502 { "node_lost" } else { "" }, "{what} {times}");
        assert_eq!(count.load(SeqCst), sent, "{what} {times} {says:?}");
        if status == 200 {
            assert_eq!(wire.body(5).await, b"hello");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_on_a_fresh_connection_is_sent_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let peer = Peer::start(move |mut stream| {
        let count = counted.clone();
        async move {
            let (head, _) = read_head(&mut stream).await;
            if head.starts_with(b"GET") {
                count.fetch_add(1, SeqCst);
            } else if !head.is_empty() {
                say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let sandbox = Plan::new().peer(peer.address).listener(KEYS).upstream("health_check: {interval: 1h}").start().await;
    let (host, mut wire, id) = begin(&sandbox, "plain", "get").await;
    let reply = wire.ask(&get(host, &id, "f", "")).await;
    assert_eq!((reply.status, reply.word(), count.load(SeqCst)), (502, "node_lost", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_shown_and_ends_with_its_client_and_with_its_session() {
    let mut sandbox = checked(plan("1h")).await;
    let operator = Operator::of(&sandbox);
    for listener in LISTENERS {
        for (operation, is_cancelled) in [("put", false), ("get", false), ("put", true), ("get", true)] {
            let left = waits(&sandbox, "left").await;
            let (host, mut wire, id) = begin(&sandbox, listener, operation).await;
            away(&mut sandbox, 1).await;
            let request = if operation == "put" { put(host, &id, "a", b"body") } else { get(host, &id, "f", "") };
            wire.send(&request).await;
            let shown = operator.until("", |session| session["state"] == "held").await;
            let begin = Instant::now();
            if is_cancelled {
                let path = format!("/api/v1/sessions/{}/cancel", shown["id"].as_str().unwrap());
                assert_eq!(operator.post(&path, "").await.status, 200);
                let (reply, _) = last(&mut wire).await;
                assert_eq!((reply.status, reply.word()), (403, "cancelled"), "{listener} {operation}");
            }
            drop(wire);
            let is_over = |m: &crate::support::Metrics| {
                m.sum("node_waits_total", &[("result", "left")]) == left + 1.0 && m.sum("node_sessions", &[]) == 0.0
            };
            sandbox.until("the hold is over", is_over).await;
            assert!(begin.elapsed() < SLACK * 2, "{listener} {operation}: {:?}", begin.elapsed());
            back(&mut sandbox, 1);
            assert_eq!(seen(&sandbox, &id, "file"), 0, "{listener} {operation}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_marked_down_or_drains_gets_the_requests_of_its_sessions() {
    let mut sandbox = checked(plan("15s")).await;
    let [one, two, three] = [(); 3].map(|()| begin(&sandbox, "plain", "put"));
    let mut held = [one.await, two.await, three.await];
    away(&mut sandbox, 1).await;
    // One hold is one failure, however often the node is tried; two are what marks it down.
    let (host, wire, id) = &mut held[0];
    wire.send(&put(*host, id, "a", b"x")).await;
    for _ in 0..3 {
        assert_eq!(wire.head().await.status, 102);
    }
    assert_eq!(sandbox.metrics().await.sum("node_up", &[]), 1.0);
    for (name, (host, wire, id)) in ["b", "c"].into_iter().zip(&mut held[1..]) {
        wire.send(&put(*host, id, name, b"x")).await;
    }
    sandbox.until("the node is down", |m| m.sum("node_up", &[]) == 0.0).await;
    assert_eq!(Operator::of(&sandbox).post("/api/v1/nodes/n1/drain", "").await.status, 200);
    back(&mut sandbox, 1);
    for (_, wire, _) in &mut held {
        assert_eq!(last(wire).await.0.status, 201);
    }
    assert_eq!(sandbox.metrics().await.sum("node_up", &[]), 0.0, "checks alone bring it up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_to_another_node_at_once_and_waits_only_when_there_is_none() {
    let dead = DeadPort::new();
    let sandbox = checked(plan("15s").peer(dead.address)).await;
    for _ in 0..4 {
        let (host, mut wire) = connect(&sandbox, "plain").await;
        assert_eq!(wire.ask(&opening(host, &uuid(), "put")).await.status, 200, "without a notice");
    }
    assert_eq!(sandbox.metrics().await.sum("node_waits_total", &[]), 0.0);

    for node in [1, 2] {
        let mut sandbox = checked(plan("15s").node(NodeOptions::default())).await;
        away(&mut sandbox, 1).await;
        away(&mut sandbox, 2).await;
        let ((host, mut wire), id) = (connect(&sandbox, "plain").await, uuid());
        assert_eq!(wire.ask(&opening(host, &id, "put")).await.status, 102);
        back(&mut sandbox, node);
        assert_eq!(last(&mut wire).await.0.status, 200);
        assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201);
        assert!(sandbox.seen(node).iter().any(|s| s.session == id));
    }
}
