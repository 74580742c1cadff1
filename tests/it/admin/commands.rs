//! What operators change while it runs.

use std::time::{Duration, Instant};

use fallgate::node::{Node, NodeOptions};
use tokio_util::sync::CancellationToken;

use super::{ADMIN_TOKEN, Operator};
use crate::support::{
    Plan, Sandbox, TOKEN, Wire, eventually, loopback, noise,
    process::Process,
    uuid,
    wire::{end, put, start, start_body},
};

async fn sandbox() -> Sandbox {
    Plan::new().admin("token_file: token").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_holds_from_the_moment_it_is_set_for_what_runs_already_until_the_next_reload() {
    let sandbox = sandbox().await;
    let operator = Operator::of(&sandbox);
    let file = sandbox.dir.path().join("big");
    std::fs::write(&file, noise(4_000_000, 3)).unwrap();
    let upload = async || {
        let begin = Instant::now();
        let report = sandbox.client("plain").await.upload(std::slice::from_ref(&file), "/").await.unwrap();
        assert!(report.is_ok());
        begin.elapsed()
    };
    assert_eq!(operator.post("/api/v1/config", r#"{"bandwidth": {"total": "16Mbit/s"}}"#).await.status, 200);
    assert_eq!(operator.get("/api/v1/config").await.json()["bandwidth"]["total"], "16Mbit/s");
    assert_eq!(operator.get("/api/v1/status").await.json()["bandwidth"]["total"], "16Mbit/s");
    let slow = upload().await;
    assert!(slow > Duration::from_millis(1500), "4 MB at 2 MB/s: {slow:?}");
    // What runs already is let go.
    let begin = Instant::now();
    let change = async {
        operator.until("?kind=session", |s| s["bytes_uploaded"].as_u64() > Some(0)).await;
        operator.post("/api/v1/config", r#"{"bandwidth": {"total": "off"}}"#).await
    };
    let (_, said) = tokio::join!(upload(), change);
    assert_eq!(said.status, 200);
    assert!(begin.elapsed() < slow, "{:?}", begin.elapsed());
    operator.post("/api/v1/config", r#"{"bandwidth": {"per_client": {"upload": "8Mbit/s"}}}"#).await;
    assert_eq!(operator.get("/api/v1/config").await.json()["bandwidth"]["per_client"]["upload"], "8Mbit/s");
    assert_eq!(operator.post("/api/v1/reload", "").await.status, 200);
    assert_eq!(operator.get("/api/v1/config").await.json()["bandwidth"]["per_client"], "off");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_change_is_refused_with_what_can_be_changed_and_changes_nothing() {
    let sandbox = sandbox().await;
    let operator = Operator::of(&sandbox);
    let before = operator.get("/api/v1/config").await.body;
    for (change, path) in [
        (r#"{"limits": {"max_sessions": 1}}"#, "limits"),
        (r#"{"log": {"level": "debug", "colour": "red"}}"#, "log.colour"),
        (r#"{"log": {"level": "loud"}, "bandwidth": {"total": "1Gbit/s"}}"#, "log.level"),
        (r#"{"bandwidth": {"total": "fast"}}"#, "bandwidth.total"),
        ("{}", "the change names nothing"),
    ] {
        let said = operator.post("/api/v1/config", change).await;
        assert_eq!(said.refusal(), (400, "rejected".into()), "{change}");
        let problems = said.json()["problems"].to_string();
        assert!(problems.contains(path), "{problems}");
    }
    let said = operator.post("/api/v1/config", r#"{"timeouts": {"drain": "1s"}}"#).await.body;
    assert!(said.contains("log.level and bandwidth.total, per_client, per_session and per_node"), "{said}");
    assert_eq!(operator.get("/api/v1/config").await.body, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_what_came_of_it_and_a_bad_file_every_problem() {
    let sandbox = sandbox().await;
    let (operator, file) = (Operator::of(&sandbox), sandbox.dir.path().join("fallgate.yaml"));
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("upstream: u", "upstream: v").replace("version: 1", "version: 1\ncolour: red"))
        .unwrap();
    let said = operator.post("/api/v1/reload", "").await;
    assert_eq!(said.refusal(), (400, "rejected".into()));
    assert!(said.body.contains("colour"), "{said:?}");
    let status = operator.get("/api/v1/status").await.json();
    assert_eq!((&status["generation"], &status["last_reload"]["success"]), (&1.into(), &false.into()));
    std::fs::write(&file, good.replace("admin: {address: '127.0.0.1:0'", "admin: {address: '127.0.0.2:0'")).unwrap();
    let said = operator.post("/api/v1/reload", "").await;
    assert_eq!(said.status, 200);
    assert!(said.body.contains("admin.address needs a restart"), "{said:?}");
    let status = operator.get("/api/v1/status").await.json();
    assert_eq!((&status["generation"], &status["last_reload"]["success"]), (&2.into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_drains_no_config_is_applied_and_caps_can_still_be_changed() {
    let sandbox = sandbox().await;
    let operator = Operator::of(&sandbox);
    let (host, id) = (sandbox.address("plain").await, uuid());
    let body = start_body(&id, "put", TOKEN.as_bytes(), &["f"]);
    assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
    assert_eq!(operator.post("/api/v1/drain", "").await.status, 200);
    tokio::time::timeout(Duration::from_secs(5), sandbox.gateway.asked_to_stop()).await.expect("it is heard");
    let drained = tokio::spawn(sandbox.gateway.drain(CancellationToken::new()));
    while operator.get("/api/v1/status").await.json()["state"] != "draining" {}
    assert!(operator.get("/api/v1/status").await.json()["notes"][0].as_str().unwrap().contains("1 now"));
    let said = operator.post("/api/v1/reload", "").await;
    assert_eq!(said.refusal(), (400, "rejected".into()));
    assert!(said.body.contains("draining"), "{said:?}");
    assert_eq!(operator.post("/api/v1/config", r#"{"bandwidth": {"total": "80Mbit/s"}}"#).await.status, 200);
    assert!(!drained.is_finished());
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_operators_drain_the_first_signal_says_nothing_new_and_the_second_hurries() {
    let dir = tempfile::tempdir().unwrap();
    let options = NodeOptions { root: dir.path().to_owned(), ..NodeOptions::default() };
    let node = Node::start(loopback(0), options).await.unwrap();
    let port = node.address().port();
    std::fs::write(dir.path().join("token"), ADMIN_TOKEN).unwrap();
    let process = Process::start(&format!(
        "version: 1\nlisteners: [{{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}]\n\
         upstreams: [{{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {port}}}}}]}}]\n\
         admin: {{address: '127.0.0.1:0', token_file: {}}}\naccess_log: {{path: off}}\n",
        dir.path().join("token").display()
    ))
    .await;
    let operator = Operator { address: process.admin(), has_token: true };
    let (host, id) = (process.address("plain").await, uuid());
    let body = start_body(&id, "put", TOKEN.as_bytes(), &["f"]);
    assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
    assert_eq!(operator.post("/api/v1/drain", "").await.status, 200);
    eventually("it drains", || process.log().contains("Draining.").then_some(())).await;
    process.signal("TERM");
    for n in 0..20 {
        let reply = Wire::plain(host).await.ask(&put(host, &id, &format!("f{n}"), b"x")).await;
        assert_eq!(reply.status, 201, "the session goes on");
    }
    assert!(!process.log().contains("Stopped."));
    process.signal("TERM");
    eventually("it stops", || process.log().contains("Stopped.").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_an_operator_asks_for_is_heard_and_shown() {
    let sandbox = sandbox().await;
    let operator = Operator::of(&sandbox);
    assert_eq!(operator.post("/api/v1/drain", "").await.status, 200);
    tokio::time::timeout(Duration::from_secs(5), sandbox.gateway.asked_to_stop()).await.expect("it is heard");
    let hurry = CancellationToken::new();
    let address = operator.address;
    let drained = tokio::spawn(sandbox.gateway.drain(hurry.clone()));
    eventually("the door closes", || std::net::TcpStream::connect(address).is_err().then_some(())).await;
    drained.await.unwrap();
}
