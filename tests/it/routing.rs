//! One session, one node: choosing it, keeping it, and what happens when it is not there.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fallgate::node::NodeOptions;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, eventually, noise,
    peer::{DeadPort, Peer, keep, read_request, say},
    uuid,
    wire::{Reply, end, put, start, start_body},
};

async fn begin(host: SocketAddr) -> (String, Reply) {
    let id = uuid();
    let reply = Wire::plain(host).await.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    (id, reply)
}

/// Nodes by session; panics when a session was on two.
fn homes(sandbox: &Sandbox) -> HashMap<String, usize> {
    let mut homes = HashMap::new();
    for node in 1..=sandbox.nodes.len() {
        for seen in sandbox.seen(node) {
            let home = *homes.entry(seen.session.clone()).or_insert(node);
            assert_eq!(home, node, "a session on two nodes");
        }
    }
    homes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_on_its_node_over_hundreds_of_connections_with_every_balance() {
    for balance in ["least_sessions", "round_robin", "hash"] {
        let plan = (0..3).fold(Plan::new(), |p, _| p.node(NodeOptions { sink: true, ..NodeOptions::default() }));
        let sandbox = plan.upstream(&format!("balance: {balance}")).start().await;
        let host = sandbox.address("plain").await;
        let session = |n: usize| async move {
            let (id, reply) = begin(host).await;
            assert_eq!(reply.status, 200);
            for i in 0..25 {
                let reply = Wire::plain(host).await.ask(&put(host, &id, &format!("f{i}"), b"x")).await;
                assert_eq!(reply.status, 201, "{n}");
            }
            assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
        };
        let all: Vec<_> = (0..12).map(|n| tokio::spawn(session(n))).collect();
        for one in all {
            one.await.unwrap();
        }
        let homes = homes(&sandbox);
        assert_eq!(homes.len(), 12, "{balance}");
        assert_eq!(sandbox.all_seen().len(), 12 * 27, "{balance}");
        if balance == "round_robin" {
            let on = |node| homes.values().filter(|n| **n == node).count();
            assert_eq!((on(1), on(2), on(3)), (4, 4, 4));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_gets_no_session_and_its_place_is_free_after_the_end() {
    let sandbox = Plan::new().node(NodeOptions::default()).top("limits: {when_full: refuse}").start().await;
    let full = sandbox.config(|y| y.replace("ports:", "max_sessions: 2, ports:"));
    sandbox.gateway.reload(full).await.unwrap();
    let host = sandbox.address("plain").await;
    let (first, second, third) = (begin(host).await, begin(host).await, begin(host).await);
    assert_eq!((first.1.status, second.1.status), (200, 200));
    assert_eq!((third.1.status, third.1.word()), (503, "no_node"));
    assert_eq!(third.1.field("x-real-mgmt-error"), Some("39"));
    assert_eq!(Wire::plain(host).await.ask(&end(host, &third.0, "ERROR")).await.status, 200);
    assert_eq!(begin(host).await.1.status, 503, "the end of a refused session frees nothing");
    assert_eq!(Wire::plain(host).await.ask(&end(host, &first.0, "DONE")).await.status, 200);
    // The place is free a moment after the end was answered.
    let begun = std::time::Instant::now();
    while begin(host).await.1.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the place is never free");
    }
    assert_eq!(sandbox.metrics().await.sum("node_sessions", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_at_the_start_costs_the_client_nothing() {
    let dead = DeadPort::new();
    // The checks never come round, so only the starts themselves find out.
    let plan = Plan::new().node(NodeOptions::default()).peer(dead.address);
    let sandbox = plan.upstream("balance: round_robin, health_check: {interval: 1h}").start().await;
    for _ in 0..6 {
        let client = sandbox.client("plain").await;
        let file = sandbox.dir.path().join("big");
        std::fs::write(&file, noise(100_000, 1)).unwrap();
        let report = client.upload(&[file], "/").await.unwrap();
        assert!(report.is_ok(), "{report:?}");
    }
    assert_eq!(homes(&sandbox).len(), 6);
    let records = sandbox.records(6).await;
    assert!(records.iter().all(|r| r["node"] == "n1" && r["outcome"] == "done"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_nodes_dead_a_start_is_refused_in_words_that_the_client_understands() {
    let (one, two) = (DeadPort::new(), DeadPort::new());
    for (when, status) in [("refuse", 503), ("try_all", 502)] {
        let plan = Plan::new().peer(one.address).peer(two.address).top("limits: {when_full: refuse}");
        let sandbox = plan
            .upstream(&format!("when_all_down: {when}, node_grace: 0s, health_check: {{interval: 1h}}"))
            .start()
            .await;
        let host = sandbox.address("plain").await;
        eventually("nodes are checked", || {
            let up = fallgate_is_ready(&sandbox);
            up.then_some(())
        })
        .await;
        let (id, reply) = begin(host).await;
        assert_eq!(reply.status, status, "{when}: {reply:?}");
        assert_eq!(reply.field("x-real-mgmt-error"), Some("39"), "{when}");
        assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await.status, 200);
        let records = sandbox.records(1).await;
        assert_eq!((records.len(), &records[0]["outcome"]), (1, &"refused".into()));
        assert_eq!(sandbox.gateway.sessions(), 0);
    }
}

fn fallgate_is_ready(sandbox: &Sandbox) -> bool {
    let admin = sandbox.gateway.admin_address().unwrap();
    let ready = tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(crate::support::get(admin, "/readyz"))
    });
    ready.0 == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_a_session_is_a_502_after_which_the_connection_goes_on() {
    let mut sandbox = Plan::new().listener("persistent_connection: force").upstream("node_grace: 0s").start().await;
    let host = sandbox.address("plain").await;
    let id = uuid();
    let mut wire = Wire::plain(host).await;
    let reply = wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    assert_eq!((reply.status, reply.field("x-persistent-connection")), (200, Some("1")));
    let home = homes(&sandbox)[&id];
    let dead = sandbox.nodes.remove(home - 1);
    dead.close().await;
    for size in [10, 3_000_000] {
        let reply = wire.ask(&put(host, &id, "a", &noise(size, 1))).await;
        assert_eq!((reply.status, reply.word()), (502, "node_unreachable"), "{size}");
        assert_eq!(reply.field("content-length"), Some("0"));
        assert_ne!(reply.field("connection"), Some("close"));
    }
    let reply = wire.ask(&end(host, &id, "ERROR")).await;
    assert_eq!(reply.status, 502, "no other node hears of the session");
    assert_eq!(sandbox.all_seen(), [], "no other node hears of the session");
    // The same connection serves a new session, on the other node.
    let id = uuid();
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await.status, 200);
    assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connects_than_max_pending_are_in_the_making() {
    // A queue that is full: further connects stay in the making.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let deaf = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(deaf)).await
    {
        fill.push(stream);
    }
    let plan = Plan::new().peer(deaf).top("timeouts: {connect: 2s}");
    let sandbox = plan.upstream("when_all_down: try_all, health_check: {interval: 1h, timeout: 50ms}").start().await;
    let narrow = sandbox.config(|y| y.replace("ports:", "max_pending: 2, ports:"));
    sandbox.gateway.reload(narrow).await.unwrap();
    let syn_sent = || {
        let port = format!("{:04X} 02 ", deaf.port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        table.lines().filter(|l| l.contains(&port)).count()
    };
    // The first checks connect as well; those of the replaced config end with it.
    eventually("the checks are over", || (syn_sent() == 0).then_some(())).await;
    let host = sandbox.address("plain").await;
    let starts: Vec<_> = (0..8).map(|_| tokio::spawn(async move { begin(host).await.1 })).collect();
    // All eight are in, and two of them at the node's door.
    eventually("connects in the making", || (sandbox.gateway.sessions() == 8 && syn_sent() == 2).then_some(())).await;
    let most = (0..50).map(|_| syn_sent()).max().unwrap();
    assert_eq!(most, 2);
    for one in starts {
        one.abort();
    }
}

/// A node whose checks are answered with a status that can be changed, and all else with 200.
async fn moody(good: Arc<AtomicBool>) -> Peer {
    Peer::start(move |mut stream| {
        let good = good.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                let bad = head.starts_with(b"GET /health ") && !good.load(Ordering::Relaxed);
                let status = if bad { "500 No" } else { "200 OK" };
                say(&mut stream, format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
            }
        }
    })
    .await
}

async fn wait_until_up(sandbox: &Sandbox, up: f64) {
    let begin = std::time::Instant::now();
    while sandbox.metrics().await.sum("node_up", &[]) != up {
        assert!(begin.elapsed() < Duration::from_secs(10), "node_up never became {up}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const CHECK: &str =
    "health_check: {interval: 50ms, unhealthy_threshold: 3, healthy_threshold: 2, http: {path: /health}}";

#[tokio::test(flavor = "multi_thread")]
async fn checks_by_request_take_a_node_out_and_bring_it_back() {
    let good = Arc::new(AtomicBool::new(true));
    let peer = moody(good.clone()).await;
    let plan = Plan::new().peer(peer.address).upstream(CHECK).top("limits: {when_full: refuse}");
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    wait_until_up(&sandbox, 1.0).await;
    assert_eq!(begin(host).await.1.status, 200);
    good.store(false, Ordering::Relaxed);
    wait_until_up(&sandbox, 0.0).await;
    assert_eq!(begin(host).await.1.status, 503);
    good.store(true, Ordering::Relaxed);
    wait_until_up(&sandbox, 1.0).await;
    assert_eq!(begin(host).await.1.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_that_connects_does_not_hide_failing_checks() {
    let good = Arc::new(AtomicBool::new(true));
    let peer = moody(good.clone()).await;
    let sandbox = Plan::new().peer(peer.address).upstream(CHECK).start().await;
    let host = sandbox.address("plain").await;
    wait_until_up(&sandbox, 1.0).await;
    let (id, reply) = begin(host).await;
    assert_eq!(reply.status, 200);
    let traffic = tokio::spawn(async move {
        loop {
            Wire::plain(host).await.ask(&put(host, &id, "a", b"x")).await;
        }
    });
    good.store(false, Ordering::Relaxed);
    wait_until_up(&sandbox, 0.0).await;
    traffic.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_down_and_up_again_by_checks_that_only_connect() {
    let mut sandbox = Plan::new().upstream("health_check: {interval: 50ms}").start().await;
    wait_until_up(&sandbox, 2.0).await;
    let node = sandbox.nodes.remove(0);
    let address = node.address();
    node.close().await;
    wait_until_up(&sandbox, 1.0).await;
    let host = sandbox.address("plain").await;
    for _ in 0..4 {
        assert_eq!(begin(host).await.1.status, 200);
    }
    assert_eq!(homes(&sandbox).len(), 4);
    let _again = fallgate::node::Node::start(address, NodeOptions::default()).await.unwrap();
    wait_until_up(&sandbox, 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_failed_connects_mark_a_node_down_before_any_check() {
    let dead = DeadPort::new();
    let silent = Peer::start(keep).await;
    // The first check of the peer passes; then it is replaced by a port that refuses.
    let sandbox = Plan::new()
        .node(NodeOptions::default())
        .peer(silent.address)
        .upstream("balance: round_robin, health_check: {interval: 1h}")
        .start()
        .await;
    wait_until_up(&sandbox, 2.0).await;
    let moved = sandbox.config(|y| y.replace(&silent.address.port().to_string(), &dead.address.port().to_string()));
    sandbox.gateway.reload(moved).await.unwrap();
    let host = sandbox.address("plain").await;
    for _ in 0..8 {
        assert_eq!(begin(host).await.1.status, 200);
    }
    wait_until_up(&sandbox, 1.0).await;
    assert_eq!(homes(&sandbox).len(), 8);
}
