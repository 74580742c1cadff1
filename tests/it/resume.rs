//! Which node a client meets again: where its partial files are, or where its address or user belongs.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use fallgate::node::client::Client;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, noise, uuid,
    wire::{Reply, end, get, put, start, start_body},
};

const SIZE: usize = 1_000_000;
const CUT: usize = 300_000;
/// Equal nodes take turns, so that whoever meets one again was brought there.
const TURNS: &str = "balance: round_robin, health_check: {interval: 1h}";

fn source(sandbox: &Sandbox, seed: u64) -> (PathBuf, Vec<u8>) {
    let (path, content) = (sandbox.dir.path().join(format!("file{seed}")), noise(SIZE, seed));
    std::fs::write(&path, &content).unwrap();
    (path, content)
}

async fn resuming(sandbox: &Sandbox, listener: &str, user: &str) -> Client {
    Client { resume: true, user: user.to_owned(), ..sandbox.client(listener).await }
}

fn cut_uploads(sandbox: &Sandbox, cut: bool) {
    for node in &sandbox.nodes {
        node.set_faults(if cut { vec![format!("put:1=fin@{CUT}").parse().unwrap()] } else { Vec::new() });
    }
}

/// The node of each access record.
async fn homes(sandbox: &Sandbox, n: usize) -> Vec<String> {
    sandbox.records(n).await.iter().map(|r| r["node"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn picks(sandbox: &Sandbox, how: &str) -> f64 {
    sandbox.metrics().await.sum("node_picks_total", &[("how", how)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_upload_goes_on_at_the_node_that_has_its_beginning_and_then_the_turns_go_on() {
    for listener in ["plain", "tls"] {
        let sandbox = Plan::new().upstream(TURNS).start().await;
        let (path, content) = source(&sandbox, 1);
        cut_uploads(&sandbox, true);
        let files = [path];
        let report = resuming(&sandbox, listener, "ann").await.upload(&files, "/").await.unwrap();
        assert!(!report.is_ok(), "{report:?}");
        cut_uploads(&sandbox, false);
        // Another user's sessions in between have turns of their own.
        let (other, _) = source(&sandbox, 2);
        for _ in 0..2 {
            assert!(
                resuming(&sandbox, listener, "bob")
                    .await
                    .upload(std::slice::from_ref(&other), "/")
                    .await
                    .unwrap()
                    .is_ok()
            );
        }
        let report = resuming(&sandbox, listener, "ann").await.upload(&files, "/").await.unwrap();
        assert!(report.is_ok(), "{listener}: {report:?}");
        assert_eq!(homes(&sandbox, 4).await, ["n1", "n2", "n1", "n1"], "{listener}");
        let resumed = sandbox.seen(1).into_iter().rfind(|s| s.operation == "file").unwrap();
        assert_eq!(resumed.body_bytes, (SIZE - CUT) as u64, "{listener}: only what was missing");
        assert!(std::fs::read(sandbox.dir.path().join("n1/up/file1")).unwrap() == content);
        assert!(!sandbox.dir.path().join("n2/up/file1").exists());
        assert_eq!(picks(&sandbox, "resume").await, 1.0);
        // It ended well: nothing is kept of it.
        assert!(resuming(&sandbox, listener, "ann").await.upload(&files, "/").await.unwrap().is_ok());
        assert_eq!((homes(&sandbox, 5).await[4].as_str(), picks(&sandbox, "resume").await), ("n2", 1.0), "{listener}");
    }
}

/// A whole start by hand; the answer, the connection and the id.
async fn begin(source: [u8; 4], host: SocketAddr, user: &str) -> (Reply, Wire, String) {
    let (mut wire, id) = (Wire::from(source, host).await, uuid());
    let body = String::from_utf8(start_body(&id, "put", TOKEN.as_bytes(), &["f"])).unwrap();
    let body = body.replace("<user>xfer</user>", &format!("<user>{user}</user>"));
    let reply = wire.ask(&start(host, &id, body.as_bytes())).await;
    (reply, wire, id)
}

/// A session that ends at once, with this reason.
async fn session(source: [u8; 4], host: SocketAddr, user: &str, reason: &str) {
    let (reply, mut wire, id) = begin(source, host, user).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(wire.ask(&end(host, &id, reason)).await.status, 200);
}

const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_a_bad_end_is_of_one_client_and_user() {
    let sandbox = Plan::new().listener("persistent_connection: force").upstream(TURNS).start().await;
    let host = sandbox.address("plain").await;
    for (source, user, reason) in [
        (A, "ann", "ERROR"), // n1
        (B, "ann", "DONE"),  // n2: another address
        (A, "bob", "DONE"),  // n1: another user
        (A, "ann", "ERROR"), // n1: hers
        (A, "cat", "DONE"),  // n2
        (A, "ann", "DONE"),  // n1: hers still
        (A, "ann", "DONE"),  // n1 by turn
        (A, "ann", "DONE"),  // n2 by turn
    ] {
        session(source, host, user, reason).await;
    }
    assert_eq!(homes(&sandbox, 8).await, ["n1", "n2", "n1", "n1", "n2", "n1", "n1", "n2"]);
    assert_eq!(picks(&sandbox, "resume").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_just_leaves_is_brought_back_too() {
    let sandbox = Plan::new().listener("persistent_connection: force").upstream(TURNS).start().await;
    let host = sandbox.address("plain").await;
    let (reply, mut wire, id) = begin(A, host, "ann").await;
    assert_eq!(reply.status, 200);
    let request = put(host, &id, "f", &noise(SIZE, 1));
    wire.send(&request[..CUT]).await;
    drop(wire);
    assert_eq!(sandbox.records(1).await[0]["outcome"], "lost");
    session(A, host, "ann", "DONE").await;
    assert_eq!(homes(&sandbox, 2).await, ["n1", "n1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn affinity_brings_a_client_or_a_user_to_one_node() {
    for key in ["client", "user"] {
        let upstream = format!("{TURNS}, affinity: {{key: {key}}}");
        let sandbox = Plan::new().listener("persistent_connection: force").upstream(&upstream).start().await;
        let host = sandbox.address("plain").await;
        let all = [(A, "ann"), (B, "bob"), (A, "bob"), (B, "ann"), (A, "ann"), (B, "bob")];
        for (source, user) in all {
            session(source, host, user, "DONE").await;
        }
        let expected = all.map(|(source, user)| {
            let first = if key == "client" { source == A } else { user == "ann" };
            if first { "n1" } else { "n2" }
        });
        assert_eq!(homes(&sandbox, 6).await, expected, "{key}");
        assert_eq!((picks(&sandbox, "pin").await, picks(&sandbox, "balance").await), (4.0, 2.0), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn affinity_is_forgotten_when_it_was_idle_for_long() {
    let upstream = format!("{TURNS}, affinity: {{key: client, idle: 1ms}}");
    let sandbox = Plan::new().listener("persistent_connection: force").upstream(&upstream).start().await;
    let host = sandbox.address("plain").await;
    for _ in 0..4 {
        session(A, host, "ann", "DONE").await;
        crate::support::peer::pause(Duration::from_millis(5)).await;
    }
    assert_eq!(homes(&sandbox, 4).await, ["n1", "n2", "n1", "n2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_yields_where_its_node_is_full() {
    for (keys, how) in [("affinity: {key: client}", "pin"), ("affinity: {key: session}", "resume")] {
        let plan = Plan::new().listener("persistent_connection: force").top("limits: {when_full: refuse}");
        let sandbox = plan.upstream(&format!("{TURNS}, {keys}")).start().await;
        let full = sandbox.config(|y| y.replace("ports:", "max_sessions: 1, ports:"));
        sandbox.gateway.reload(full).await.unwrap();
        let host = sandbox.address("plain").await;
        session(A, host, "ann", "ERROR").await;
        let (first, mut wire, id) = begin(A, host, "ann").await;
        let (second, _second, _) = begin(A, host, "ann").await;
        let (third, ..) = begin(A, host, "ann").await;
        assert_eq!((first.status, second.status), (200, 200), "{how}");
        assert_eq!((third.status, third.word()), (503, "no_node"), "{how}");
        assert_eq!((sandbox.seen(1).len(), sandbox.seen(2).len()), (3, 1), "{how}");
        assert_eq!(picks(&sandbox, how).await, 1.0, "{how}");
        assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_yields_where_its_node_is_down_and_holds_through_a_reload() {
    for keys in ["affinity: {key: user}", "affinity: {key: session}"] {
        let upstream = format!("balance: round_robin, health_check: {{interval: 50ms}}, {keys}");
        let mut sandbox = Plan::new().listener("persistent_connection: force").upstream(&upstream).start().await;
        let host = sandbox.address("plain").await;
        session(A, host, "ann", "ERROR").await;
        session(A, host, "bob", "DONE").await;
        session(A, host, "cat", "DONE").await;
        sandbox.gateway.reload(sandbox.config(|y| y)).await.unwrap();
        session(A, host, "ann", "ERROR").await;
        let expected = ["n1", "n2", "n1", "n1"];
        assert_eq!(homes(&sandbox, 4).await, expected, "{keys}");
        sandbox.nodes.remove(0).close().await;
        let begin = Instant::now();
        while sandbox.metrics().await.sum("node_up", &[("node", "n1")]) != 0.0 {
            assert!(begin.elapsed() < Duration::from_secs(10), "n1 is never down");
        }
        session(A, host, "ann", "DONE").await;
        assert_eq!(homes(&sandbox, 5).await[4], "n2", "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_yields_where_its_node_cannot_be_reached_although_it_counts_as_up() {
    for keys in ["affinity: {key: client}", "affinity: {key: session}"] {
        let mut sandbox =
            Plan::new().listener("persistent_connection: force").upstream(&format!("{TURNS}, {keys}")).start().await;
        let host = sandbox.address("plain").await;
        session(A, host, "ann", "ERROR").await;
        sandbox.nodes.remove(0).close().await;
        for _ in 0..3 {
            session(A, host, "ann", "ERROR").await;
        }
        assert_eq!(homes(&sandbox, 4).await, ["n1", "n2", "n2", "n2"], "{keys}");
        assert_eq!(picks(&sandbox, "failover").await, 1.0, "{keys}: afterwards the pin is of the other node");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_download_goes_on_where_it_broke_off() {
    let sandbox = Plan::new().listener("persistent_connection: off").upstream(TURNS).start().await;
    let content = noise(SIZE, 4);
    std::fs::write(sandbox.dir.path().join("n1/f"), &content).unwrap();
    let host = sandbox.address("plain").await;
    let run = |id: String| async move {
        let body = start_body(&id, "get", TOKEN.as_bytes(), &["f"]);
        assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
        id
    };
    sandbox.nodes[0].set_faults(vec![format!("get:1=fin@{CUT}").parse().unwrap()]);
    let id = run(uuid()).await;
    let mut wire = Wire::plain(host).await;
    assert_eq!(wire.ask(&get(host, &id, "f", "")).await.status, 200);
    let kept = wire.rest().await;
    assert!(kept.len() <= CUT);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await.status, 200);
    let id = run(uuid()).await;
    let mut wire = Wire::plain(host).await;
    let reply = wire.ask(&get(host, &id, "f", &format!("x-Content-range: bytes {}-*/*\r\n", kept.len()))).await;
    assert_eq!((reply.status, reply.field("content-length")), (200, Some(&*(SIZE - kept.len()).to_string())));
    assert!([kept.clone(), wire.body(SIZE - kept.len()).await].concat() == content);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(homes(&sandbox, 2).await, ["n1", "n1"]);
}
