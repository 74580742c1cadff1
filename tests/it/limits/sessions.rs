//! How many sessions at once, and when a place is free again.

use std::time::{Duration, Instant};

use fallgate::node::NodeOptions;

use super::{A, B, begin, begin_as, limited, refused};
use crate::support::{
    Plan, Wire, eventually, noise, uuid,
    wire::{put, start},
};

#[tokio::test(flavor = "multi_thread")]
async fn each_maximum_of_sessions_refuses_the_next_one_and_has_room_again_after_the_end() {
    // Who comes second and is refused, and who comes third and is not.
    for (maximum, word, second, third) in [
        ("max_sessions: 1", "too_many_sessions", (B, "bob"), None),
        ("max_sessions_per_client: 1", "too_many_sessions_per_client", (A, "bob"), Some((B, "ann"))),
        ("max_sessions_per_user: 1", "too_many_sessions_per_user", (B, "ann"), Some((A, "bob"))),
    ] {
        for of_listener in [false, true] {
            let plan = match of_listener {
                false => limited(&format!("when_full: refuse, {maximum}")),
                true => limited("when_full: refuse").listener(&format!("limits: {{{maximum}}}")),
            };
            let other = "{name: other, protocol: http, address: '127.0.0.1:0', upstream: u}";
            let sandbox = plan.listeners(other).start().await;
            let host = sandbox.address("plain").await;
            let (reply, mut first) = begin_as(A, host, "ann").await;
            assert_eq!(reply.status, 200, "{maximum}");
            let next = begin_as(second.0, host, second.1).await;
            refused(&sandbox, next, 503, word).await;
            // Those of one listener say nothing about another.
            let elsewhere = begin_as(second.0, sandbox.address("other").await, second.1).await;
            assert_eq!(elsewhere.0.status, if of_listener { 200 } else { 503 }, "{maximum}");
            if let Some((from, user)) = third {
                let (reply, mut session) = begin_as(from, host, user).await;
                assert_eq!(reply.status, 200, "{maximum}: {}", reply.word());
                assert_eq!(session.end().await, 200);
            }
            assert_eq!((first.put().await, first.end().await), (201, 200));
            let (reply, mut again) = begin_as(second.0, host, second.1).await;
            assert_eq!(reply.status, 200, "{maximum}: the place is free once the end is answered");
            assert_eq!(again.end().await, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_session_ends_by_its_place_is_free_afterwards() {
    let plan = limited("when_full: refuse, max_sessions: 1, session_starts_per_client: off");
    let keys = "persistent_connection: force";
    let sandbox = plan.node(NodeOptions::default()).listener(keys).upstream("balance: hash").start().await;
    let host = sandbox.address("plain").await;
    let free = async |what: &str| {
        let start = Instant::now();
        loop {
            let (reply, mut session) = begin(A, host).await;
            if reply.status == 200 {
                assert_eq!(session.end().await, 200);
                return;
            }
            assert_eq!(reply.word(), "too_many_sessions", "{what}");
            assert!(start.elapsed() < Duration::from_secs(10), "never free: {what}");
        }
    };
    free("nothing").await;
    let (reply, session) = begin(A, host).await;
    assert_eq!(reply.status, 200);
    drop(session);
    free("a connection that is lost").await;
    let (_, mut session) = begin(A, host).await;
    let request = put(host, &session.id, "a", &noise(500_000, 1));
    session.wire.send(&request[..200_000]).await;
    drop(session);
    free("a connection that is lost in a body").await;
    for fault in ["start=403", "start=rst@0", "start=raw:nonsense"] {
        sandbox.nodes.iter().for_each(|node| node.set_faults(vec![fault.parse().unwrap()]));
        assert_ne!(begin(A, host).await.0.status, 200, "{fault}");
        sandbox.nodes.iter().for_each(|node| node.set_faults(Vec::new()));
        free(fault).await;
    }
    eventually("no session is left", || (sandbox.gateway.sessions() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_idles_out_gives_its_place_back() {
    let limits = "limits: {when_full: refuse, max_sessions: 1}\ntimeouts: {session_idle: 300ms}";
    let sandbox = Plan::new().top(limits).listener("persistent_connection: off").start().await;
    let host = sandbox.address("plain").await;
    assert_eq!(begin(A, host).await.0.status, 200);
    assert_eq!(sandbox.records(1).await[0]["outcome"], "idle");
    assert_eq!(begin(A, host).await.0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_let_in_goes_on_while_everything_is_full() {
    let limits = "when_full: refuse, max_connections: 30, max_connections_per_client: 2, max_sessions: 1, session_starts_per_client: {rate: 1/h, burst: 1}, requests_per_client: {rate: 1/h, burst: 1}";
    let sandbox = limited(limits).listener("persistent_connection: off").start().await;
    let host = sandbox.address("plain").await;
    let (reply, mut session) = begin(A, host).await;
    assert_eq!(reply.status, 200);
    session.wire.finish().await;
    // The client may neither start nor ask any more, and strangers hold all the connections that they may.
    refused(&sandbox, begin(A, host).await, 429, "start_rate").await;
    let mut wire = Wire::from(A, host).await;
    let unknown = put(host, &uuid(), "a", b"x");
    assert_eq!(wire.ask(&unknown).await.word(), "unknown_session");
    assert_eq!(wire.ask(&unknown).await.word(), "request_rate");
    let mut held = Vec::new();
    for last in 10..30 {
        for _ in 0..2 {
            held.push(Wire::from([127, 0, 0, last], host).await);
        }
    }
    sandbox
        .until("all places are held", |m| m.sum("refusals_total", &[("reason", "too_many_connections")]) > 0.0)
        .await;
    for _ in 0..20 {
        session.wire = Wire::from(A, host).await;
        assert_eq!(session.put().await, 201);
    }
    session.wire = Wire::from(A, host).await;
    assert_eq!(session.end().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_front_each_client_that_it_names_has_sessions_of_its_own() {
    let plan = limited("when_full: refuse, max_sessions_per_client: 1").listener("trusted_proxies: ['127.0.0.2']");
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    for (from, named, word) in [
        (A, "192.0.2.7", ""),
        (A, "192.0.2.8", ""),
        (A, "192.0.2.7", "too_many_sessions_per_client"),
        // Nobody believes a stranger.
        (B, "192.0.2.9", ""),
        (B, "192.0.2.10", "too_many_sessions_per_client"),
    ] {
        let id = uuid();
        let text = String::from_utf8(start(host, &id, &super::body(&id, "ann"))).unwrap();
        let text = text.replacen("\r\n", &format!("\r\nX-Forwarded-For: {named}\r\n"), 1);
        let reply = Wire::from(from, host).await.ask(text.as_bytes()).await;
        assert_eq!(reply.word(), word, "{named}");
    }
}
