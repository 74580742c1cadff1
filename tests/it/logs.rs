//! What an operator does with the logs of a running gateway: another level, another file.

use std::net::SocketAddr;

use fallgate::node::{Node, NodeOptions};

use crate::support::{
    TOKEN, Wire, eventually, loopback,
    process::Process,
    uuid,
    wire::{end, start, start_body},
};

async fn before(node: &Node, level: &str) -> (Process, String) {
    let text = format!(
        "version: 1\nlisteners: [{{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}]\nupstreams: [{{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {}}}}}]}}]\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\nlog: {{level: {level}}}\n",
        node.address().port()
    );
    (Process::start(&text).await, text)
}

async fn node() -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = NodeOptions { root: dir.path().into(), ..NodeOptions::default() };
    (Node::start(loopback(0), options).await.unwrap(), dir)
}

/// A request that is refused, which is told at level `debug`.
async fn refused(host: SocketAddr) {
    assert_eq!(Wire::plain(host).await.ask(&end(host, &uuid(), "DONE")).await.word(), "unknown_session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_level_of_the_log_at_once() {
    let (node, _dir) = node().await;
    let (process, text) = before(&node, "info").await;
    let host = process.address("plain").await;
    let told = || process.log().matches("A request was refused.").count();
    refused(host).await;
    for (generation, (level, wanted)) in
        (2..).zip([("debug", 1), ("error", 1), ("trace", 2), ("info", 2), ("debug", 3)])
    {
        process.configure(&text.replace("level: info", &format!("level: {level}")));
        process.until("config_generation", &[], f64::from(generation)).await;
        refused(host).await;
        eventually("the refusals that are told", || (told() >= wanted).then_some(())).await;
        // Had it been told, it would stand before what is told next.
        assert_eq!(told(), wanted, "{level}: {}", process.log());
    }
}

/// The engine has words of its own for this level, and takes an answer for text to say them.
#[tokio::test(flavor = "multi_thread")]
async fn at_the_most_talkative_level_an_answer_that_is_no_text_passes() {
    let (node, _dir) = node().await;
    let answer = "start=raw:HTTP/1.1 200 OK\\r\\nX-Odd: \\xe9\\xff\\r\\nContent-Length: 0\\r\\n\\r\\n";
    node.set_faults(vec![answer.parse().unwrap()]);
    for level in ["info", "trace"] {
        let (process, _) = before(&node, level).await;
        let (host, id) = (process.address("plain").await, uuid());
        let reply =
            Wire::plain(host).await.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
        assert_eq!((reply.status, reply.word()), (200, ""), "{level}: {}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rotated_away_is_opened_anew_and_no_record_is_lost() {
    let (node, _dir) = node().await;
    let (process, _) = before(&node, "info").await;
    let host = process.address("plain").await;
    let (log, rotated) = (process.dir().join("access.log"), process.dir().join("access.log.1"));
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let session = async || {
        let (id, mut wire) = (uuid(), Wire::plain(host).await);
        assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await.status, 200);
        assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    };
    session().await;
    eventually("the first record", || (lines(&log) == 1).then_some(())).await;
    std::fs::rename(&log, &rotated).unwrap();
    session().await;
    eventually("a record in the file that was moved", || (lines(&rotated) == 2).then_some(())).await;
    assert!(!log.exists());
    process.signal("USR1");
    eventually("a new file", || log.exists().then_some(())).await;
    session().await;
    eventually("a record in the new file", || (lines(&log) == 1).then_some(())).await;
    assert_eq!(lines(&rotated), 2);
}
