//! How many connections at once: of all, of a listener, of a client, and what a session allows besides.

use std::net::SocketAddr;

use super::{A, B, begin, limited};
use crate::support::{Sandbox, Wire};

const NOTHING: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// A connection that was let in.
async fn open(from: [u8; 4], host: SocketAddr) -> Wire {
    let mut wire = Wire::from(from, host).await;
    assert_eq!(wire.ask(NOTHING).await.status, 404);
    wire
}

/// A connection that is closed without a word to its client, and with this one to the operator.
async fn closed(sandbox: &Sandbox, from: [u8; 4], listener: &str, word: &str) {
    let labels = [("listener", listener), ("reason", word)];
    let before = sandbox.metrics().await.sum("refusals_total", &labels);
    let mut wire = Wire::from(from, sandbox.address(listener).await).await;
    assert_eq!(wire.rest().await, b"", "{word}");
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &labels) - before, 1.0, "{word}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_its_own_maximum_and_two_connections_more_for_each_session() {
    let maximum = "max_connections_per_client: 2";
    for plan in [limited(maximum), limited("when_full: wait").listener(&format!("limits: {{{maximum}}}"))] {
        let sandbox = plan.start().await;
        let host = sandbox.address("plain").await;
        let (mut first, second) = (open(A, host).await, open(A, host).await);
        closed(&sandbox, A, "plain", "too_many_connections_per_client").await;
        let _other = open(B, host).await;
        let id = crate::support::uuid();
        assert_eq!(first.ask(&crate::support::wire::start(host, &id, &super::body(&id, "ann"))).await.status, 200);
        let more = (open(A, host).await, open(A, host).await);
        closed(&sandbox, A, "plain", "too_many_connections_per_client").await;
        assert_eq!(first.ask(&crate::support::wire::end(host, &id, "DONE")).await.status, 200);
        drop(more);
        sandbox.until("three are left", |m| m.sum("connections_active", &[("listener", "plain")]) == 3.0).await;
        closed(&sandbox, A, "plain", "too_many_connections_per_client").await;
        drop(second);
        sandbox.until("two are left", |m| m.sum("connections_active", &[("listener", "plain")]) == 2.0).await;
        open(A, host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_its_own_maximum_and_its_last_place_is_for_who_has_a_session() {
    for (plan, is_of_all) in [
        (limited("max_connections: 4"), true),
        (limited("when_full: wait").listener("limits: {max_connections: 4}"), false),
    ] {
        let other = "{name: other, protocol: http, address: '127.0.0.1:0', upstream: u}";
        let sandbox = plan.listener(if is_of_all { "node_target: received" } else { "limits: {max_connections: 4}" });
        let sandbox = sandbox.listeners(other).start().await;
        let host = sandbox.address("plain").await;
        let (reply, mut session) = begin(A, host).await;
        assert_eq!(reply.status, 200);
        let (_one, _two) = (open(B, host).await, open(B, host).await);
        closed(&sandbox, B, "plain", "too_many_connections").await;
        match is_of_all {
            true => closed(&sandbox, B, "other", "too_many_connections").await,
            false => drop(open(B, sandbox.address("other").await).await),
        }
        let last = open(A, host).await;
        closed(&sandbox, A, "plain", "too_many_connections").await;
        drop(last);
        assert_eq!((session.put().await, session.end().await), (201, 200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_lowers_and_raises_what_the_next_connection_finds() {
    let sandbox = limited("max_connections_per_client: 1").start().await;
    let host = sandbox.address("plain").await;
    let _first = open(A, host).await;
    closed(&sandbox, A, "plain", "too_many_connections_per_client").await;
    let more = |of: &str| sandbox.config(|y| y.replace("max_connections_per_client: 1", of));
    sandbox.gateway.reload(more("max_connections_per_client: 2")).await.unwrap();
    let _second = open(A, host).await;
    closed(&sandbox, A, "plain", "too_many_connections_per_client").await;
    sandbox.gateway.reload(more("max_connections_per_client: off")).await.unwrap();
    let _third = open(A, host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_through_a_front_is_counted_by_the_name_that_it_gives() {
    let front = "trusted_proxies: ['127.0.0.2'], proxy_protocol: accept";
    let control = "{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u, trusted_proxies: ['127.0.0.2'], proxy_protocol: accept}";
    let plan = limited("max_connections_per_client: 1").listener(front).listeners(control).ports("tcp: 1");
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    let named = async |listener: &str, client: &str| {
        let mut wire = Wire::from(A, sandbox.address(listener).await).await;
        wire.send(format!("PROXY TCP4 {client} 127.0.0.1 4711 443\r\n").as_bytes()).await;
        wire
    };
    let mut first = named("plain", "192.0.2.7").await;
    assert_eq!(first.ask(NOTHING).await.status, 404);
    for listener in ["plain", "control"] {
        assert_eq!(named(listener, "192.0.2.7").await.rest().await, b"");
        let labels = [("listener", listener), ("reason", "too_many_connections_per_client")];
        assert_eq!(sandbox.metrics().await.sum("refusals_total", &labels), 1.0, "{listener}");
    }
    assert_eq!(named("plain", "192.0.2.8").await.ask(NOTHING).await.status, 404);
    // A front that names its clients in the head of each request stands for all of them.
    sandbox.gateway.reload(sandbox.config(|y| y.replace(", proxy_protocol: accept", ""))).await.unwrap();
    let _many = [open(A, host).await, open(A, host).await, open(A, host).await];
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_behind_a_front_leave_the_last_places_to_those_who_have_a_session() {
    let sandbox = limited("max_connections: 5").listener("trusted_proxies: ['127.0.0.2']").start().await;
    let host = sandbox.address("plain").await;
    let (reply, mut session) = begin(A, host).await;
    assert_eq!(reply.status, 200);
    let _many = [open(A, host).await, open(A, host).await, open(A, host).await];
    let mut fresh = super::ask(A, host).await;
    let (reply, _) = fresh.answer().await;
    assert_eq!((reply.status, reply.word()), (503, "too_many_connections"));
    drop(fresh);
    sandbox.until("one place is free", |m| m.sum("connections_active", &[]) <= 4.0).await;
    session.wire = Wire::from(A, host).await;
    assert_eq!(session.put().await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_connections_and_forward_proxies_are_held_to_the_same() {
    let egress = "{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p}";
    let control = "{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}";
    let plan = limited("max_connections_per_client: 1}\npolicies: [{name: p, allow: [{hosts: ['*']}]}]\nlog: {");
    let sandbox = plan.listeners(egress).listeners(control).ports("tcp: 1").start().await;
    let _first = open(A, sandbox.address("plain").await).await;
    for listener in ["egress", "control"] {
        closed(&sandbox, A, listener, "too_many_connections_per_client").await;
    }
}
