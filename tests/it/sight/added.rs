//! What the gateway itself adds to a request is counted, and nothing of what others take.

use std::time::Duration;

use fallgate::node::NodeOptions;

use super::stage::Stage;
use crate::support::{Plan, Sandbox};

/// How many requests were counted for the listener, and the seconds added to all of them.
async fn added(sandbox: &Sandbox, listener: &str) -> (f64, f64) {
    let (metrics, labels) = (sandbox.metrics().await, [("listener", listener)]);
    let [count, sum] = ["count", "sum"].map(|part| metrics.sum(&format!("added_latency_seconds_{part}"), &labels));
    (count, sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_that_was_carried_is_counted_once_over_both_listeners() {
    let plan = Plan::new().node(NodeOptions { persistent: Some("1".into()), ..NodeOptions::default() });
    let sandbox = plan.start().await;
    for listener in ["tls", "plain"] {
        let mut session = sandbox.client(listener).await.session();
        assert_eq!(session.start_put(&["a", "b"]).await.unwrap().status, 200);
        assert_eq!(session.put(b"a", &[7; 300_000], Some(b"b")).await.unwrap().status, 201);
        assert_eq!(session.put(b"b", b"", None).await.unwrap().status, 201);
        assert_eq!(session.end("DONE", 0).await.unwrap().status, 200);
        let (count, sum) = added(&sandbox, listener).await;
        assert_eq!(count, 4.0, "{listener}");
        assert!(sum > 0.0 && sum < 1.0, "{listener}: {sum} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_and_a_slow_client_do_not_show() {
    let faults = ["start=delay:0.4", "put=delay:0.4", "get=102:0.4", "end=delay:0.4"].map(|f| f.parse().unwrap());
    let node = NodeOptions { faults: faults.to_vec(), ..NodeOptions::default() };
    let sandbox = Plan::new().node(node).top("bandwidth: {per_session: {upload: 2Mbit/s}}").start().await;
    std::fs::write(sandbox.dir.path().join("n1/f"), [1; 1000]).unwrap();
    let mut session = sandbox.client("plain").await.session();
    assert_eq!(session.start_put(&["a"]).await.unwrap().status, 200);
    // Of which the first burst passes, and the rest waits for the cap.
    assert_eq!(session.put(b"a", &[7; 300_000], None).await.unwrap().status, 201);
    assert_eq!(session.end("DONE", 0).await.unwrap().status, 200);
    let mut session = sandbox.client("plain").await.session();
    assert_eq!(session.start_get(&["f"]).await.unwrap().status, 200);
    assert_eq!(session.get(b"f", 0).await.unwrap().0.status, 200);
    assert_eq!(session.end("DONE", 0).await.unwrap().status, 200);
    let (count, sum) = added(&sandbox, "plain").await;
    assert_eq!(count, 6.0);
    assert!(sum > 0.0 && sum < 0.4, "{sum} s, and each request took as long at its node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_room_does_not_show_and_a_refusal_is_not_counted() {
    let stage = Stage::start().await;
    let (mut first, begin) = (stage.session("ann").await, std::time::Instant::now());
    assert_eq!(first.answer().await, 200);
    let mut second = stage.session("ann").await;
    stage.sandbox.until("one waits", |m| m.sum("waiting", &[]) == 1.0).await;
    while begin.elapsed() < Duration::from_millis(500) {
        assert_eq!(first.get("g").await, 200);
    }
    let before = added(&stage.sandbox, "plain").await;
    assert_eq!((first.end().await, second.answer().await), (200, 200));
    stage.refusals().await;
    let after = added(&stage.sandbox, "plain").await;
    assert_eq!(after.0 - before.0, 2.0, "an end and a start");
    assert!(after.1 - before.1 < 0.3, "{before:?} {after:?}");
    assert_eq!(second.end().await, 200);
}
