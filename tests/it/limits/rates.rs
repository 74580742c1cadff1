//! How often a client may start a session, and ask for anything else.

use std::time::{Duration, Instant};

use super::{A, B, begin, limited, refusals, refused};
use crate::support::{
    Wire, uuid,
    wire::{end, put, start, start_body},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_start_too_many_is_refused_by_its_word_and_another_client_is_not() {
    let rate = "session_starts_per_client: {rate: 1/h, burst: 2}";
    for plan in [
        limited(&format!("when_full: refuse, {rate}")),
        limited("when_full: refuse").listener(&format!("limits: {{{rate}}}")),
    ] {
        let sandbox = plan.start().await;
        let host = sandbox.address("plain").await;
        for _ in 0..2 {
            assert_eq!(begin(A, host).await.0.status, 200);
        }
        refused(&sandbox, begin(A, host).await, 429, "start_rate").await;
        assert_eq!(begin(B, host).await.0.status, 200);
        assert_eq!(sandbox.all_seen().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_comes_too_early_waits_for_its_time() {
    let sandbox = limited("session_starts_per_client: {rate: 2/s, burst: 1}").start().await;
    let host = sandbox.address("plain").await;
    let begun = Instant::now();
    for n in 0..3 {
        let (reply, mut session) = begin(A, host).await;
        assert_eq!(reply.status, 200);
        assert!(begun.elapsed() >= Duration::from_millis(500) * n, "number {n} after {:?}", begun.elapsed());
        assert_eq!(session.end().await, 200);
    }
    let records = sandbox.records(3).await;
    let waited: Vec<_> = records.iter().map(|r| r["waited_seconds"].as_f64().unwrap()).collect();
    assert!(waited[0] == 0.0 && waited[1] > 0.0 && waited[2] > 0.0, "{waited:?}");
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("wait_seconds_count", &[("listener", "plain")]), 2.0);
    assert_eq!(metrics.sum("refusals_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_rate_holds_up_no_other_client() {
    let sandbox = limited("session_starts_per_client: {rate: 1/h, burst: 1}").start().await;
    let host = sandbox.address("plain").await;
    assert_eq!(begin(A, host).await.0.status, 200);
    let _held = super::ask(A, host).await;
    super::waiting(&sandbox, 1).await;
    let begun = Instant::now();
    assert_eq!(begin(B, host).await.0.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_session_is_counted_and_one_too_many_refused() {
    let rate = "requests_per_client: {rate: 1/h, burst: 3}";
    for plan in [limited(rate), limited("when_full: wait").listener(&format!("limits: {{{rate}}}"))] {
        let sandbox = plan.start().await;
        let host = sandbox.address("plain").await;
        let mut wire = Wire::from(A, host).await;
        let (unknown, nothing) = (put(host, &uuid(), "a", b"x"), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let bad = uuid();
        let shapeless = start(host, &bad, &start_body(&bad, "put", b"nonsense", &[]));
        for (request, status, word) in [
            (&unknown[..], 403, "unknown_session"),
            (nothing, 404, "not_found"),
            (&shapeless, 403, "token_shape"),
            (&unknown, 429, "request_rate"),
            (nothing, 429, "request_rate"),
            (&shapeless, 429, "request_rate"),
        ] {
            let reply = wire.ask(request).await;
            assert_eq!((reply.status, reply.word()), (status, word));
        }
        assert_eq!(refusals(&sandbox, "request_rate").await, 3.0);
        let records = sandbox.records(2).await;
        let reasons: Vec<_> = records.iter().map(|r| r["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["token_shape", "request_rate"]);
        for _ in 0..5 {
            assert_eq!(wire.ask(&end(host, &bad, "ERROR")).await.status, 200, "the end of a refused start is heard");
        }
        // What is in order is none of it, nor is what another client asks.
        let (reply, mut session) = begin(A, host).await;
        assert_eq!(reply.status, 200);
        for _ in 0..5 {
            assert_eq!(session.put().await, 201);
        }
        assert_eq!(session.end().await, 200);
        assert_eq!(Wire::from(B, host).await.ask(nothing).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_rate_holds_from_the_reload_on() {
    let sandbox = limited("when_full: refuse, session_starts_per_client: {rate: 1/h, burst: 1}").start().await;
    let host = sandbox.address("plain").await;
    assert_eq!(begin(A, host).await.0.status, 200);
    assert_eq!(begin(A, host).await.0.word(), "start_rate");
    sandbox.gateway.reload(sandbox.config(|y| y.replace("{rate: 1/h, burst: 1}", "off"))).await.unwrap();
    for _ in 0..5 {
        assert_eq!(begin(A, host).await.0.status, 200);
    }
}
