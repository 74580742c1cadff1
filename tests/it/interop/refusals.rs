//! What the user reads for each reason of a refused start: the code and the text on the client's
//! management port.

use std::path::Path;

use fallgate::node::{Fault, NodeOptions};

use tokio::net::TcpStream;

use super::{Ascp, LISTENERS, checked, folder, is_here, kill, one_node, scraped, source, tree};
use tokio_util::sync::CancellationToken;

use crate::support::{Plan, Sandbox, TOKEN};

const AUTHENTICATION: (u32, &str) = (19, "Authentication failure");
const AUTHORIZATION: (u32, &str) = (37, "Authorization failure");
const VALIDATION: (u32, &str) = (58, "Session aborted due to validation error(s)");
const PEER_ABORTED: (u32, &str) = (39, "Peer aborted session");
const STALLED: (u32, &str) = (40, "Data transfer stalled, timed out");

/// Sends `file` on both listeners; the user must read this, and the gateway count that, once each.
async fn refused(sandbox: &Sandbox, token: &str, file: &Path, reason: &str, status: u16, wanted: (u32, &str)) {
    for listener in LISTENERS {
        let report = Ascp::put(sandbox, listener, &[file]).await.token(token).run().await;
        report.must_fail(&format!("{reason}, {listener}"), wanted.0, wanted.1);
        let metrics = sandbox.metrics().await;
        assert_eq!(metrics.sum("refusals_total", &[("reason", reason), ("listener", listener)]), 1.0, "{}", metrics.0);
        let status = status.to_string();
        let starts = metrics
            .sum("requests_total", &[("operation", "session_start"), ("status", &status), ("listener", listener)]);
        assert_eq!(starts, 1.0, "{reason}, {listener}");
    }
}

const BASIC: &str = "Basic a2V5OnJvc2VidWQ=";
/// A token of the shape of JSON, signed, whose date is 2001-09-09.
const EXPIRED: &str = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEwMDAwMDAwMDB9.c2lnbmF0dXJl";

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_a_token_is_read_as_one() {
    if !is_here() {
        return;
    }
    for (listener, token, reason, wanted) in [
        ("", "", "token_missing", AUTHENTICATION),
        ("", "bad", "token_shape", AUTHORIZATION),
        ("admission: {kinds: [transfer]}", BASIC, "token_kind", AUTHORIZATION),
        ("admission: {token: decode}", EXPIRED, "token_expired", AUTHORIZATION),
        ("admission: {token: decode, access_keys: [other]}", BASIC, "access_key", AUTHORIZATION),
    ] {
        let plan = if listener.is_empty() { one_node() } else { one_node().listener(listener) };
        let sandbox = plan.start().await;
        let file = source(&sandbox, "file", b"x");
        refused(&sandbox, token, &file, reason, 403, wanted).await;
        assert!(sandbox.seen(1).is_empty(), "{reason}: the node was asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_token_and_the_longest_are_let_in() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let file = source(&sandbox, "file", b"x");
    let long = format!("ATM3_{}_3MTA", "x".repeat(31_980));
    let bearer = "Bearer eJyrVkosLcmIz8nPS1WyUlAqTi3KTM5OBbIA&\"<>";
    for listener in LISTENERS {
        for token in [TOKEN, BASIC, EXPIRED, &long] {
            let report = Ascp::put(&sandbox, listener, &[&file]).await.token(token).run().await;
            report.must_be_ok(token.get(..8).unwrap());
            assert!(sandbox.seen(1).iter().rev().any(|s| s.body.windows(token.len()).any(|w| w == token.as_bytes())));
        }
        let report = Ascp::put(&sandbox, listener, &[&file]).await.token(bearer).run().await;
        report.must_fail(bearer, AUTHORIZATION.0, AUTHORIZATION.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_in_the_first_name_is_read_as_a_validation_error() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let source = folder(&sandbox, "source").join("t");
    tree::write(&source, &tree::Tree::from([tree::file("bell\x07", vec![1])]));
    refused(&sandbox, TOKEN, &source, "bad_name", 400, VALIDATION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_does_to_a_start_is_read_as_the_peers_doing() {
    if !is_here() {
        return;
    }
    for (fault, reason, status, wanted) in [
        ("start=raw:nonsense\\r\\n\\r\\n", "node_bad_answer", 502, PEER_ABORTED),
        ("start=fin@0", "node_lost", 502, PEER_ABORTED),
        ("start=rst@0", "node_lost", 502, PEER_ABORTED),
        ("start=stall@0", "stalled", 504, STALLED),
    ] {
        let node = NodeOptions { faults: vec![fault.parse::<Fault>().unwrap()], ..NodeOptions::default() };
        let sandbox = Plan::new().node(node).top("timeouts: {body_idle: 1s}").start().await;
        let file = source(&sandbox, "file", b"x");
        refused(&sandbox, TOKEN, &file, reason, status, wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_be_had_is_read_as_the_peers_doing() {
    if !is_here() {
        return;
    }
    // Not known to be down, then known.
    for (interval, reason, status) in [("1h", "node_unreachable", 502), ("50ms", "no_node", 503)] {
        let upstream = format!("node_grace: 0s, health_check: {{interval: {interval}, unhealthy_threshold: 1}}");
        let mut sandbox = one_node().upstream(&upstream).top("limits: {when_full: refuse}").start().await;
        checked(&sandbox, 1).await;
        let file = source(&sandbox, "file", b"x");
        let _dead = kill(&mut sandbox).await;
        if reason == "no_node" {
            scraped(&sandbox, "no node up", |m| m.sum("node_up", &[]) == 0.0).await;
        }
        refused(&sandbox, TOKEN, &file, reason, status, PEER_ABORTED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_is_read_as_the_peers_doing() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let file = source(&sandbox, "file", b"x");
    let mut clients = Vec::new();
    for listener in LISTENERS {
        clients.push(Ascp::put(&sandbox, listener, &[&file]).await);
    }
    // Only while a session is under way are there still listeners that can refuse.
    let client = sandbox.client("plain").await;
    let mut sessions = vec![client.session()];
    assert_eq!(sessions[0].start_put(&["file"]).await.unwrap().status, 200);
    let hurry = CancellationToken::new();
    let drained = tokio::spawn(sandbox.gateway.drain(hurry.clone()));
    while sessions.last_mut().unwrap().start_put(&["file"]).await.unwrap().status == 200 {
        sessions.push(client.session());
    }
    for ascp in clients {
        ascp.run().await.must_fail("draining", PEER_ABORTED.0, PEER_ABORTED.1);
    }
    hurry.cancel();
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_full_is_read_as_no_connection() {
    if !is_here() {
        return;
    }
    // Closed without a word: an answer to each of too many clients would be work as well.
    let sandbox = one_node().top("limits: {max_connections: 1}").start().await;
    let file = source(&sandbox, "file", b"x");
    let _only = TcpStream::connect(sandbox.address("plain").await).await.unwrap();
    scraped(&sandbox, "the connection", |m| m.sum("connections_active", &[]) == 1.0).await;
    for listener in LISTENERS {
        let report = Ascp::put(&sandbox, listener, &[&file]).await.run().await;
        report.must_fail(listener, 47, "Error establishing HTTP connection (check HTTP port and firewall)");
    }
}
