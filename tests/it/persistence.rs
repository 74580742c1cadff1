//! One connection or many: what the client is told, what the node sees, and what a close means.

use std::{net::SocketAddr, time::Duration};

use fallgate::node::NodeOptions;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, noise,
    peer::pause,
    uuid,
    wire::{end, get, put, start, start_body},
};

fn node(persistent: Option<&str>) -> NodeOptions {
    NodeOptions { persistent: persistent.map(str::to_owned), ..NodeOptions::default() }
}

async fn begin(wire: &mut Wire, host: SocketAddr) -> String {
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    assert_eq!(reply.status, 200);
    id
}

async fn upload(sandbox: &Sandbox, listener: &str) -> u64 {
    let source = sandbox.dir.path().join("tree");
    std::fs::create_dir_all(&source).unwrap();
    for i in 0..5 {
        std::fs::write(source.join(i.to_string()), noise(20_000, i)).unwrap();
    }
    let report = sandbox.client(listener).await.upload(&[source], "/").await.unwrap();
    assert!(report.is_ok() && report.files == 5, "{report:?}");
    report.connections
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_decides_what_the_client_is_told_and_the_node_keeps_to_its_own_word() {
    // Seven requests: start, five files, end.
    for (mode, offer, client, nodes) in [
        ("force", None, 1, 7),
        ("force", Some("0"), 1, 7),
        ("force", Some("1"), 1, 1),
        ("auto", None, 7, 7),
        ("auto", Some("yes"), 7, 7),
        ("auto", Some("0"), 7, 7),
        ("auto", Some("1"), 1, 1),
        ("auto", Some("01"), 1, 1),
        ("auto", Some("-1"), 1, 1),
        ("auto", Some("1; x"), 1, 1),
        ("off", None, 7, 7),
        ("off", Some("1"), 7, 1),
    ] {
        let plan = Plan::new().node(node(offer)).upstream("health_check: {interval: 1h}");
        let sandbox = plan.listener(&format!("persistent_connection: {mode}")).start().await;
        let ready = || async { sandbox.metrics().await.sum("health_checks_total", &[]) == 1.0 };
        while !ready().await {}
        for listener in ["plain", "tls"] {
            assert_eq!(upload(&sandbox, listener).await, client, "{mode} {offer:?} {listener}");
        }
        // One connection was the health check's. A client that comes on a new connection may be faster
        // than the node's connection is free again.
        let seen = sandbox.nodes[0].connections() - 1;
        let right = if client > nodes { seen < client * 2 } else { seen == nodes * 2 };
        assert!(right, "{mode} {offer:?}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_defaults_are_force_over_tls_and_auto_in_the_clear() {
    let sandbox = Plan::new().start().await;
    assert_eq!(upload(&sandbox, "tls").await, 1);
    assert_eq!(upload(&sandbox, "plain").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_connection_that_persists_survives_the_pause_between_start_and_first_file() {
    let sandbox = Plan::new().node(node(Some("1"))).upstream("health_check: {interval: 1h}").start().await;
    while sandbox.metrics().await.sum("health_checks_total", &[]) < 1.0 {}
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    let id = begin(&mut wire, host).await;
    // A client scans its sources before the first file.
    pause(Duration::from_millis(1_500)).await;
    assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.nodes[0].connections() - 1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_session_keeps_its_connection_beyond_keep_alive_and_without_one_it_closes() {
    let plan = Plan::new().listener("persistent_connection: force").top("timeouts: {keep_alive: 200ms}");
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    let id = begin(&mut wire, host).await;
    assert!(wire.is_quiet(Duration::from_millis(600)).await);
    assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201);
    assert!(wire.is_quiet(Duration::from_millis(600)).await);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(wire.rest().await, b"", "closed once the session is over");
    assert_eq!(sandbox.records(1).await[0]["outcome"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_idles_is_forgotten_as_idle_and_its_connection_closed() {
    let plan = Plan::new().listener("persistent_connection: force").top("timeouts: {session_idle: 400ms}");
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    begin(&mut wire, host).await;
    assert_eq!(wire.rest().await, b"");
    wire.finish().await;
    drop(wire);
    let records = sandbox.records(1).await;
    assert_eq!((&records[0]["outcome"], &records[0]["reason"]), (&"idle".into(), &serde_json::Value::Null));
    assert_eq!(sandbox.gateway.sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_connection_idles_out_too_and_what_comes_later_is_unknown() {
    let plan = Plan::new().listener("persistent_connection: off").top("timeouts: {session_idle: 200ms}");
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    let id = begin(&mut Wire::plain(host).await, host).await;
    assert_eq!(sandbox.records(1).await[0]["outcome"], "idle");
    let reply = Wire::plain(host).await.ask(&put(host, &id, "a", b"x")).await;
    assert_eq!((reply.status, reply.word()), (403, "unknown_session"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_one_connection_has_lost_its_session() {
    for listener in ["plain", "tls"] {
        let sandbox = Plan::new().listener("persistent_connection: force").start().await;
        let host = sandbox.address(listener).await;
        let mut wire = match listener {
            "tls" => Wire::tls(host, crate::support::tls()).await,
            _ => Wire::plain(host).await,
        };
        let id = begin(&mut wire, host).await;
        assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201);
        drop(wire);
        let records = sandbox.records(1).await;
        assert_eq!((&records[0]["outcome"], &records[0]["reason"]), (&"lost".into(), &"client_lost".into()));
        assert_eq!(sandbox.metrics().await.sum("node_sessions", &[]), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_a_body_has_lost_its_session() {
    let sandbox = Plan::new().listener("persistent_connection: force").start().await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    let id = begin(&mut wire, host).await;
    let request = put(host, &id, "a", &noise(500_000, 1));
    wire.send(&request[..300_000]).await;
    drop(wire);
    let records = sandbox.records(1).await;
    assert_eq!((&records[0]["outcome"], &records[0]["files_failed"]), (&"lost".into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lost_to_its_node_says_so() {
    let sandbox = Plan::new().node(node(None)).listener("persistent_connection: force").start().await;
    std::fs::write(sandbox.dir.path().join("n1/f"), noise(500_000, 1)).unwrap();
    sandbox.nodes[0].set_faults(vec!["get=rst@1000".parse().unwrap()]);
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    let id = uuid();
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "get", TOKEN.as_bytes(), &["/f"]))).await.status, 200);
    assert_eq!(wire.ask(&get(host, &id, "f", "")).await.status, 200);
    assert!(wire.rest().await.len() <= 1000, "a cut body");
    drop(wire);
    let records = sandbox.records(1).await;
    assert_eq!((&records[0]["outcome"], &records[0]["reason"]), (&"lost".into(), &"node_lost".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_sessions_on_one_connection_is_accounted_for() {
    let sandbox = Plan::new().listener("persistent_connection: force").start().await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    begin(&mut wire, host).await;
    let second = begin(&mut wire, host).await;
    assert_eq!(wire.ask(&end(host, &second, "DONE")).await.status, 200);
    drop(wire);
    let records = sandbox.records(2).await;
    let outcomes: Vec<_> = records.iter().map(|r| r["outcome"].as_str().unwrap()).collect();
    assert!(outcomes.contains(&"done") && outcomes.contains(&"lost"), "{outcomes:?}");
}
