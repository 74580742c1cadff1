//! Nodes that come back, and what is done while none is there.

use std::{collections::HashMap, net::SocketAddr};

use fallgate::node::{Node, NodeOptions};

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, eventually, loopback,
    process::Process,
    uuid,
    wire::{end, put, start, start_body},
};

/// The status of a start, with its session.
async fn begin(host: SocketAddr) -> (String, u16) {
    let id = uuid();
    let reply = Wire::plain(host).await.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    (id, reply.status)
}

const CHECK: &str = "{interval: 50ms, unhealthy_threshold: 1, healthy_threshold: 1}";

/// The second of two nodes goes and comes back, with another root.
async fn comes_back(sandbox: &mut Sandbox) -> tempfile::TempDir {
    let address = sandbox.nodes[1].address();
    sandbox.nodes.remove(1).close().await;
    sandbox.until("one is down", |m| m.sum("node_up", &[]) == 1.0).await;
    let dir = tempfile::tempdir().unwrap();
    let options = NodeOptions { root: dir.path().into(), ..NodeOptions::default() };
    sandbox.nodes.push(Node::start(address, options).await.unwrap());
    sandbox.until("it is back", |m| m.sum("node_up", &[]) == 2.0).await;
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_not_flooded_and_one_that_was_always_there_gets_its_share_from_the_start() {
    for balance in ["least_sessions", "round_robin", "hash"] {
        let mut sandbox = Plan::new()
            .upstream(&format!("balance: {balance}, slow_start: 1h, health_check: {CHECK}"))
            .top("limits: {session_starts_per_client: off, requests_per_client: off, max_sessions_per_client: off}")
            .start()
            .await;
        let host = sandbox.address("plain").await;
        sandbox.until("both are up", |m| m.sum("node_up", &[]) == 2.0).await;
        let on = async |node: usize, sandbox: &crate::support::Sandbox| {
            let before = sandbox.seen(node).len();
            for _ in 0..60 {
                assert_eq!(begin(host).await.1, 200);
            }
            sandbox.seen(node).len() - before
        };
        let first = on(2, &sandbox).await;
        assert!((15..=45).contains(&first), "{balance}: {first} of 60 at the start");
        let _dir = comes_back(&mut sandbox).await;
        let few = on(2, &sandbox).await;
        assert!(few <= 18, "{balance}: {few} of 60 after it came back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_where_requests_of_its_session_are_routed_although_a_node_has_just_come_back() {
    let mut sandbox = Plan::new()
        .listener("admission: {unknown_session: route}")
        .upstream(&format!("balance: hash, slow_start: 1h, health_check: {CHECK}"))
        .top("limits: {session_starts_per_client: off, requests_per_client: off, max_sessions_per_client: off}")
        .start()
        .await;
    let host = sandbox.address("plain").await;
    sandbox.until("both are up", |m| m.sum("node_up", &[]) == 2.0).await;
    let _dir = comes_back(&mut sandbox).await;
    for _ in 0..40 {
        let (id, status) = begin(host).await;
        assert_eq!(status, 200);
        // Here it is over; for another gateway it was never known.
        assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
        Wire::plain(host).await.ask(&put(host, &id, "late", b"x")).await;
        let seen = |node: usize| sandbox.seen(node).iter().filter(|seen| seen.session == id).count();
        let mut seen = [seen(1), seen(2)];
        seen.sort_unstable();
        assert_eq!(seen, [0, 3]);
    }
    assert!(sandbox.seen(2).len() >= 3 * 5, "{}", sandbox.seen(2).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn that_all_nodes_are_tried_although_they_are_down_is_said_once_each_time_and_counted_for_each_session() {
    let dir = tempfile::tempdir().unwrap();
    let options = || NodeOptions { root: dir.path().into(), ..NodeOptions::default() };
    let node = Node::start(loopback(0), options()).await.unwrap();
    let address = node.address();
    node.close().await;
    let text = format!(
        "version: 1\nlisteners: [{{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}]\nupstreams: [{{name: u, when_all_down: try_all, node_grace: 0s, health_check: {{interval: 50ms, unhealthy_threshold: 1, healthy_threshold: 1}}, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {}}}}}]}}]\nlimits: {{when_full: refuse}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n",
        address.port()
    );
    let process = Process::start(&text).await;
    let host = process.address("plain").await;
    let told = |what: &str| process.log().matches(what).count();
    const DOWN: &str = "All nodes are down; they are tried all the same.";
    const OVER: &str = "Not all nodes are down any more.";
    let mut tried = HashMap::new();
    for time in 1..=2 {
        process.until("node_up", &[], 0.0).await;
        eventually("the check has failed", || (told("Node is down.") >= time).then_some(())).await;
        for _ in 0..5 {
            let (id, status) = begin(host).await;
            assert_eq!(status, 502);
            tried.insert(id, time);
        }
        assert_eq!((told(DOWN), told(OVER)), (time, time - 1), "{}", process.log());
        process.until("node_picks_total", &[("how", "try_all")], tried.len() as f64).await;
        let node = Node::start(address, options()).await.unwrap();
        process.until("node_up", &[], 1.0).await;
        for _ in 0..3 {
            assert_eq!(begin(host).await.1, 200);
        }
        assert_eq!((told(DOWN), told(OVER)), (time, time), "{}", process.log());
        node.close().await;
    }
}
