//! What operators change while it runs.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Operator;
use crate::support::{Plan, Sandbox, eventually, noise};

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
    std::fs::write(&file, good.replace("access.log", "other.log")).unwrap();
    let said = operator.post("/api/v1/reload", "").await;
    assert_eq!(said.status, 200);
    assert!(said.body.contains("access_log needs a restart"), "{said:?}");
    let status = operator.get("/api/v1/status").await.json();
    assert_eq!((&status["generation"], &status["last_reload"]["success"]), (&2.into(), &true.into()));
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
