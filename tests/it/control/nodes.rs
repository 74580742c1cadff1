//! Nodes that do not answer as SSH servers: who is tried instead, and what the client and the operator learn.

use std::time::Duration;

use super::{AT_ONCE, CONTROL, ONCE, Ssh, checked, closed, connect, plan, port, refused, says, stopped};
use crate::support::{
    Plan, Wire,
    peer::{DeadPort, Peer, keep, pause, say},
};

/// A short patience with nodes.
fn hasty(ports: &[String]) -> Plan {
    let control = CONTROL.replace("upstream: u", "upstream: u, banner_timeout: 300ms");
    let plan = Plan::new().listeners(&control);
    ports.iter().fold(plan, |plan, port| plan.ports(port)).upstream(&format!("balance: round_robin, {ONCE}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_node_up_a_connection_is_closed_at_once() {
    let (a, b) = (DeadPort::new(), DeadPort::new());
    let sandbox = checked(plan(&[port(a.address), port(b.address)]), 2).await;
    assert_eq!(sandbox.metrics().await.sum("node_up", &[("port", "tcp")]), 0.0);
    assert_eq!(sandbox.metrics().await.sum("node_up", &[("port", "http")]), 2.0);
    let took = closed(&sandbox).await;
    assert!(took < AT_ONCE, "{took:?}");
    refused(&sandbox, "no_node").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_not_known_to_be_down_that_refuses_closes_the_connection_as_fast() {
    let node = Ssh::start("n1").await;
    let sandbox = checked(plan(&[node.port()]), 1).await;
    let _refusing = stopped(node.peer).await;
    let took = closed(&sandbox).await;
    assert!(took < AT_ONCE, "{took:?}");
    refused(&sandbox, "node_unreachable").await;
    assert_eq!(sandbox.metrics().await.sum("node_up", &[("port", "tcp")]), 1.0, "once is not enough");
    closed(&sandbox).await;
    assert_eq!(sandbox.metrics().await.sum("node_up", &[("port", "tcp")]), 0.0, "twice is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_is_passed_over_for_one_that_answers() {
    let (gone, good) = (Ssh::start("n1").await, Ssh::start("n2").await);
    let sandbox = checked(hasty(&[gone.port(), good.port()]), 2).await;
    let _refusing = stopped(gone.peer).await;
    for _ in 0..4 {
        let mut wire = connect(&sandbox).await;
        assert_eq!(super::name(&mut wire).await, "n2");
        wire.finish().await;
        wire.rest().await;
    }
    let records = sandbox.records(4).await;
    assert!(records.iter().all(|r| r["node"] == "n2" && r["outcome"] == "closed"), "{records:?}");
    assert!(sandbox.metrics().await.sum("node_picks_total", &[("how", "failover")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_ssh_server_is_passed_over_and_the_client_hears_the_second_banner_only() {
    let web = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".as_slice();
    let endless = vec![b'x'; 10_000];
    let closes = Peer::start(|_stream| async {}).await;
    let speaks = Peer::start(move |mut stream| async move { say(&mut stream, web).await }).await;
    let floods = says(&endless).await;
    let silent = says(b"").await;
    let half = says(b"Welcome\r\nSS").await;
    for (bad, reason) in [
        (closes.address, "node_not_ssh"),
        (speaks.address, "node_not_ssh"),
        (floods.address, "node_not_ssh"),
        (silent.address, "node_silent"),
        (half.address, "node_silent"),
    ] {
        let good = Ssh::start("n2").await;
        let sandbox = checked(hasty(&[port(bad), good.port()]), 2).await;
        // Whose turn it is: one of two meets the bad one first.
        for _ in 0..2 {
            let mut wire = connect(&sandbox).await;
            wire.send(b"hello").await;
            assert_eq!(wire.body(17).await, b"SSH-2.0-n2\r\nhello", "{reason}");
        }
        assert!(sandbox.metrics().await.sum("node_picks_total", &[("how", "failover")]) >= 1.0, "{reason}");
        let alone = checked(hasty(&[port(bad)]), 1).await;
        let took = closed(&alone).await;
        assert!(took < AT_ONCE, "{reason}: {took:?}");
        refused(&alone, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_nodes_are_silent_the_connection_is_closed_after_three_times_the_patience() {
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(says(b"").await);
    }
    let ports: Vec<_> = silent.iter().map(|peer| port(peer.address)).collect();
    let sandbox = checked(hasty(&ports), 5).await;
    let took = closed(&sandbox).await;
    assert!((800..2_000).contains(&took.as_millis()), "{took:?}");
    refused(&sandbox, "node_silent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_before_the_banner_and_words_behind_it_reach_the_client_as_they_came() {
    let said = b"Authorized use only.\r\n\r\nSSH-2.0-n1 comment\r\n\x00\x01more".as_slice();
    let node = says(said).await;
    let sandbox = plan(&[port(node.address)]).start().await;
    assert_eq!(connect(&sandbox).await.body(said.len()).await, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banner_that_comes_late_but_in_time_is_waited_for() {
    let node = Peer::start(|mut stream| async move {
        for piece in [b"SSH".as_slice(), b"-2.0", b"-n1\r\n"] {
            pause(Duration::from_millis(60)).await;
            say(&mut stream, piece).await;
        }
        keep(stream).await;
    });
    let node = node.await;
    let sandbox = checked(hasty(&[port(node.address)]), 1).await;
    assert_eq!(super::name(&mut connect(&sandbox).await).await, "n1");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once_and_counted() {
    let node = Ssh::start("n1").await;
    // The last place of three is for who has a session.
    let sandbox = checked(plan(&[node.port()]).top("limits: {max_connections: 3}"), 1).await;
    let address = sandbox.address("control").await;
    let (mut first, mut second) = (Wire::plain(address).await, Wire::plain(address).await);
    for wire in [&mut first, &mut second] {
        assert_eq!(super::name(wire).await, "n1");
    }
    let took = closed(&sandbox).await;
    assert!(took < AT_ONCE, "{took:?}");
    let labels = [("listener", "control"), ("reason", "too_many_connections")];
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &labels), 1.0);
    first.finish().await;
    first.rest().await;
    sandbox.until("room", |m| m.sum("connections_active", &[("listener", "control")]) == 1.0).await;
}
