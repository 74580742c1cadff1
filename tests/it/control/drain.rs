//! Reload and drain: what a running connection notices, which is nothing, and who comes in meanwhile.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{AT_ONCE, CONTROL, Ssh, connect, met, plan, port, says};
use crate::support::{
    Sandbox, TOKEN, Wire, get, uuid,
    wire::{end, start, start_body},
};

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];

/// One node behind the listener `control`.
async fn one(top: &str) -> (Sandbox, Ssh) {
    let node = Ssh::start("n1").await;
    (plan(&[node.port()]).top(top).start().await, node)
}

/// Says something and hears it again.
async fn speaks(wire: &mut Wire) {
    wire.send(b"still there").await;
    assert_eq!(wire.body(11).await, b"still there");
}

/// Ends a connection in good order.
async fn ends(mut wire: Wire) {
    wire.finish().await;
    assert_eq!(wire.rest().await, b"");
}

async fn until_closed(address: std::net::SocketAddr) {
    let begin = Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{address} is still open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_closes_the_port_and_lets_running_connections_come_to_their_end() {
    let (sandbox, _node) = one("").await;
    let address = sandbox.address("control").await;
    let (mut wire, _) = met(&sandbox, HERE).await;
    let (gateway, dir) = (sandbox.gateway, sandbox.dir);
    let drained = tokio::spawn(gateway.drain(CancellationToken::new()));
    until_closed(address).await;
    speaks(&mut wire).await;
    assert!(!drained.is_finished());
    ends(wire).await;
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain ends").unwrap();
    let log = std::fs::read_to_string(dir.path().join("access.log")).unwrap();
    let ours = log.lines().find(|line| line.contains(r#""bytes_uploaded":11,"#)).unwrap();
    assert!(ours.contains(r#""outcome":"closed""#), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_fallback_sessions_keep_the_ports_open_a_new_connection_is_closed_at_once() {
    let (sandbox, _node) = one("").await;
    let (host, address) = (sandbox.address("plain").await, sandbox.address("control").await);
    let door = sandbox.gateway.admin_address().unwrap();
    let id = uuid();
    let begun = Wire::plain(host).await.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    assert_eq!(begun.status, 200);
    let (mut wire, _) = met(&sandbox, HERE).await;
    let gateway = sandbox.gateway;
    let drained = tokio::spawn(gateway.drain(CancellationToken::new()));
    while get(door, "/readyz").await.0 != 503 {}
    let begin = Instant::now();
    // The door may hear of it a moment later.
    while !Wire::plain(address).await.body_up_to(1).await.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10), "new connections are still taken");
    }
    let begin = Instant::now();
    assert_eq!(Wire::plain(address).await.rest().await, b"");
    assert!(begin.elapsed() < AT_ONCE);
    let text = get(door, "/metrics").await.1;
    assert!(text.contains(r#"fallgate_refusals_total{listener="control",reason="draining"} 2"#), "{text}");
    speaks(&mut wire).await;
    ends(wire).await;
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain ends").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_drain_cuts_what_is_left_and_records_it() {
    let (sandbox, _node) = one("timeouts: {drain: 400ms}").await;
    let (mut wire, _) = met(&sandbox, HERE).await;
    speaks(&mut wire).await;
    let begin = Instant::now();
    sandbox.gateway.drain(CancellationToken::new()).await;
    assert!((400..3_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert_eq!(wire.rest().await, b"");
    let log = std::fs::read_to_string(sandbox.dir.path().join("access.log")).unwrap();
    assert!(log.contains(r#""outcome":"drained""#) && log.lines().count() == 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_still_waits_for_a_banner_at_the_deadline_has_its_record_too() {
    let silent = says(b"").await;
    let sandbox = plan(&[port(silent.address)]).top("timeouts: {drain: 300ms}").start().await;
    let mut wire = connect(&sandbox).await;
    sandbox.until("it is tried", |m| m.sum("node_picks_total", &[]) == 1.0).await;
    sandbox.gateway.drain(CancellationToken::new()).await;
    assert_eq!(wire.rest().await, b"");
    let log = std::fs::read_to_string(sandbox.dir.path().join("access.log")).unwrap();
    assert!(log.contains(r#""outcome":"refused","reason":"draining""#) && log.lines().count() == 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hurries_a_drain_cuts_at_once() {
    let (sandbox, _node) = one("").await;
    let (mut wire, _) = met(&sandbox, HERE).await;
    let hurry = CancellationToken::new();
    let drained = tokio::spawn(sandbox.gateway.drain(hurry.clone()));
    speaks(&mut wire).await;
    hurry.cancel();
    tokio::time::timeout(Duration::from_secs(5), drained).await.expect("no waiting").unwrap();
    assert_eq!(wire.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_a_reload_removes_closes_its_port_and_keeps_its_connections_through_a_drain() {
    let (sandbox, _node) = one("").await;
    let address = sandbox.address("control").await;
    let (mut wire, _) = met(&sandbox, HERE).await;
    let without = sandbox.config(|y| y.replace(&format!("  - {CONTROL}\n"), ""));
    assert_eq!(without.listeners.len(), 2);
    sandbox.gateway.reload(without).await.unwrap();
    until_closed(address).await;
    speaks(&mut wire).await;
    let (gateway, dir, plain) = (sandbox.gateway, sandbox.dir, sandbox.nodes);
    let host = gateway.addresses().await[0].1;
    let drained = tokio::spawn(gateway.drain(CancellationToken::new()));
    until_closed(host).await;
    speaks(&mut wire).await;
    assert!(!drained.is_finished(), "a drain waits for what a removed listener left");
    ends(wire).await;
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain ends").unwrap();
    let log = std::fs::read_to_string(dir.path().join("access.log")).unwrap();
    assert!(log.contains(r#""outcome":"closed""#), "{log}");
    drop(plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_changes_the_door_keeps_connections_and_new_ones_get_the_new_door() {
    let (sandbox, _node) = one("").await;
    let address = sandbox.address("control").await;
    let (mut wire, _) = met(&sandbox, HERE).await;
    let hasty = CONTROL.replace("upstream: u", "upstream: u, idle: 300ms");
    sandbox.gateway.reload(sandbox.config(|y| y.replace(CONTROL, &hasty))).await.unwrap();
    assert_eq!(sandbox.address("control").await, address);
    let (mut new, _) = met(&sandbox, THERE).await;
    assert_eq!(new.rest().await, b"");
    let records = sandbox.records(1).await;
    assert_eq!((&records[0]["outcome"], &records[0]["client"]), (&"idle".into(), &"127.0.0.2".into()));
    speaks(&mut wire).await;
    ends(wire).await;
    assert_eq!(sandbox.records(2).await[1]["outcome"], "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_its_node_over_a_reload() {
    let nodes = [Ssh::start("n1").await, Ssh::start("n2").await];
    let sandbox = plan(&[nodes[0].port(), nodes[1].port()]).upstream("balance: round_robin").start().await;
    let (_wire, pinned) = met(&sandbox, HERE).await;
    sandbox.gateway.reload(sandbox.config(|y| y)).await.unwrap();
    for _ in 0..4 {
        assert_eq!(super::name(&mut connect(&sandbox).await).await, pinned);
    }
}
