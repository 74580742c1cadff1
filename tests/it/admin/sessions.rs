//! What is open, as the API shows it, and its end by an operator.

use fallgate::node::NodeOptions;
use serde_json::Value;

use super::Operator;
use crate::{
    sight::stage::Stage,
    support::{
        Plan, Sandbox, TOKEN, Wire, uuid,
        wire::{Reply, end, head, put, start, start_body},
    },
};

/// A session that has begun, with its id.
async fn begin(sandbox: &Sandbox, wire: &mut Wire, operation: &str) -> (String, Reply) {
    let (host, id) = (sandbox.address("plain").await, uuid());
    let body = start_body(&id, operation, TOKEN.as_bytes(), &["f", "g"]);
    let reply = wire.ask(&start(host, &id, &body)).await;
    (id, reply)
}

/// The head of an upload whose body is yet to come.
async fn begin_put(sandbox: &Sandbox, wire: &mut Wire, id: &str, length: usize) {
    let host = sandbox.address("plain").await;
    wire.send(&head("PUT", host, id, "file/dir/big", &format!("Content-Length: {length}\r\n"))).await;
}

async fn sandbox() -> Sandbox {
    Plan::new().node(NodeOptions::default()).admin("token_file: token").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_shown_with_its_file_its_progress_and_when_that_will_be_there() {
    let sandbox = sandbox().await;
    let operator = Operator::stranger(&sandbox);
    assert_eq!(operator.sessions("").await, Vec::<Value>::new());
    let mut wire = Wire::plain(sandbox.address("plain").await).await;
    let (id, reply) = begin(&sandbox, &mut wire, "put").await;
    assert_eq!(reply.status, 200);
    let mut wire = Wire::plain(sandbox.address("plain").await).await;
    begin_put(&sandbox, &mut wire, &id, 4_000_000).await;
    wire.send(&[7; 1_000_000]).await;
    let seen = operator.until("?kind=session&state=open", |s| s["bytes_uploaded"] == 1_000_000).await;
    for (key, value) in [
        ("listener", "plain".into()),
        ("client", "127.0.0.1".into()),
        ("user", "xfer".into()),
        ("direction", "upload".into()),
        ("upstream", "u".into()),
        ("node", "n1".into()),
        ("sources", Value::from(2)),
        ("target", Value::Null),
    ] {
        assert_eq!(seen[key], value, "{key}");
    }
    assert_eq!((&seen["file"]["name"], &seen["file"]["size"]), (&"dir/big".into(), &4_000_000.into()));
    assert_eq!(seen["file"]["moved"], 1_000_000);
    let moving = operator.until("", |s| s["upload_rate"].as_f64() > Some(0.0)).await;
    let (rate, eta) = (moving["upload_rate"].as_f64().unwrap(), moving["file"]["eta"].as_f64().unwrap());
    assert!((eta - 3_000_000.0 / rate).abs() <= 1.0, "{moving}");
    let label = seen["id"].as_str().unwrap();
    assert_eq!(operator.get(&format!("/api/v1/sessions/{label}")).await.json()["id"], label);
    assert!(!operator.get("/api/v1/sessions").await.body.contains(&id), "the id is a credential");
    assert_eq!(operator.get(&format!("/api/v1/sessions/{id}")).await.status, 404);
    wire.send(&[7; 3_000_000]).await;
    assert_eq!(wire.head().await.status, 201);
    let done = operator.until("", |s| s["files"] == 1).await;
    assert_eq!((&done["file"]["moved"], &done["file"]["eta"]), (&4_000_000.into(), &0.0.into()));
    let host = sandbox.address("plain").await;
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.records(1).await[0]["id"], label);
    assert_eq!(operator.sessions("").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_at_rest_moves_nothing_and_no_less_than_that() {
    let sandbox = sandbox().await;
    let said = Operator::stranger(&sandbox).get("/api/v1/status").await;
    for each in ["listeners", "nodes"] {
        let all = said.json()[each].as_array().unwrap().clone();
        assert!(!all.is_empty() && all.iter().all(|one| one["upload_rate"] == 0.0), "{said:?}");
    }
    assert!(!said.body.contains(":-0") && !said.body.contains(": -0"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_open_at_every_door_is_shown_and_nothing_when_all_is_over() {
    let stage = Stage::start().await;
    let operator = Operator::stranger(&stage.sandbox);
    let tunnel = stage.tunnel().await;
    let [(_, good), (_, other)] = stage.controls().await;
    let flow = stage.flow(&good).await;
    let mut first = stage.session("ann").await;
    assert_eq!(first.answer().await, 200);
    let mut second = stage.session("ann").await;
    operator.until("?state=waiting", |s| s["kind"] == "session" && s["user"] == "ann").await;
    let kinds = |all: &[Value]| {
        let mut kinds: Vec<_> = all.iter().map(|s| s["kind"].as_str().unwrap().to_owned()).collect();
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds(&operator.sessions("").await), ["session", "control", "tunnel", "flow"]);
    let shown = operator.until("?kind=tunnel", |s| s["bytes_uploaded"] == 4).await;
    assert!(shown["target"].as_str().unwrap().starts_with("127.0.0.1:") && shown["node"].is_null());
    operator.until("?kind=control&node=n1", |s| s["bytes_downloaded"].as_u64() > Some(0)).await;
    operator.until("?kind=flow", |s| s["bytes_uploaded"].as_u64() >= Some(4) && s["node"] == "n1").await;
    let status = operator.get("/api/v1/status").await.json();
    assert_eq!(status["waiting"]["now"], 1);
    assert_eq!(status["state"], "degraded", "n3 is down");
    assert!(status["notes"][0].as_str().unwrap().contains("n3"), "{status}");
    let paths = status["paths"].as_array().unwrap();
    let path = |kind: &str, node: Value| paths.iter().any(|p| p["kind"] == kind && p["node"] == node && p["open"] == 1);
    assert!(path("control", "n1".into()) && path("flow", "n1".into()) && path("tunnel", Value::Null), "{paths:?}");
    let node = |name: &str| status["nodes"].as_array().unwrap().iter().find(|n| n["name"] == name).unwrap().clone();
    assert_eq!((&node("n1")["up"], &node("n3")["up"]), (&true.into(), &false.into()));
    let limit = status["limits"].as_array().unwrap().iter().find(|l| l["name"] == "max_sessions").unwrap().clone();
    assert_eq!((&limit["used"], &limit["max"]), (&1.into(), &2000.into()));
    assert_eq!(status["certificates"][0]["listener"], "tls");
    assert_eq!(status["listeners"].as_array().unwrap().len(), 5);
    assert_eq!((first.end().await, second.answer().await, second.end().await), (200, 200, 200));
    drop((tunnel, good, other, flow));
    let begin = std::time::Instant::now();
    while !operator.sessions("").await.is_empty() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "something stays open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_an_upload_whose_client_hears_why_and_cannot_go_on() {
    let sandbox = sandbox().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let (id, _) = begin(&sandbox, &mut Wire::plain(host).await, "put").await;
    let mut wire = Wire::plain(host).await;
    begin_put(&sandbox, &mut wire, &id, 100).await;
    wire.send(&[7; 40]).await;
    let seen = operator.until("", |s| s["bytes_uploaded"] == 40).await;
    let label = seen["id"].as_str().unwrap();
    assert_eq!(operator.post(&format!("/api/v1/sessions/{label}/cancel"), "").await.status, 200);
    wire.send(&[7; 60]).await;
    let reply = wire.head().await;
    assert_eq!((reply.status, reply.word()), (403, "cancelled"));
    let reply = Wire::plain(host).await.ask(&put(host, &id, "next", b"x")).await;
    assert_eq!((reply.status, reply.word()), (403, "cancelled"));
    let reply = Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await;
    assert_eq!(reply.status, 200, "its end always comes");
    let record = &sandbox.records(1).await[0];
    assert_eq!(
        (&record["outcome"], &record["reason"], &record["id"]),
        (&"cancelled".into(), &"cancelled".into(), &label.into())
    );
    assert_eq!(operator.sessions("").await, Vec::<Value>::new());
    assert_eq!(
        operator.post(&format!("/api/v1/sessions/{label}/cancel"), "").await.refusal(),
        (404, "unknown_session".into())
    );
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("sessions_finished_total", &[("outcome", "cancelled")]), 1.0);
    assert_eq!((metrics.sum("sessions_active", &[]), metrics.sum("node_sessions", &[])), (0.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_session_that_waits_and_one_that_keeps_its_connection() {
    let plan = Plan::new().node(NodeOptions::default()).admin("token_file: token");
    let plan = plan.listener("persistent_connection: force").top("limits: {max_sessions: 1}");
    let sandbox = plan.start().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let mut kept = Wire::plain(host).await;
    let (_, reply) = begin(&sandbox, &mut kept, "put").await;
    assert_eq!(reply.status, 200);
    let id = uuid();
    let mut waits = Wire::plain(host).await;
    waits.send(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &["f"]))).await;
    let waiting = operator.until("?state=waiting", |_| true).await;
    let cancel = |label: &Value| format!("/api/v1/sessions/{}/cancel", label.as_str().unwrap());
    assert_eq!(operator.post(&cancel(&waiting["id"]), "").await.status, 200);
    let reply = waits.head().await;
    assert_eq!((reply.status, reply.word(), reply.field("x-real-mgmt-error")), (403, "cancelled", Some("28")));
    let open = operator.until("?state=open", |_| true).await;
    assert_eq!(operator.post(&cancel(&open["id"]), "").await.status, 200);
    assert_eq!(kept.rest().await, b"", "the connection closes");
    sandbox.until("all is over", |m| m.sum("sessions_active", &[]) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_tunnels_and_control_connections_and_no_flow_by_itself() {
    let stage = Stage::start().await;
    let operator = Operator::of(&stage.sandbox);
    let mut tunnel = stage.tunnel().await;
    let [(_, good), _other] = stage.controls().await;
    let _flow = stage.flow(&good).await;
    let cancel = async |kind: &str| {
        let id = operator.until(&format!("?kind={kind}"), |_| true).await["id"].as_str().unwrap().to_owned();
        (operator.post(&format!("/api/v1/sessions/{id}/cancel"), "").await.status, id)
    };
    assert_eq!(cancel("flow").await.0, 409);
    let (status, id) = cancel("tunnel").await;
    assert_eq!(status, 200);
    assert_eq!(tunnel.rest().await, b"");
    assert_eq!(cancel("control").await.0, 200);
    let records = stage.sandbox.records(2).await;
    let of = |kind: &str| records.iter().find(|record| record["kind"] == kind).unwrap();
    assert_eq!((&of("tunnel")["outcome"], &of("tunnel")["id"]), (&"cancelled".into(), &id.into()));
    assert_eq!(of("control")["outcome"], "cancelled");
}
