//! The real client where there is not room for all at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{Ascp, LISTENERS, is_here, one_node, source, up};
use crate::support::{
    Metrics, TOKEN, Wire, noise, uuid,
    wire::{start, start_body},
};

const CLIENTS: usize = 30;
const ROOM: f64 = 5.0;

#[tokio::test(flavor = "multi_thread")]
async fn thirty_clients_at_once_share_room_for_five_and_all_are_served() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().top("limits: {max_sessions: 5}").start().await;
    let content = noise(2_000_000, 3);
    let mut runs = JoinSet::new();
    for n in 0..CLIENTS {
        let file = source(&sandbox, &format!("file{n}"), &content);
        let listener = LISTENERS[n % LISTENERS.len()];
        // Each takes some two thirds of a second.
        let client = Ascp::put(&sandbox, listener, &[&file]).await.options(&["-l", "25m"]);
        runs.spawn(async move { (n, client.run().await) });
    }
    let over = Arc::<AtomicBool>::default();
    let admin = sandbox.gateway.admin_address().unwrap();
    let watch = tokio::spawn({
        let over = over.clone();
        async move {
            let (mut most, mut waited) = (0.0_f64, 0.0_f64);
            while !over.load(Ordering::Relaxed) {
                let metrics = Metrics::scrape(admin).await;
                most = most.max(metrics.sum("sessions_active", &[]));
                waited = waited.max(metrics.sum("waiting", &[]));
                assert!(metrics.sum("node_sessions", &[]) <= ROOM);
            }
            (most, waited)
        }
    });
    while let Some(run) = runs.join_next().await {
        let (n, report) = run.unwrap();
        report.must_be_ok(&format!("client {n}"));
    }
    over.store(true, Ordering::Relaxed);
    let (most, waited) = watch.await.unwrap();
    assert!(most <= ROOM && waited >= 1.0, "{most} were active at once, and {waited} waited");
    for n in 0..CLIENTS {
        assert!(std::fs::read(up(&sandbox, 1, format!("file{n}"))).unwrap() == content, "file{n}");
    }
    let records = sandbox.records(CLIENTS).await;
    assert!(records.iter().all(|r| r["outcome"] == "done"));
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_wait_is_over_reads_that_it_was_the_peers_doing() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().top("limits: {max_sessions: 1, max_wait: 1s}").start().await;
    let host = sandbox.address("plain").await;
    let (mut only, id) = (Wire::plain(host).await, uuid());
    assert_eq!(only.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await.status, 200);
    let file = source(&sandbox, "file", b"x");
    for listener in LISTENERS {
        let report = Ascp::put(&sandbox, listener, &[&file]).await.run().await;
        report.must_fail(listener, 39, "Peer aborted session");
        let labels = [("reason", "wait_too_long"), ("listener", listener)];
        assert_eq!(sandbox.metrics().await.sum("refusals_total", &labels), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_beyond_its_own_patience_for_a_place_and_is_served() {
    if !is_here() {
        return;
    }
    // The client gives up after 20 seconds of silence.
    const LONG: Duration = Duration::from_secs(24);
    let sandbox = one_node().top("limits: {max_sessions: 1}").start().await;
    let host = sandbox.address("plain").await;
    let (mut only, id) = (Wire::plain(host).await, uuid());
    assert_eq!(only.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await.status, 200);
    let file = source(&sandbox, "file", b"x");
    let client = Ascp::put(&sandbox, "tls", &[&file]).await;
    let run = tokio::spawn(client.run());
    sandbox.until("it waits", |m| m.sum("waiting", &[]) == 1.0).await;
    crate::support::peer::pause(LONG).await;
    assert_eq!(only.ask(&crate::support::wire::end(host, &id, "DONE")).await.status, 200);
    run.await.unwrap().must_be_ok("after a long wait");
    let waited = sandbox.records(2).await[1]["waited_seconds"].as_f64().unwrap();
    assert!(waited >= LONG.as_secs_f64(), "{waited}");
}
