//! Which node a client's connections go to, and what holds them there.

use super::{AT_ONCE, ONCE, Ssh, checked, connect, met, name, plan};
use crate::support::{
    Sandbox, TOKEN, Wire, uuid,
    wire::{end, start, start_body},
};

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];

/// Two nodes that take turns.
async fn two() -> (Sandbox, [Ssh; 2]) {
    let nodes = [Ssh::start("n1").await, Ssh::start("n2").await];
    let plan = plan(&[nodes[0].port(), nodes[1].port()]).upstream(&format!("balance: round_robin, {ONCE}"));
    (checked(plan, 2).await, nodes)
}

/// Starts and ends a fallback session of the client at `source`; the node that got it.
async fn fallback(sandbox: &Sandbox, source: [u8; 4]) -> String {
    let host = sandbox.address("plain").await;
    let id = uuid();
    let mut wire = Wire::from(source, host).await;
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await.status, 200);
    Wire::from(source, host).await.ask(&end(host, &id, "DONE")).await;
    let node = (1..=2).find(|i| sandbox.seen(*i).iter().any(|s| s.session == id)).unwrap();
    format!("n{node}")
}

fn other(name: &str) -> &'static str {
    if name == "n1" { "n2" } else { "n1" }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_client_meet_one_node_while_one_lives_and_other_clients_go_by_balance() {
    let (sandbox, _nodes) = two().await;
    let (first, pinned) = met(&sandbox, HERE).await;
    let mut held = vec![first];
    for _ in 0..5 {
        let (wire, node) = met(&sandbox, HERE).await;
        assert_eq!(node, pinned);
        held.push(wire);
    }
    assert_eq!(sandbox.metrics().await.sum("node_picks_total", &[("how", "control")]), 5.0);
    assert_eq!(sandbox.metrics().await.sum("node_sessions", &[("node", &pinned)]), 6.0);
    let (_other, elsewhere) = met(&sandbox, THERE).await;
    assert_eq!(elsewhere, other(&pinned), "it is the other node's turn");
    for wire in &mut held {
        wire.finish().await;
        wire.rest().await;
    }
    sandbox.until("they are gone", |m| m.sum("connections_active", &[("listener", "control")]) == 1.0).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (mut wire, node) = met(&sandbox, HERE).await;
        wire.finish().await;
        wire.rest().await;
        sandbox.until("it is gone", |m| m.sum("connections_active", &[("listener", "control")]) == 1.0).await;
        seen.push(node);
    }
    assert_ne!(seen[0], seen[1], "the pin is gone with the last connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_one_client_opens_at_once_meet_one_node() {
    let (sandbox, _nodes) = two().await;
    let address = sandbox.address("control").await;
    for client in 2..22 {
        let open = |_| {
            tokio::spawn(async move {
                let mut wire = Wire::from([127, 0, 0, client], address).await;
                let name = name(&mut wire).await;
                (wire, name)
            })
        };
        let opened: Vec<_> = (0..8).map(open).collect();
        let mut met = Vec::new();
        for one in opened {
            met.push(one.await.unwrap());
        }
        assert!(met.iter().all(|(_, name)| *name == met[0].1), "127.0.0.{client}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fallback_of_a_client_goes_to_the_node_of_its_control_connection() {
    let (sandbox, _nodes) = two().await;
    let (_wire, pinned) = met(&sandbox, HERE).await;
    for _ in 0..4 {
        assert_eq!(fallback(&sandbox, HERE).await, pinned);
    }
    let others = [fallback(&sandbox, THERE).await, fallback(&sandbox, THERE).await];
    assert_ne!(others[0], others[1], "who has none goes by balance");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_node_that_goes_down_is_replaced_and_what_runs_on_it_goes_on() {
    let nodes = [Ssh::start("n1").await, Ssh::start("n2").await];
    let plan = plan(&[nodes[0].port(), nodes[1].port()]);
    let often = "balance: round_robin, health_check: {interval: 50ms, unhealthy_threshold: 1}";
    let sandbox = checked(plan.upstream(often), 2).await;
    let (mut first, pinned) = met(&sandbox, HERE).await;
    let (bad, good) = if pinned == "n1" { (&nodes[0], "n2") } else { (&nodes[1], "n1") };
    bad.sheds.store(true, std::sync::atomic::Ordering::Relaxed);
    let labels = [("node", pinned.as_str()), ("port", "tcp")];
    sandbox.until("it is down", |m| m.sum("node_up", &labels) == 0.0).await;
    let (_second, node) = met(&sandbox, HERE).await;
    assert_eq!(node, good);
    assert_eq!(sandbox.metrics().await.sum("node_picks_total", &[("how", "repin")]), 1.0);
    let (_third, node) = met(&sandbox, HERE).await;
    assert_eq!(node, good, "the pin has moved");
    assert_eq!(fallback(&sandbox, HERE).await, good);
    assert_eq!(sandbox.metrics().await.sum("node_picks_total", &[("how", "repin")]), 1.0);
    first.send(b"still there").await;
    assert_eq!(first.body(11).await, b"still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_no_node_answers_moves_no_pin() {
    let (sandbox, nodes) = two().await;
    let (_wire, pinned) = met(&sandbox, HERE).await;
    nodes.iter().for_each(|node| node.sheds.store(true, std::sync::atomic::Ordering::Relaxed));
    assert_eq!(connect(&sandbox).await.rest().await, b"");
    assert_eq!(sandbox.records(1).await[0]["reason"], "node_not_ssh");
    for _ in 0..3 {
        assert_eq!(fallback(&sandbox, HERE).await, pinned);
    }
    nodes.iter().for_each(|node| node.sheds.store(false, std::sync::atomic::Ordering::Relaxed));
    assert_eq!(met(&sandbox, HERE).await.1, pinned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_more_than_max_pins_is_refused_until_one_is_gone() {
    let node = Ssh::start("n1").await;
    let sandbox = checked(plan(&[node.port()]).upstream(&format!("max_pins: 1, {ONCE}")), 1).await;
    let (mut first, _) = met(&sandbox, HERE).await;
    let begin = std::time::Instant::now();
    let mut second = Wire::from(THERE, sandbox.address("control").await).await;
    assert_eq!(second.rest().await, b"");
    assert!(begin.elapsed() < AT_ONCE);
    assert_eq!(sandbox.records(1).await[0]["reason"], "no_node");
    let _again = met(&sandbox, HERE).await;
    first.finish().await;
    drop(_again);
    first.rest().await;
    sandbox.until("room", |m| m.sum("connections_active", &[("listener", "control")]) == 0.0).await;
    assert_eq!(met(&sandbox, THERE).await.1, "n1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_node_that_a_reload_moves_is_met_at_its_new_place() {
    let (before, after) = (Ssh::start("before").await, Ssh::at([127, 0, 0, 3], "after").await);
    let sandbox = checked(plan(&[before.port()]), 1).await;
    let (mut first, node) = met(&sandbox, HERE).await;
    assert_eq!(node, "before");
    let http = sandbox.nodes[0].address().port();
    let moved = |y: String| {
        let old = format!("host: 127.0.0.1, ports: {{http: {http}, {}}}", before.port());
        assert!(y.contains(&old), "{y}");
        y.replace(&old, &format!("host: 127.0.0.3, ports: {{http: {http}, {}}}", after.port()))
    };
    sandbox.gateway.reload(sandbox.config(moved)).await.unwrap();
    assert_eq!(met(&sandbox, HERE).await.1, "after");
    first.send(b"x").await;
    assert_eq!(first.body(1).await, b"x", "what runs goes on where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_no_room_takes_no_further_connection() {
    let node = Ssh::start("n1").await;
    let sandbox = checked(plan(&[node.port()]), 1).await;
    let http = sandbox.nodes[0].address().port();
    let ports = format!("ports: {{http: {http}, {}}}", node.port());
    let small = sandbox.config(|y| y.replace(&ports, &format!("{ports}, max_sessions: 1")));
    assert_eq!(small.upstreams[0].nodes[0].max_sessions, Some(1));
    sandbox.gateway.reload(small).await.unwrap();
    let _only = met(&sandbox, HERE).await;
    assert_eq!(connect(&sandbox).await.rest().await, b"");
    super::refused(&sandbox, "no_node").await;
}
