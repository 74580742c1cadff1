//! Who waits has the turn in order, and fairly among clients; who leaves is out at once.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{A, B, C, Session, ask, ask_as, begin, begin_as, limited, refused, waiting};
use crate::support::{
    Sandbox, Wire, eventually,
    wire::{end, start},
};

/// Lets starts wait one after the other, ends the session that has the place, and each that is let in; tells the order.
async fn order(sandbox: &Sandbox, mut first: Session, starts: &[(&'static str, [u8; 4])]) -> Vec<&'static str> {
    let host = first.host;
    let (send, mut served) = mpsc::unbounded_channel();
    for (n, (name, from)) in starts.iter().enumerate() {
        let mut session = ask(*from, host).await;
        waiting(sandbox, n as u32 + 1).await;
        let (send, name) = (send.clone(), *name);
        tokio::spawn(async move {
            assert_eq!(session.answer().await.0.status, 200, "{name}");
            send.send(name).unwrap();
            assert_eq!(session.end().await, 200, "{name}");
        });
    }
    drop(send);
    assert_eq!(first.end().await, 200);
    let mut order = Vec::new();
    while let Some(name) = served.recv().await {
        order.push(name);
    }
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_sessions_are_let_in_in_the_order_in_which_they_came() {
    for limits in ["max_sessions: 1", "max_sessions_per_client: 1", "max_sessions_per_user: 1"] {
        let sandbox = limited(limits).start().await;
        let (reply, first) = begin(A, sandbox.address("plain").await).await;
        assert_eq!(reply.status, 200);
        let names = order(&sandbox, first, &[("one", A), ("two", A), ("three", A), ("four", A)]).await;
        assert_eq!(names, ["one", "two", "three", "four"], "{limits}");
        let records = sandbox.records(5).await;
        let has_waited = |r: &&serde_json::Value| r["waited_seconds"].as_f64().unwrap() > 0.0;
        assert_eq!(records.iter().filter(has_waited).count(), 4);
        let metrics = sandbox.metrics().await;
        assert_eq!((metrics.sum("waiting", &[]), metrics.sum("wait_seconds_count", &[])), (0.0, 4.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_take_turns_however_many_wait_of_one() {
    let sandbox = limited("max_sessions: 1").start().await;
    let (reply, first) = begin(A, sandbox.address("plain").await).await;
    assert_eq!(reply.status, 200);
    let starts = [("b1", B), ("b2", B), ("b3", B), ("c1", C), ("c2", C)];
    assert_eq!(order(&sandbox, first, &starts).await, ["b1", "c1", "b2", "c2", "b3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_all_it_may_holds_up_nobody_else() {
    let sandbox = limited("max_sessions_per_client: 1").start().await;
    let host = sandbox.address("plain").await;
    let (_, mut first) = begin(A, host).await;
    let held = ask(A, host).await;
    waiting(&sandbox, 1).await;
    for _ in 0..3 {
        let (reply, mut session) = begin(B, host).await;
        assert_eq!((reply.status, session.end().await), (200, 200));
    }
    waiting(&sandbox, 1).await;
    assert_eq!(first.end().await, 200);
    assert_eq!(held.later().await.unwrap().0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_has_all_he_may_is_let_in_when_a_session_of_his_ends_from_anywhere() {
    let sandbox = limited("max_sessions_per_user: 1").start().await;
    let host = sandbox.address("plain").await;
    let (_, mut ann) = begin_as(A, host, "ann").await;
    let (_, mut bob) = begin_as(A, host, "bob").await;
    let (for_ann, for_bob) = (ask_as(B, host, "ann").await, ask_as(C, host, "bob").await);
    waiting(&sandbox, 2).await;
    assert_eq!(bob.end().await, 200);
    assert_eq!(for_bob.later().await.unwrap().0.status, 200);
    waiting(&sandbox, 1).await;
    assert_eq!(ann.end().await, 200);
    assert_eq!(for_ann.later().await.unwrap().0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_listener_holds_up_nobody_on_another() {
    let own = "limits: {max_sessions: 1}";
    let other = "{name: other, protocol: http, address: '127.0.0.1:0', upstream: u}";
    let sandbox = limited("when_full: wait").listener(own).listeners(other).start().await;
    let (host, other) = (sandbox.address("plain").await, sandbox.address("other").await);
    let (_, mut first) = begin(A, host).await;
    let held = ask(B, host).await;
    sandbox.until("one waits", |m| m.sum("waiting", &[("listener", "plain")]) == 1.0).await;
    let (reply, mut session) = begin(B, other).await;
    assert_eq!((reply.status, session.end().await), (200, 200));
    waiting(&sandbox, 1).await;
    assert_eq!(first.end().await, 200);
    assert_eq!(held.later().await.unwrap().0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_out_at_once_and_its_turn_the_next_ones() {
    let sandbox = limited("max_sessions: 1").start().await;
    let host = sandbox.address("plain").await;
    let (_, mut first) = begin(A, host).await;
    let gone = ask(B, host).await;
    waiting(&sandbox, 1).await;
    let next = ask(B, host).await;
    waiting(&sandbox, 2).await;
    let (begun, id) = (Instant::now(), gone.id.clone());
    drop(gone);
    // Its end is on the way before anybody has noticed.
    assert_eq!(Wire::from(B, host).await.ask(&end(host, &id, "ERROR")).await.status, 200);
    waiting(&sandbox, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "only a sign of life found it out");
    let records = sandbox.records(1).await;
    assert_eq!((&records[0]["outcome"], &records[0]["reason"]), (&"lost".into(), &"client_lost".into()));
    assert_eq!(first.end().await, 200);
    let (reply, mut session) = next.later().await.unwrap();
    assert_eq!((reply.status, session.put().await, session.end().await), (200, 201, 200));
    assert!(sandbox.all_seen().iter().all(|seen| seen.session != id), "no node has heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_waits_is_no_session_yet_but_its_id_is_taken() {
    let sandbox = limited("max_sessions: 1").start().await;
    let host = sandbox.address("plain").await;
    let (_, mut first) = begin(A, host).await;
    let held = ask(B, host).await;
    waiting(&sandbox, 1).await;
    let mut twin = Wire::from(B, host).await;
    let reply = twin.ask(&start(host, &held.id, &super::body(&held.id, "ann"))).await;
    assert_eq!((reply.status, reply.word()), (403, "session_live"));
    let id = held.id.clone();
    let reply = twin.ask(&crate::support::wire::put(host, &id, "a", b"x")).await;
    assert_eq!((reply.status, reply.word()), (403, "unknown_session"));
    assert_eq!(first.end().await, 200);
    let (reply, mut session) = held.later().await.unwrap();
    assert_eq!((reply.status, session.put().await, session.end().await), (200, 201, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_start_that_has_room_needs_no_waiting_and_one_that_has_none_is_refused_at_once() {
    let sandbox = limited("max_sessions: 1").start().await;
    let host = sandbox.address("plain").await;
    let large = async || {
        let mut session = Session { wire: Wire::from(B, host).await, host, id: crate::support::uuid() };
        let source = "/some/short/name".repeat(100_000);
        let token = crate::support::TOKEN.as_bytes();
        let body = crate::support::wire::start_body(&session.id, "put", token, &[&source]);
        assert!(body.len() > 1 << 20);
        (session.wire.ask(&start(host, &session.id, &body)).await, session)
    };
    let (reply, mut session) = large().await;
    assert_eq!((reply.status, session.put().await, session.end().await), (200, 201, 200));
    let (_, mut first) = begin(A, host).await;
    let begun = Instant::now();
    refused(&sandbox, large().await, 503, "wait_too_long").await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(first.end().await, 200);
    eventually("no session is left", || (sandbox.gateway.sessions() == 0).then_some(())).await;
}
