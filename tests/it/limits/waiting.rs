//! How a wait ends: with room of whatever kind, with time, with the waiting room full, or with the gateway.

use std::time::{Duration, Instant};

use fallgate::node::{Node, NodeOptions};
use tokio_util::sync::CancellationToken;

use super::{A, B, C, ask, begin, limited, refused, waiting};
use crate::support::Wire;

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_lasts_is_told_every_five_seconds_that_it_is_not_forgotten() {
    let sandbox = limited("max_sessions: 1").start().await;
    let host = sandbox.address("plain").await;
    let (_, mut first) = begin(A, host).await;
    let begun = Instant::now();
    let mut held = ask(B, host).await;
    for n in 1..=2 {
        let notice = held.wire.head().await;
        assert_eq!((notice.status, notice.text.as_str()), (102, "HTTP/1.1 102 Processing\r\n\r\n"));
        let at = begun.elapsed();
        let due = Duration::from_secs(5) * n;
        assert!(at >= due && at < due + Duration::from_secs(3), "number {n} after {at:?}");
    }
    assert_eq!(first.end().await, 200);
    let (reply, notices) = held.answer().await;
    assert_eq!((reply.status, notices), (200, 0));
    assert_eq!((held.put().await, held.end().await), (201, 200));
    let waited = sandbox.records(2).await[1]["waited_seconds"].as_f64().unwrap();
    assert!((10.0..16.0).contains(&waited), "{waited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_over_after_max_wait_and_its_user_told_what_the_client_understands() {
    for plan in
        [limited("max_sessions: 1, max_wait: 1s"), limited("max_sessions: 1").listener("limits: {max_wait: 1s}")]
    {
        let sandbox = plan.start().await;
        let host = sandbox.address("plain").await;
        let (_, mut first) = begin(A, host).await;
        let begun = Instant::now();
        let held = begin(B, host).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
        refused(&sandbox, held, 503, "wait_too_long").await;
        let record = &sandbox.records(1).await[0];
        assert!(record["waited_seconds"].as_f64().unwrap() >= 1.0, "{record}");
        waiting(&sandbox, 0).await;
        assert_eq!((first.put().await, first.end().await), (201, 200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_than_may_wait_is_refused_at_once_unless_it_need_not_wait() {
    for plan in [
        limited("max_sessions_per_client: 1, max_waiting: 1"),
        limited("max_sessions_per_client: 1").listener("limits: {max_waiting: 1}"),
    ] {
        let sandbox = plan.start().await;
        let host = sandbox.address("plain").await;
        let (_, mut first) = begin(A, host).await;
        let (_, _second) = begin(B, host).await;
        let held = ask(A, host).await;
        waiting(&sandbox, 1).await;
        for from in [A, B] {
            let begun = Instant::now();
            refused(&sandbox, begin(from, host).await, 503, "waiting_room_full").await;
            assert!(begun.elapsed() < Duration::from_secs(3));
        }
        assert_eq!(begin(C, host).await.0.status, 200, "who lacks nothing need not wait");
        waiting(&sandbox, 1).await;
        assert_eq!(first.end().await, 200);
        assert_eq!(held.later().await.unwrap().0.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_waits_for_a_node_that_is_full() {
    let sandbox = limited("when_full: wait").start().await;
    let full = sandbox.config(|y| y.replace("ports:", "max_sessions: 1, ports:"));
    sandbox.gateway.reload(full).await.unwrap();
    let host = sandbox.address("plain").await;
    let (_, mut first) = begin(A, host).await;
    let held = ask(B, host).await;
    waiting(&sandbox, 1).await;
    assert_eq!(first.end().await, 200);
    let (reply, mut session) = held.later().await.unwrap();
    assert_eq!((reply.status, session.put().await, session.end().await), (200, 201, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_waits_for_a_node_that_is_down() {
    let keys = "health_check: {interval: 50ms, healthy_threshold: 1, unhealthy_threshold: 1}";
    let mut sandbox = limited("when_full: wait").upstream(keys).start().await;
    let host = sandbox.address("plain").await;
    let node = sandbox.nodes.remove(0);
    let (address, root) = (node.address(), sandbox.dir.path().join("n1"));
    node.close().await;
    sandbox.until("the node is down", |m| m.sum("node_up", &[]) == 0.0).await;
    let held = ask(B, host).await;
    waiting(&sandbox, 1).await;
    let back = loop {
        // A process that another test is just starting may still hold a copy of the node's socket.
        match Node::start(address, NodeOptions { root: root.clone(), ..NodeOptions::default() }).await {
            Ok(node) => break node,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (reply, mut session) = held.later().await.unwrap();
    assert_eq!((reply.status, session.put().await, session.end().await), (200, 201, 200));
    assert_eq!(back.log().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_maxima_let_those_in_that_wait_at_the_moment_of_the_reload() {
    for (limits, listener) in [
        ("max_sessions: 1", ""),
        ("max_sessions_per_client: 1", ""),
        ("max_sessions_per_user: 1", ""),
        ("when_full: wait", "max_sessions: 1"),
    ] {
        let sandbox = limited(limits).listener(&format!("limits: {{{listener}}}")).start().await;
        let host = sandbox.address("plain").await;
        let (_, _first) = begin(A, host).await;
        let one = ask(A, host).await;
        waiting(&sandbox, 1).await;
        let two = ask(A, host).await;
        waiting(&sandbox, 2).await;
        let _three = ask(A, host).await;
        waiting(&sandbox, 3).await;
        let higher = |y: String| {
            ["", "_per_client", "_per_user"]
                .iter()
                .fold(y, |y, of| y.replace(&format!("max_sessions{of}: 1"), &format!("max_sessions{of}: 3")))
        };
        sandbox.gateway.reload(sandbox.config(higher)).await.unwrap();
        waiting(&sandbox, 1).await;
        for session in [one, two] {
            let (reply, mut session) = session.later().await.unwrap();
            assert_eq!((reply.status, session.put().await), (200, 201), "{limits} {listener}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_reload_gives_more_room_takes_those_that_wait() {
    let sandbox = limited("when_full: wait").start().await;
    let with = |max: u32| sandbox.config(|y| y.replace("ports:", &format!("max_sessions: {max}, ports:")));
    sandbox.gateway.reload(with(1)).await.unwrap();
    let host = sandbox.address("plain").await;
    let (_, _first) = begin(A, host).await;
    let held = ask(B, host).await;
    waiting(&sandbox, 1).await;
    sandbox.gateway.reload(with(2)).await.unwrap();
    assert_eq!(held.later().await.unwrap().0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_the_gateway_is_told_to_stop_is_refused_at_once() {
    let sandbox = limited("max_sessions: 1").start().await;
    let host = sandbox.address("plain").await;
    let (_, mut first) = begin(A, host).await;
    let held = [ask(A, host).await, ask(B, host).await];
    waiting(&sandbox, 2).await;
    let begun = Instant::now();
    let drained = tokio::spawn(sandbox.gateway.drain(CancellationToken::new()));
    for mut session in held {
        let (reply, _) = session.answer().await;
        assert_eq!((reply.status, reply.word()), (503, "draining"));
        assert_eq!(reply.field("x-real-mgmt-error"), Some("39"));
        // Its connection is closed, as all are on which no session runs.
        session.wire = Wire::from(B, host).await;
        assert_eq!(session.end().await, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(4));
    first.wire = Wire::from(A, host).await;
    assert_eq!(first.put().await, 201);
    first.wire = Wire::from(A, host).await;
    assert_eq!(first.end().await, 200);
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_on_a_listener_that_a_reload_takes_away_is_refused_at_once() {
    let other = "{name: other, protocol: http, address: '127.0.0.1:0', upstream: u}";
    let sandbox = limited("max_sessions: 1").listeners(other).start().await;
    let (_, mut first) = begin(A, sandbox.address("plain").await).await;
    let mut held = ask(B, sandbox.address("other").await).await;
    waiting(&sandbox, 1).await;
    sandbox.gateway.reload(sandbox.config(|y| y.replace(&format!("  - {other}\n"), ""))).await.unwrap();
    let (reply, _) = held.answer().await;
    assert_eq!((reply.status, reply.word()), (503, "draining"));
    assert_eq!((first.put().await, first.end().await), (201, 200));
}

/// A listener that does not let wait stands in the same line, if only for its one try.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_wait_overtakes_nobody_who_does() {
    let other = "{name: hasty, protocol: http, address: '127.0.0.1:0', upstream: u, limits: {when_full: refuse}}";
    let sandbox = limited("max_sessions: 1").listeners(other).start().await;
    let (host, hasty) = (sandbox.address("plain").await, sandbox.address("hasty").await);
    let (reply, mut first) = begin(A, host).await;
    assert_eq!(reply.status, 200);
    let (reply, _) = begin(C, hasty).await;
    assert_eq!((reply.status, reply.word()), (503, "too_many_sessions"), "nobody waits yet");
    let second = ask(B, host).await.later();
    waiting(&sandbox, 1).await;
    let hurried = ask(C, hasty).await.later();
    assert_eq!(first.end().await, 200);
    let (reply, mut second) = second.await.unwrap();
    assert_eq!(reply.status, 200, "who waited is next");
    let (reply, _) = hurried.await.unwrap();
    assert_eq!(reply.status, 503);
    assert_eq!(second.end().await, 200);
    assert_eq!(begin(C, hasty).await.0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_at_the_same_moment_is_not_one_who_waits() {
    let sandbox = limited("max_waiting: 1").start().await;
    let host = sandbox.address("plain").await;
    let mut all = Vec::new();
    for n in 2..30 {
        all.push(ask([127, 0, 0, n], host).await.later());
    }
    for one in all {
        assert_eq!(one.await.unwrap().0.status, 200);
    }
}
